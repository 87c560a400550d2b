"""Kinds of TIFF, written by tifffile: every kind of sample in every layout."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tifffile

WIDTH_TAG, BITS_TAG, COLOURS_TAG, CHANNELS_TAG = 256, 258, 262, 277
HEIGHT, WIDTH = 45, 37  # not multiples of a tile or a byte
LOSSLESS = (None, "lzw", "adobe_deflate", "deflate", "packbits")
PREDICTED = ("lzw", "adobe_deflate", "deflate")  # compressions that allow a predictor


@dataclass(frozen=True)
class Tiff:
    """What samples mean. sample: numpy's name of their type; bits: of each, where they are packed.

    extra: what the channels after the colours are. refused: what the refusal says; empty where it is taken.
    tolerance: levels of 255 by which it may differ.
    """

    colours: str
    sample: str
    bits: int = 0
    extra: tuple[str, ...] = ()
    peak: float = 1.0
    lowest: float = 0.0
    refused: str = ""
    tolerance: int = 1

    def __str__(self) -> str:
        extra = f" + {', '.join(self.extra)}" if self.extra else ""
        of_range = "" if (self.lowest, self.peak) == (0, 1) else f", {self.lowest:g} to {self.peak:g} of the range"
        bits = self.bits or (1 if self.sample == "bool" else 8 * np.dtype(self.sample).itemsize)
        form = {"b": "unsigned", "u": "unsigned", "i": "signed", "f": "floating-point", "c": "complex"}
        return f"{self.colours}{extra}, {bits} bits {form[np.dtype(self.sample).kind]}{of_range}"


@dataclass(frozen=True)
class Variant:
    """The layout of the samples in the file."""

    order: Literal["<", ">"]
    planes: str
    compression: str | None
    predictor: int
    layout: str
    big: bool


CHANNELS = {"minisblack": 1, "miniswhite": 1, "palette": 1, "rgb": 3, "separated": 4, "cielab": 3}


def _pictures() -> Iterator[Tiff]:
    integers = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
    floats = ("float16", "float32", "float64")
    for colours in ("minisblack", "miniswhite", "rgb"):
        for sample in (*integers, *floats):
            yield Tiff(colours, sample)
            for extra in ("unassalpha", "assocalpha"):
                refused = "associated alpha" if colours == "miniswhite" and extra == "assocalpha" else ""
                yield Tiff(colours, sample, extra=(extra,), refused=refused, tolerance=2)
    several = "several channels that are not colours"
    for sample in ("uint8", "uint16", "float32"):
        yield Tiff("rgb", sample, extra=("unspecified",))
        yield Tiff("rgb", sample, extra=("unspecified",) * 5)
        yield Tiff("rgb", sample, extra=("unassalpha", "unspecified"), tolerance=2)
        yield Tiff("minisblack", sample, extra=("unspecified",), refused=several)
        yield Tiff("minisblack", sample, extra=("unspecified",) * 3, refused=several)
    for sample in ("uint8", "uint16"):
        yield Tiff("palette", sample)
        yield Tiff("separated", sample, tolerance=2)
        yield Tiff("separated", sample, extra=("unspecified",), tolerance=2)
        yield Tiff("separated", sample, extra=("unassalpha",), tolerance=2)
    yield Tiff("cielab", "uint8", tolerance=4)  # LittleCMS uses a table
    yield Tiff("cielab", "uint16", refused="unsigned integers with 16 bits")
    yield Tiff("separated", "float32", refused="floating-point numbers with 32 bits")
    yield Tiff("minisblack", "bool")
    yield Tiff("miniswhite", "bool")
    for bits in range(2, 8):
        yield Tiff("minisblack", "uint8", bits=bits)
        yield Tiff("miniswhite", "uint8", bits=bits)
        yield Tiff("palette", "uint8", bits=bits)
    for bits in range(9, 16):
        yield Tiff("minisblack", "uint16", bits=bits)
        yield Tiff("miniswhite", "uint16", bits=bits)
        yield Tiff("rgb", "uint16", bits=bits)
    for sample in ("int8", "int16", "int32", "int64", "uint32", "uint64"):
        yield Tiff("minisblack", sample, peak=0.4, refused="less than half of their range")
    for sample in ("int8", "int16", "int32", "int64", "float32", "float64"):
        refused = "outside 0 to 1" if sample.startswith("f") else "below zero"
        yield Tiff("rgb", sample, lowest=-0.5, refused=refused)
    yield Tiff("minisblack", "float32", peak=255, refused="outside 0 to 1")
    yield Tiff("rgb", "float16", peak=2, refused="outside 0 to 1")
    yield Tiff("minisblack", "float32", peak=0.01)
    yield Tiff("minisblack", "uint16", peak=1 / 16)  # as everywhere, BitsPerSample determines white
    yield Tiff("minisblack", "complex64", refused="complex numbers")


PICTURES = tuple(_pictures())


def variants(picture: Tiff) -> Iterator[Variant]:
    """Every compression and predictor with every layout; byte order and BigTIFF alternate."""
    kind = np.dtype(picture.sample).kind
    packed = picture.bits or picture.sample == "bool"
    channels = CHANNELS[picture.colours] + len(picture.extra)
    planes = ("contig", "separate") if channels > 1 and not packed else ("contig",)
    predictor = 3 if kind == "f" else 2  # tifffile writes no others
    predicted = PREDICTED if not packed and kind != "c" else ()
    ways = [*((name, 1) for name in LOSSLESS), *((name, predictor) for name in predicted)]
    for number, (of, way, layout) in enumerate(itertools.product(planes, ways, ("strip", "strips", "tiles"))):
        if picture.bits and (way[0] or picture.colours == "palette") and layout == "tiles":
            continue  # these are written as strips of bytes
        yield Variant(">" if number % 2 else "<", of, *way, layout, big=number // 2 % 2 == 1)


def samples_of(picture: Tiff) -> np.ndarray:
    """(rows, columns, channels): a picture over the full range, in which no two neighbours are equal."""
    channels = CHANNELS[picture.colours] + len(picture.extra)
    chance = np.random.default_rng(len(str(picture)))
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    smooth: np.ndarray = (x / (WIDTH - 1) + (1 + c) * y / (HEIGHT - 1)) / (2 + c)
    values: np.ndarray = np.clip(smooth * 0.8 + chance.random(smooth.shape) * 0.2, 0, 1)
    values[0, 0], values[-1, -1] = 0, 1
    sample = np.dtype(picture.sample)
    if picture.colours == "cielab":  # warm colours, all within sRGB
        values = (np.array([100, 0, 0]) + values * [120, 20, 20]) / 255
    if picture.extra and picture.extra[0] == "assocalpha":
        colours = CHANNELS[picture.colours]
        values[..., :colours] *= values[..., colours:][..., :1]
        values[-1, -1] = 1
    values = picture.lowest + values * (picture.peak - picture.lowest)
    if sample.kind in "fc":
        return values.astype(sample)
    if sample.kind == "b":
        return np.asarray(values > 0.5)
    highest = (1 << picture.bits) - 1 if picture.bits else np.iinfo(sample).max
    scaled = np.clip(np.rint(values * float(highest)), -float(highest), float(highest))
    # The largest 64-bit number does not fit into 53 bits.
    return np.where(values >= 1, highest, np.minimum(scaled, highest * (1 - 2**-52)).astype(sample)).astype(sample)


def palette_of(picture: Tiff) -> np.ndarray:
    bits = picture.bits or 8 * np.dtype(picture.sample).itemsize
    return np.random.default_rng(bits).integers(0, 65536, (3, 1 << bits), dtype=np.uint16)


def written(picture: Tiff, variant: Variant) -> bytes:
    samples = samples_of(picture)
    if variant.planes == "separate":
        samples = np.ascontiguousarray(samples.transpose(2, 0, 1))
    elif samples.shape[2] == 1:
        samples = samples[..., 0]
    layouts: dict[str, Any] = {"strip": HEIGHT, "strips": 7}
    options: dict[str, Any] = {"photometric": picture.colours, "bigtiff": variant.big, "byteorder": variant.order}
    options |= {"rowsperstrip": layouts[variant.layout]} if variant.layout in layouts else {"tile": (16, 32)}
    if picture.colours == "palette":
        options["colormap"] = palette_of(picture)
    if samples.ndim == 3:
        options |= {"planarconfig": variant.planes, "extrasamples": picture.extra or None}
    if variant.predictor > 1:
        options["predictor"] = variant.predictor
    buffer = io.BytesIO()
    if picture.bits and (variant.compression or picture.colours == "palette"):
        return _packed(samples, picture, variant.compression, options)
    if picture.bits:
        options["bitspersample"] = picture.bits
    tifffile.imwrite(buffer, samples, compression=variant.compression, metadata=None, **options)
    return buffer.getvalue()


def _packed(samples: np.ndarray, picture: Tiff, compression: str | None, options: dict[str, Any]) -> bytes:
    """tifffile does not pack samples with a compression or a palette, so bytes are written and relabelled."""
    rows = samples.reshape(HEIGHT, -1)
    digits: np.ndarray = (rows[..., None] >> np.arange(picture.bits - 1, -1, -1)) & 1
    packed = np.packbits(digits.astype(np.uint8).reshape(HEIGHT, -1), axis=1)
    channels = samples.shape[2] if samples.ndim == 3 else 1
    tags: list[Any] = []
    if picture.colours == "palette":
        tags.append((320, 3, 3 << picture.bits, tuple(palette_of(picture).reshape(-1).tolist()), True))
    buffer = io.BytesIO()
    options |= {"photometric": "minisblack", "colormap": None, "planarconfig": None, "extrasamples": None}
    tifffile.imwrite(buffer, packed, compression=compression, metadata=None, extratags=tags, **options)
    buffer.seek(0)
    with tifffile.TiffFile(buffer, mode="r+") as tiff:
        of_page = tiff.pages[0].tags  # type: ignore[union-attr]
        of_page[WIDTH_TAG].overwrite(WIDTH)
        of_page[BITS_TAG].overwrite((picture.bits,) * channels)
        of_page[COLOURS_TAG].overwrite(int(tifffile.PHOTOMETRIC[picture.colours.upper()]))
        of_page[CHANNELS_TAG].overwrite(channels)
        return buffer.getvalue()


def expected_rgb(samples: np.ndarray, picture: Tiff, variant: Variant) -> np.ndarray:
    """What tifffile has read → int (rows, columns, 3), on white: each step according to TIFF 6.0, in floating-point."""
    if variant.planes == "separate":
        samples = samples.transpose(1, 2, 0)
    elif samples.ndim == 2:
        samples = samples[..., None]
    count = CHANNELS[picture.colours]
    if picture.colours == "palette":
        return np.asarray(palette_of(picture).T[samples[..., 0]] >> 8).astype(int)
    if picture.colours == "cielab":
        return _srgb(samples)
    sample = np.dtype(picture.sample)
    most: float = {"b": 1, "f": 1}.get(sample.kind) or (
        (1 << picture.bits) - 1 if picture.bits else np.iinfo(sample).max
    )
    values = samples.astype(np.float64) / float(most)
    colours: np.ndarray = values[..., :count]
    alpha: np.ndarray | None = None
    if picture.extra and picture.extra[0].endswith("alpha"):
        alpha = values[..., count : count + 1]
    if picture.colours == "miniswhite":
        colours = 1 - colours
    if picture.colours == "separated":
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    if alpha is not None:
        shown = colours if picture.extra[0] == "assocalpha" else colours * alpha
        colours = shown + (1 - alpha)
    levels: np.ndarray = np.rint(np.broadcast_to(colours, (*colours.shape[:2], 3)) * 255)
    return levels.astype(int)


EXPECTED = 10  # variants of each picture, at least


# The white and the matrix of D50, adapted by Bradford's method: http://www.brucelindbloom.com
WHITE = np.array([0.9642, 1.0, 0.8251])
TO_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)


def _srgb(lab: np.ndarray) -> np.ndarray:
    """CIE L*a*b* with 8 bits; a* and b* are signed."""
    lightness, red, blue = lab[..., 0] * (100 / 255), lab[..., 1].astype(np.int8), lab[..., 2].astype(np.int8)
    of_y = (lightness + 16) / 116
    ratios = np.stack([of_y + red / 500.0, of_y, of_y - blue / 200.0], axis=-1)
    xyz = np.where(ratios > 6 / 29, ratios**3, 3 * (6 / 29) ** 2 * (ratios - 4 / 29)) * WHITE
    linear = (xyz @ TO_SRGB.T).clip(0, 1)
    levels = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(levels * 255)).astype(int)
