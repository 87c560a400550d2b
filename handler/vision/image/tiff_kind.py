"""What the samples of a TIFF mean, by its tags: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf.

Kinds that the specification does not define, or that programs interpret differently, are refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vision.errors import DamagedImage, Unsupported
from vision.image.guards.tiff_directory import Entry

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR = 256, 257, 258, 259, 262, 277, 284
PREDICTOR, PALETTE, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT = 317, 320, 332, 338, 339
SUBSAMPLING = 530

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE_COLOUR, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE_COLOUR: 1, CMYK: 4, YCBCR: 3, LAB: 3}
OTHER_PHOTOMETRICS = {
    4: "a TIFF that is a mask",
    9: "a TIFF with ICC L*a*b* colours",
    10: "a TIFF with ITU L*a*b* colours",
    32803: "a camera raw file (TIFF with sensor data)",
    32844: "a TIFF with logarithmic brightness (LogL)",
    32845: "a TIFF with logarithmic colours (LogLuv)",
    34892: "a camera raw file (TIFF with sensor data)",
}

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
OTHER_FORMATS = {4: "a TIFF with undefined samples", 5: "a TIFF of complex numbers", 6: "a TIFF of complex numbers"}
DEPTHS = {UNSIGNED: (*range(1, 17), 32, 64), SIGNED: (8, 16, 32, 64), FLOAT: (16, 32, 64)}
NAMES = {UNSIGNED: "unsigned integers", SIGNED: "signed integers", FLOAT: "floating-point numbers"}

UNCOMPRESSED, JPEG, PACK_BITS = 1, 7, 32773
ASSOCIATED, UNASSOCIATED, COREL_DRAW = 1, 2, 999  # alpha: multiplied into the colours; not; not, but mislabelled

CONVERT = "convert it to RGB with 8 bits, or to PNG"


@dataclass(frozen=True)
class Kind:
    """samples: per pixel in the file. The first of them are the colours, then alpha if there is one.

    bits: of a sample, in one of three sample formats. predictor: 1, none; 2, differences; 3, those of floats.
    by_libtiff: whether libtiff combines the samples. They then have 8 bits, and are JPEG or YCbCr.
    """

    width: int
    length: int
    photometric: int
    colours: int
    samples: int
    alpha: int | None
    bits: int
    sample_format: int
    planar: bool
    compression: int
    predictor: int
    by_libtiff: bool

    @property
    def planes(self) -> int:
        """How many are read."""
        return self.colours + (self.alpha is not None) if self.planar else 1

    @property
    def interleaved(self) -> int:
        """Samples per pixel in one plane."""
        return 1 if self.planar else self.samples

    def row_bytes(self, width: int) -> int:
        """Bytes of this many pixels in one plane; every row begins on a byte boundary."""
        return -(-width * self.interleaved * self.bits // 8)


def kind_of(tiff: bytes, tags: dict[int, Entry], place: str) -> Kind:
    """Raises Unsupported, or DamagedImage if the tags contradict each other."""

    def numbers(tag: int, otherwise: int) -> list[int]:
        return [int(number) for number in tags[tag].numbers(tiff)] or [otherwise] if tag in tags else [otherwise]

    def refuse(what: str) -> Unsupported:
        return Unsupported(place, what, CONVERT)

    try:
        (width,), (length,) = numbers(WIDTH, 0), numbers(LENGTH, 0)
        compression = numbers(COMPRESSION, UNCOMPRESSED)[0]
        photometric = numbers(PHOTOMETRIC, -1)[0]
        samples, planar = numbers(SAMPLES, 1)[0], numbers(PLANAR, 1)[0]
        depths, formats = numbers(BITS, 1), numbers(SAMPLE_FORMAT, UNSIGNED)
        extra = numbers(EXTRA_SAMPLES, 0) if EXTRA_SAMPLES in tags else []
        predictor, ink_set = numbers(PREDICTOR, 1)[0], numbers(INK_SET, 1)[0]
        subsampling = numbers(SUBSAMPLING, 2) if SUBSAMPLING in tags else [2, 2]
    except ValueError:
        raise DamagedImage(place, "TIFF") from None
    if not width or not length or planar not in (1, 2) or not samples:
        raise DamagedImage(place, "TIFF")

    if photometric not in COLOURS:
        raise refuse(OTHER_PHOTOMETRICS.get(photometric, "a TIFF that does not say what its colours are"))
    depths, formats = depths[:samples], formats[:samples]
    if len(set(depths)) > 1 or len(set(formats)) > 1:
        raise refuse("a TIFF whose channels differ in type or depth")
    bits, sample_format = depths[0], formats[0]
    if sample_format in OTHER_FORMATS or sample_format not in NAMES:
        raise refuse(OTHER_FORMATS.get(sample_format, "a TIFF with undefined samples"))
    if bits not in DEPTHS[sample_format]:
        raise refuse(f"a TIFF of {NAMES[sample_format]} with {bits} bits")

    colours = COLOURS[photometric]
    more = samples - colours
    if more < 0:
        raise DamagedImage(place, "TIFF")
    alpha = extra[0] if extra and more else None
    if (photometric == RGB and more == 1 and not extra) or alpha == COREL_DRAW:
        alpha = UNASSOCIATED  # the fourth of four channels, if nothing else is stated
    if alpha not in (ASSOCIATED, UNASSOCIATED):
        if {ASSOCIATED, UNASSOCIATED}.intersection(extra[:more]):
            raise refuse("a TIFF with alpha after other extra channels")
        alpha = None
    if more and alpha is None and colours == 1 and photometric != PALETTE_COLOUR:
        raise refuse("a TIFF with several channels that are not colours")
    if alpha == ASSOCIATED and photometric not in (BLACK_IS_ZERO, RGB):
        raise refuse("a TIFF with associated alpha in colours other than RGB")

    by_libtiff = photometric == YCBCR or (compression == JPEG and samples > 1 and planar == 1)
    if photometric in (PALETTE_COLOUR, CMYK, YCBCR, LAB) or compression == JPEG:
        most = {PALETTE_COLOUR: 16, CMYK: 16}.get(photometric, 8)
        if sample_format != UNSIGNED or bits > most or (bits < 8 and photometric != PALETTE_COLOUR):
            raise refuse(f"a TIFF of {NAMES[sample_format]} with {bits} bits in this colour space or compression")
    if photometric == CMYK and ink_set != 1:
        raise refuse("a TIFF with inks other than CMYK")
    if photometric == PALETTE_COLOUR and PALETTE not in tags:
        raise DamagedImage(place, "TIFF")
    if by_libtiff and (planar == 2 or photometric not in (RGB, CMYK, YCBCR) or more > (photometric == RGB)):
        raise refuse("a JPEG or YCbCr TIFF with extra channels or separate planes")
    if photometric == YCBCR and (len(subsampling) != 2 or not {1, 2, 4}.issuperset(subsampling)):
        raise DamagedImage(place, "TIFF")
    if photometric == YCBCR and compression == UNCOMPRESSED:
        raise refuse("an uncompressed YCbCr TIFF")
    if predictor != 1 and (compression in (UNCOMPRESSED, PACK_BITS, JPEG) or photometric == YCBCR):
        raise refuse("a TIFF with a predictor that only some programs apply")
    if (
        predictor not in (1, 2, 3)
        or (predictor == 2 and bits not in (8, 16, 32, 64))
        or (predictor == 3 and sample_format != FLOAT)
    ):
        raise refuse("a TIFF with an unknown predictor")
    return Kind(
        width, length, photometric, colours, samples, alpha, bits, sample_format, planar == 2, compression, predictor,
        by_libtiff,
    )  # fmt: skip


def palette_of(tiff: bytes, tags: dict[int, Entry], bits: int) -> np.ndarray:
    """RGB of each index, uint8 of shape (2 ** bits, 3). Raises ValueError if the file has fewer colours."""
    colours = tags[PALETTE].numbers(tiff)[: 3 << bits].reshape(3, 1 << bits).T
    # Colours have 16 bits, but some programs write 8; libtiff decides the same way (checkcmap, tif_getimage.c).
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
