"""TIFF → an 8-bit image, whatever its samples are.

Pillow knows some kinds of samples and mistakes others for them: it returns wrong pixels for 16-bit planes, for 32 bits,
and for WhiteIsZero. So we use its libtiff only to decompress: each plane is presented to it as a grey picture of bytes,
and we interpret the bytes here. JPEG and YCbCr are left to libtiff, which converts them to RGB.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vision.errors import DamagedImage, TooLarge, Unsupported
from vision.image import tiff_kind
from vision.image.guards import tiff as guard
from vision.image.guards.tiff_directory import BYTE, LONG, RATIONAL, SHORT, UNDEFINED, Entry, byte_order
from vision.image.tiff_jpeg import OtherColours
from vision.image.tiff_jpeg import check as check_jpegs
from vision.image.tiff_kind import Kind

LETTERS = {tiff_kind.UNSIGNED: "u", tiff_kind.SIGNED: "i", tiff_kind.FLOAT: "f"}  # numpy's
BLOCK = 4_000_000  # samples unpacked at a time; a row may not have more
MAX_JPEGS = 20_000  # strips or tiles; 50 million pixels in 64 × 64 tiles are 12,000
BYTES = 4  # or samples per pixel, as Pillow stores RGB; a larger pixel counts as several

STRIP_OFFSETS, ROWS, STRIP_SIZES, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_SIZES = 273, 278, 279, 322, 323, 324, 325
JPEG_TABLES, XMP, YCBCR_TAGS = 347, 700, (529, 530, 531, 532)

Field = tuple[int, np.ndarray]  # in a directory: the type of the values, and the values


@dataclass(frozen=True)
class Tiles:
    """Where the bytes of the planes are. A strip is a tile as wide as the picture.

    width, length: of a tile, in pixels. row_bytes: of one row of a tile. offsets, sizes: in the file, plane by plane.
    samples_of_row: across all tiles side by side.
    """

    are_strips: bool
    width: int
    length: int
    row_bytes: int
    across: int
    down: int
    offsets: np.ndarray
    sizes: np.ndarray
    samples_of_row: int


@dataclass(frozen=True)
class TiffPicture:
    """A TIFF whose directory has been read, but none of its pixels."""

    file: bytes
    place: str
    tags: dict[int, Entry]
    kind: Kind
    tiles: Tiles

    @property
    def pixels(self) -> int:
        """How many must be decoded; tiles may be far larger than the visible part."""
        plane_bytes = self.tiles.row_bytes * self.tiles.across * self.tiles.down * self.tiles.length
        pixels = self.tiles.width * self.tiles.across * self.tiles.down * self.tiles.length
        rows = self.tiles.down * self.tiles.length * self.kind.planes
        return max(pixels, plane_bytes * self.kind.planes // BYTES, self.tiles.samples_of_row * rows // BYTES)

    @property
    def xmp(self) -> bytes:
        """Empty if there is none."""
        try:
            return self.tags[XMP].numbers(self.file).tobytes() if XMP in self.tags else b""
        except ValueError:
            return b""

    def load(self) -> Image.Image:
        """The picture as stored in the file: L, RGB, RGBA or RGBa. Raises RequestError, or whatever Pillow raises."""
        kind = self.kind
        if kind.by_libtiff:
            return _loaded(self._as_it_is())
        planes = [_loaded(self._plane(number)) for number in range(kind.planes)]
        if kind.sample_format != tiff_kind.UNSIGNED or kind.bits > 16:
            self._check_range(planes)
        palette = None
        if kind.photometric == tiff_kind.PALETTE_COLOUR:
            palette = tiff_kind.palette_of(self.file, self.tags, kind.bits)
        picture: Image.Image | None = None
        for start, samples in self._blocks(planes):
            block = _to_image(samples, kind, palette)
            picture = picture or Image.new(block.mode, (kind.width, kind.length))
            picture.paste(block, (0, start))
        assert picture is not None, "a TIFF has at least one row"
        return picture

    def _blocks(self, planes: list[Image.Image]) -> Iterator[tuple[int, np.ndarray]]:
        """Each block's first row and its samples: (rows, width, samples per pixel)."""
        step = max(1, BLOCK // (self.tiles.samples_of_row * self.kind.planes))
        for start in range(0, self.kind.length, step):
            stop = min(start + step, self.kind.length)
            rows = [np.asarray(plane.crop((0, start, plane.width, stop))) for plane in planes]
            order = byte_order(self.file)
            together = [_samples(of_plane, self.kind, self.tiles, order) for of_plane in rows]
            yield start, together[0] if len(together) == 1 else np.concatenate(together, axis=2)

    def _check_range(self, planes: list[Image.Image]) -> None:
        """Samples without a standard range must show that they use the whole range that we assume.

        The ranges are those of torchvision's `to_dtype` and scikit-image: floating-point from 0 to 1, signed integers
        from 0 to the largest.
        """
        kind = self.kind
        used = kind.colours + (kind.alpha is not None)
        extremes = [(block[..., :used].min((0, 1)), block[..., :used].max((0, 1))) for _, block in self._blocks(planes)]
        lowest = np.min([low for low, _ in extremes], axis=0)
        highest = np.max([high for _, high in extremes], axis=0)
        peak = highest[: kind.colours].max()

        def refuse(what: str) -> Unsupported:
            return Unsupported(self.place, f"a TIFF of {tiff_kind.NAMES[kind.sample_format]} {what}", tiff_kind.CONVERT)

        if kind.sample_format == tiff_kind.FLOAT:
            if not (lowest.min() > -0.5 / 255 and highest.max() < 255.5 / 255):  # also refuses NaN
                raise refuse("outside 0 to 1")
            return
        if lowest.min() < 0:
            raise refuse("below zero")
        value_bits = kind.bits - (kind.sample_format == tiff_kind.SIGNED)
        if 0 < peak < 1 << (value_bits - 1):
            raise refuse(f"with {kind.bits} bits that use less than half of their range")

    def _plane(self, number: int) -> bytes:
        """One plane as the TIFF of a grey picture, with one pixel for each byte of a row."""
        tiles, each = self.tiles, self.tiles.across * self.tiles.down
        fields = {
            tiff_kind.WIDTH: tiles.row_bytes * tiles.across,
            tiff_kind.LENGTH: self.kind.length,
            tiff_kind.BITS: 8,
            tiff_kind.COMPRESSION: self.kind.compression,
            tiff_kind.PHOTOMETRIC: tiff_kind.BLACK_IS_ZERO,
            tiff_kind.SAMPLES: 1,
            tiff_kind.PLANAR: 1,
        }
        return self._with_tiles({tag: _field(value) for tag, value in fields.items()}, tiles.row_bytes, number * each)

    def _as_it_is(self) -> bytes:
        """The TIFF with the tags that libtiff needs to convert it to RGB."""
        kind = self.kind
        fields = {
            tiff_kind.WIDTH: _field(kind.width),
            tiff_kind.LENGTH: _field(kind.length),
            tiff_kind.BITS: _field(*[8] * kind.samples),
            tiff_kind.COMPRESSION: _field(kind.compression),
            tiff_kind.PHOTOMETRIC: _field(kind.photometric),
            tiff_kind.SAMPLES: _field(kind.samples),
            tiff_kind.PLANAR: _field(1),
        }
        if kind.alpha is not None:
            fields[tiff_kind.EXTRA_SAMPLES] = _field(kind.alpha)
        elif kind.samples > kind.colours:
            fields[tiff_kind.EXTRA_SAMPLES] = _field(0)
        for tag in YCBCR_TAGS:
            if tag in self.tags:
                fields[tag] = self._copied(tag)
        return self._with_tiles(fields, self.tiles.width, 0)

    def _with_tiles(self, fields: dict[int, Field], width: int, first: int) -> bytes:
        """width: of a tile, as presented to libtiff. first: the index of the first tile presented."""
        tiles = self.tiles
        if JPEG_TABLES in self.tags:
            fields[JPEG_TABLES] = self._copied(JPEG_TABLES)
        of_plane = slice(first, first + tiles.across * tiles.down)
        if tiles.are_strips:
            fields[ROWS] = _field(tiles.length)
        else:
            fields[TILE_WIDTH], fields[TILE_LENGTH] = _field(width), _field(tiles.length)
        where, sizes = (STRIP_OFFSETS, STRIP_SIZES) if tiles.are_strips else (TILE_OFFSETS, TILE_SIZES)
        fields[where], fields[sizes] = (LONG, tiles.offsets[of_plane]), (LONG, tiles.sizes[of_plane])
        return _in_front(self.file, fields, where)

    def _copied(self, tag: int) -> Field:
        return self.tags[tag].kind, self.tags[tag].numbers(self.file)


def open_tiff(file: bytes, place: str, max_pixels: int) -> TiffPicture:
    """Reads the directory. Raises RequestError: NotAnImage, DamagedImage, Unsupported (400), TooLarge (413)."""
    tags = guard.tags(file, place)
    kind = tiff_kind.kind_of(file, tags, place)
    try:
        picture = TiffPicture(file, place, tags, kind, _tiles(file, tags, kind))
        if picture.pixels > max_pixels:
            raise TooLarge(place, max_pixels, "pixels")
        if picture.tiles.samples_of_row > BLOCK:
            raise TooLarge(place, BLOCK, "samples in a row")
        picture = replace(picture, tiles=_within(picture.tiles, file, kind))
        if kind.compression == tiff_kind.JPEG:
            _check_jpegs(picture)
        return picture
    except ValueError:  # it refers to more than the file has
        raise DamagedImage(place, "TIFF") from None
    except OtherColours:
        raise Unsupported(place, "a TIFF whose JPEGs have other colours than it declares", tiff_kind.CONVERT) from None


def _tiles(file: bytes, tags: dict[int, Entry], kind: Kind) -> Tiles:
    def numbers(*alike: int) -> np.ndarray:
        found = [tags[tag].numbers(file) for tag in alike if tag in tags]
        return found[0].astype(np.int64) if found else np.zeros(0, np.int64)

    are_strips = TILE_WIDTH not in tags
    if are_strips:
        rows = numbers(ROWS)
        width, length = kind.width, min(int(rows[0]) if rows.size else kind.length, kind.length)
        across = 1
    else:
        (width,), (length,) = numbers(TILE_WIDTH).tolist(), numbers(TILE_LENGTH).tolist()
        across = -(-kind.width // max(width, 1))
    if width < 1 or length < 1:
        raise ValueError("tiles of no size")
    down = -(-kind.length // length)
    offsets, sizes = numbers(TILE_OFFSETS, STRIP_OFFSETS), numbers(TILE_SIZES, STRIP_SIZES)
    return Tiles(
        are_strips,
        width,
        length,
        kind.row_bytes(width),
        across,
        down,
        offsets,
        sizes,
        width * across * kind.interleaved,
    )


def _within(tiles: Tiles, file: bytes, kind: Kind) -> Tiles:
    """The tiles with offsets and sizes limited to the file. Raises ValueError if pixels are missing."""
    needed = tiles.across * tiles.down * kind.planes
    offsets, sizes, row_bytes = tiles.offsets[:needed], tiles.sizes[:needed], tiles.row_bytes
    if offsets.size < needed or offsets.min() < 0 or offsets.max() >= len(file):
        raise ValueError("fewer tiles than the picture has")
    left = len(file) - offsets
    if kind.compression == tiff_kind.UNCOMPRESSED and kind.photometric != tiff_kind.YCBCR:
        rows = np.full(tiles.down, tiles.length)
        rows[-1] = kind.length - tiles.length * (tiles.down - 1)  # the visible rows of a tile
        rows = np.tile(np.repeat(rows, tiles.across), kind.planes)
        if tiles.are_strips and sizes.size == needed and kind.bits % 8:
            row_bytes = _row_bytes(kind, row_bytes, sizes, rows)
        sizes = rows * row_bytes
    elif sizes.size < needed or sizes.min() < 0:
        sizes = left
    if kind.compression in (tiff_kind.UNCOMPRESSED, tiff_kind.JPEG) and (sizes > left).any():
        raise ValueError("the file ends too early")  # libtiff would fill a truncated JPEG with grey
    return replace(tiles, row_bytes=row_bytes, offsets=offsets, sizes=np.minimum(sizes, left))


def _check_jpegs(picture: TiffPicture) -> None:
    kind, tiles = picture.kind, picture.tiles
    if tiles.offsets.size > MAX_JPEGS:
        raise TooLarge(picture.place, MAX_JPEGS, "JPEGs in a TIFF")
    rows = np.full(tiles.down, tiles.length)
    if tiles.are_strips:
        rows[-1] = kind.length - tiles.length * (tiles.down - 1)
    rows = np.tile(np.repeat(rows, tiles.across), kind.planes)
    jpegs = zip(tiles.offsets.tolist(), tiles.sizes.tolist(), rows.tolist())
    check_jpegs(picture.file, jpegs, tiles.width, kind.photometric == tiff_kind.YCBCR, by_colours=kind.interleaved > 1)


def _row_bytes(kind: Kind, row_bytes: int, sizes: np.ndarray, rows: np.ndarray) -> int:
    """For packed samples. Some programs write 12-bit samples in pairs, even at the end of a row."""
    in_pairs = kind.row_bytes(kind.width + kind.width % 2)
    for each in (row_bytes, in_pairs):
        if (sizes == rows * each).all():
            return each
    raise ValueError("rows of another length")


def _field(*values: int) -> Field:
    most = max(values)
    return (SHORT if most < 65_536 else LONG), np.array(values, np.int64)


def _in_front(file: bytes, fields: dict[int, Field], offsets: int) -> bytes:
    """The file with a new directory in front, as a little-endian classic TIFF.

    offsets: the tag whose values are offsets in the file.
    """
    layouts = {SHORT: "<u2", LONG: "<u4", UNDEFINED: "u1", BYTE: "u1", RATIONAL: "<u4"}
    contents = {tag: values.astype(layouts[kind]).tobytes() for tag, (kind, values) in fields.items()}
    start = 8 + 2 + 12 * len(fields) + 4
    size = sum(len(content) for content in contents.values() if len(content) > 4)
    size += size % 2
    kind, values = fields[offsets]
    contents[offsets] = (values + start + size).astype(layouts[kind]).tobytes()
    entries, lists = b"", b""
    for tag in sorted(fields):
        kind, content = fields[tag][0], contents[tag]
        count = fields[tag][1].size // (2 if kind == RATIONAL else 1)
        value = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack("<I", start + len(lists))
        entries += struct.pack("<HHI", tag, kind, count) + value
        lists += content if len(content) > 4 else b""
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)
    return head + lists.ljust(size, b"\0") + file


def _loaded(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file), formats=("TIFF",))
    image.load()
    return image


def _samples(rows: np.ndarray, kind: Kind, tiles: Tiles, order: str) -> np.ndarray:
    """Bytes of rows → their samples, (rows, width, interleaved samples), with the predictor undone."""
    bits, each = kind.bits, tiles.width * kind.interleaved
    rows = rows.reshape(len(rows), tiles.across, tiles.row_bytes)
    if bits in (8, 16, 32, 64):
        size = bits // 8
        if kind.predictor == 3:  # TIFF Technical Note 3: bytes grouped by significance, then their differences
            differences = rows.reshape(*rows.shape[:2], -1, kind.interleaved)
            significant = np.cumsum(differences, axis=2, dtype=np.uint8).reshape(*rows.shape[:2], size, each)
            rows, order = np.ascontiguousarray(significant.swapaxes(2, 3)).reshape(rows.shape), ">"
        values = rows.view(f"{order}u{size}").astype(f"u{size}", copy=False)
        values = values.reshape(*rows.shape[:2], tiles.width, kind.interleaved)
        if kind.predictor == 2:
            values = np.cumsum(values, axis=2, dtype=values.dtype)
        values = values.view(f"{LETTERS[kind.sample_format]}{size}")
    elif bits in (1, 2, 4):
        shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
        values = (rows[..., None] >> shifts & ((1 << bits) - 1)).reshape(*rows.shape[:2], -1)[..., :each]
    else:
        digits = np.unpackbits(rows, axis=2)[..., : each * bits].reshape(*rows.shape[:2], each, bits)
        padded = np.zeros((*digits.shape[:3], 16), np.uint8)
        padded[..., 16 - bits :] = digits
        values = np.packbits(padded, axis=3).view(">u2").astype(np.uint16)
    return values.reshape(len(rows), tiles.across * tiles.width, kind.interleaved)[:, : kind.width]


def _to_image(samples: np.ndarray, kind: Kind, palette: np.ndarray | None) -> Image.Image:
    """(rows, width, samples) → L, RGB, RGBA or, with associated alpha, RGBa."""
    if palette is not None:
        colours = palette[samples[..., 0]]
    else:
        colours = _to_bytes(samples[..., : kind.colours], kind)
    if kind.photometric == tiff_kind.WHITE_IS_ZERO:
        colours = 255 - colours
    if kind.photometric in (tiff_kind.CMYK, tiff_kind.LAB):
        mode = "CMYK" if kind.photometric == tiff_kind.CMYK else "LAB"
        colours = np.asarray(_image(mode, colours).convert("RGB"))
    if kind.alpha is None:
        return _image("L" if colours.shape[2] == 1 else "RGB", colours)
    alpha = _to_bytes(samples[..., kind.colours : kind.colours + 1], kind)
    colours = np.broadcast_to(colours, (*colours.shape[:2], 3))
    return _image("RGBa" if kind.alpha == tiff_kind.ASSOCIATED else "RGBA", np.concatenate((colours, alpha), axis=2))


def _to_bytes(samples: np.ndarray, kind: Kind) -> np.ndarray:
    """Samples, whose range has been checked → 0 to 255: the upper eight bits."""
    if kind.sample_format == tiff_kind.FLOAT:
        return np.rint(samples * np.float32(255)).astype(np.uint8)
    bits = kind.bits - (kind.sample_format == tiff_kind.SIGNED)
    if bits >= 8:
        return (samples >> (bits - 8) if bits > 8 else samples).astype(np.uint8, copy=False)
    most = (1 << bits) - 1
    return ((samples.astype(np.uint16) * 255 + most // 2) // most).astype(np.uint8)


def _image(mode: str, pixels: np.ndarray) -> Image.Image:
    size = pixels.shape[1], pixels.shape[0]
    return Image.frombytes(mode, size, np.ascontiguousarray(pixels).tobytes(), "raw", mode)
