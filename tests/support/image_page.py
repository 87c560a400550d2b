"""docs/images.md, made of the kinds that the tests go through: `python -m tests.support.image_page` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.support.image_kinds import KINDS
from tests.support.tiffs import PICTURES, Tiff

PAGE = Path(__file__).resolve().parents[2] / "docs" / "images.md"

HEAD = """\
# Which images are taken

Made by `python -m tests.support.image_page` from what the tests go through; a test fails when it is out of date. What
is taken has the pixels that the decoder in the last column reads, to one level of 255 (two with alpha, CMYK or JPEG,
four of L\\*a\\*b\\*). Another kind is refused with 400, and the reason names it.

- Of 16 bits and more the upper eight count. What is transparent becomes white. A picture is turned as EXIF says, or XMP
  where EXIF says nothing.
- Where all rows can be decoded there is an answer, however the file ends: a JPEG without its end marker (of a large one
  the last block may be incomplete), a PNG without IEND, a lossy WebP a byte short. Otherwise it is refused as truncated
  (`tests/handler/image/test_ends.py`).
- Texts, profiles and other chunks that pixels do not need are not read, and may be wrong
  (`tests/handler/image/test_png_chunks.py`).
"""

TIFF = """
## TIFF

For each kind of colours, with the samples in one plane or a plane each, in strips or tiles, in either order of bytes,
as TIFF or BigTIFF; uncompressed, or with LZW, deflate or PackBits, and a predictor where they have one; of 8 bits with
JPEG too. A pixel of more than four bytes or channels counts as more than one. Compared with tifffile and imagecodecs
(`tests/handler/image/test_tiff_pixels.py`).

Integers that are signed, or have more than 16 bits, go from 0 to the largest of their type, as torchvision's `to_dtype`
and scikit-image have it: those below zero, or with no pixel above half of that, are refused, as nobody knows their
range. Floating-point numbers go from 0 to 1.

| colours | further channels | taken | refused |
|---|---|---|---|
"""

COLOURS = {
    "minisblack": "grey",
    "miniswhite": "grey, white is zero",
    "rgb": "RGB",
    "palette": "palette",
    "separated": "CMYK",
    "cielab": "CIE L\\*a\\*b\\*",
}
EXTRA = {
    "unassalpha": "alpha",
    "assocalpha": "associated alpha",
    "unspecified": "unspecified",
}


def page() -> str:
    """The whole page, as it is to be in docs/."""
    taken, refused = [kind for kind in KINDS if not kind.refused], [kind for kind in KINDS if kind.refused]
    own = ("JPEG", "PNG", "WebP", "GIF", "BMP")
    parts = [HEAD, "\n## JPEG, PNG, WebP, GIF and BMP\n\n| format | kind | compared with |\n|---|---|---|\n"]
    parts += (f"| {kind.image_format} | {kind.name} | {kind.decoder} |\n" for kind in taken)
    parts += ["\nRefused:\n\n| format | kind | what the answer says |\n|---|---|---|\n"]
    of_own = [kind for kind in refused if kind.image_format in own]
    parts += (f"| {kind.image_format} | {kind.name} | {kind.refused} |\n" for kind in of_own)
    parts += [TIFF, *_tiffs()]
    parts += ["\n## Other formats\n\n| format | what the answer says |\n|---|---|\n"]
    parts += (f"| {kind.image_format} | {kind.refused} |\n" for kind in refused if kind.image_format not in own)
    return "".join(parts)


def _tiffs() -> Iterable[str]:
    groups: dict[tuple[str, tuple[str, ...]], list[Tiff]] = {}
    for picture in PICTURES:
        groups.setdefault((picture.colours, picture.extra), []).append(picture)
    for (colours, extra), pictures in groups.items():
        further = ", ".join(EXTRA[name] for name in dict.fromkeys(extra))
        further += f" ({len(extra)})" if len(extra) > 1 else ""
        reasons: dict[str, list[Tiff]] = {}
        for picture in pictures:
            if picture.refused:
                reasons.setdefault(picture.refused, []).append(picture)
        refused = "; ".join(f"{_samples(of)}: “{reason}”" for reason, of in reasons.items())
        taken = _samples(picture for picture in pictures if not picture.refused)
        yield f"| {COLOURS[colours]} | {further} | {taken} | {refused} |\n"


def _samples(pictures: Iterable[Tiff]) -> str:
    """`unsigned 1–16, 32; float 32`"""
    bits: dict[str, set[int]] = {}
    for picture in pictures:
        sample = np.dtype(picture.sample)
        name = {"b": "unsigned", "u": "unsigned", "i": "signed", "f": "floating-point", "c": "complex"}[sample.kind]
        bits.setdefault(name, set()).add(picture.bits or (1 if sample.kind == "b" else 8 * sample.itemsize))
    return "; ".join(f"{name} {_ranges(sorted(of))}" for name, of in bits.items())


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
