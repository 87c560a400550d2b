"""Kinds of images except TIFF, each with a file and the pixels that another decoder reads; and refused kinds."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from reliability.corpus import chunk
from reliability.pictures import encoded, gradient

WIDTH, HEIGHT = 91, 70
ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)  # y, x, steps

Decoder = Callable[[bytes], np.ndarray]


@dataclass(frozen=True)
class ImageKind:
    """file: one of the kind. decoded: by whom, for the page; by what, for the test: uint8, or uint16 of 16 bits.

    refused: what the refusal says after the place; empty where it is taken.
    """

    image_format: str
    name: str
    file: Callable[[], bytes]
    decoder: str = ""
    decoded: Decoder = imagecodecs.png_decode
    refused: str = ""
    tolerance: int = 1

    def __str__(self) -> str:
        return f"{self.image_format}, {self.name}" if self.name else self.image_format

    def expected(self) -> np.ndarray:
        """RGB on white, uint8 (rows, columns, 3)."""
        return on_white(self.decoded(self.file()))


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Grey or RGB, with or without alpha → RGB: the upper eight of 16 bits."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    colours, alpha = pixels, np.full((1, 1, 1), 255.0)
    if pixels.shape[2] in (2, 4):
        colours, alpha = pixels[..., :-1], pixels[..., -1:].astype(np.float64)
    shown = np.rint((colours * alpha + 255 * (255 - alpha)) / 255)
    return np.broadcast_to(shown, (*shown.shape[:2], 3)).astype(np.uint8)


# ---- PNG -------------------------------------------------------------------------------------------------------------

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
PNG_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
PNG_NAMES = {GREY: "grey", RGB: "RGB", PALETTE: "palette", GREY_ALPHA: "grey with alpha", RGBA: "RGB with alpha"}
PNG_BITS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}


def png(colour: int, bits: int, interlaced: bool = False, transparent: bool = False, before: bytes = b"") -> bytes:
    """before: chunks before the pixels."""
    samples = _png_samples(colour, bits)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + before
    chance = np.random.default_rng(bits)
    if colour == PALETTE:
        chunks += chunk(b"PLTE", chance.integers(0, 256, 3 << bits, dtype=np.uint8).tobytes())
    if transparent:
        levels = chance.integers(0, 256, 1 << min(bits, 8), dtype=np.uint8)
        of_corner = samples[0, 0].astype(">u2").tobytes()
        chunks += chunk(b"tRNS", levels.tobytes() if colour == PALETTE else of_corner)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = (row for y, x, down, across in passes for row in samples[y::down, x::across] if row.size)
    lines = b"".join(b"\0" + _packed(row, bits) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def _plain_png(colour: int, bits: int, transparent: bool, _: bytes) -> np.ndarray:
    """The same picture without interlacing, which libpng reads in a different way."""
    return np.asarray(imagecodecs.png_decode(png(colour, bits, False, transparent)))


def _png_samples(colour: int, bits: int) -> np.ndarray:
    """(rows, columns, channels): a quarter of it is of one colour, which may be the transparent one. With 16 bits, the
    quarter below it is of one that differs in the lower eight alone.
    """
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0 : PNG_CHANNELS[colour]]
    most = WIDTH * 3 + HEIGHT * 5 * PNG_CHANNELS[colour]
    values: np.ndarray = (x * 3 + y * 5 * (c + 1)) * ((1 << bits) - 1) // most
    values[: HEIGHT // 2, : WIDTH // 2] = corner = values[HEIGHT // 3, WIDTH // 3].copy()
    if bits == 16:
        values[HEIGHT // 2 :, : WIDTH // 2] = corner ^ 1
    return values.astype(np.uint16)


def _packed(row: np.ndarray, bits: int) -> bytes:
    samples = row.reshape(-1)
    if bits == 16:
        return bytes(samples.astype(">u2").tobytes())
    digits = np.unpackbits(samples.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return bytes(np.packbits(digits.reshape(-1)).tobytes())


def _pngs() -> Iterator[ImageKind]:
    make = partial(ImageKind, "PNG", decoder="libpng (imagecodecs)")
    for colour, name in PNG_NAMES.items():
        for bits, interlaced, transparent in itertools.product(PNG_BITS[colour], (False, True), (False, True)):
            if transparent and colour in (GREY_ALPHA, RGBA):
                continue
            extra = ", a transparent colour" if transparent else ""
            extra += ", interlaced" if interlaced else ""
            yield make(
                f"{name}, {bits} bit{'s' * (bits > 1)}{extra}",
                partial(png, colour, bits, interlaced, transparent),
                decoded=partial(_plain_png, colour, bits, transparent),
            )
    rgb, blue = gradient(WIDTH, HEIGHT), Image.new("RGB", (WIDTH, HEIGHT), "blue")
    animated = partial(encoded, rgb, "PNG", save_all=True, append_images=[blue], duration=5)
    yield make("animated (APNG): its first picture", animated)
    yield make("of an iOS app (CgBI)", partial(png, RGBA, 8, before=chunk(b"CgBI", b"P\0 \2")), refused=CGBI)


CGBI = "Apple's CgBI PNG (from an iOS app) is not supported: convert it to an ordinary PNG"

# ---- JPEG ------------------------------------------------------------------------------------------------------------


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    return encoded(gradient(WIDTH, HEIGHT).convert(mode), "JPEG", quality=95, **options)


def with_frame(marker: int) -> bytes:
    """Only the frame's marker is changed, not its content."""
    return jpeg().replace(b"\xff\xc0", bytes([0xFF, marker]))


def _cmyk(file: bytes) -> np.ndarray:
    """Adobe's CMYK, which is stored inverted."""
    samples = imagecodecs.jpeg8_decode(file, outcolorspace="CMYK").astype(np.float64)
    return np.rint(samples[..., :3] * samples[..., 3:] / 255).astype(np.uint8)


def _jpegs() -> Iterator[ImageKind]:
    make = partial(ImageKind, "JPEG", decoder="libjpeg-turbo (imagecodecs)", decoded=imagecodecs.jpeg8_decode)
    yield make("grey", partial(jpeg, "L"))
    for name, subsampling in {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}.items():
        yield make(f"YCbCr {name}", partial(jpeg, subsampling=subsampling))
        yield make(f"YCbCr {name}, progressive", partial(jpeg, subsampling=subsampling, progressive=True))
    yield make("RGB", partial(jpeg, keep_rgb=True))
    yield make("with restart markers", partial(jpeg, restart_marker_blocks=3))
    yield make("CMYK", partial(jpeg, "CMYK"), decoded=_cmyk)
    yield make("without its end", lambda: jpeg()[:-2])
    yield make("with rows missing", lambda: jpeg()[:-300], refused="the JPEG image is truncated or damaged")
    save = "is not supported: save it as a baseline or progressive JPEG"
    grey = np.asarray(gradient(WIDTH, HEIGHT).convert("L"))
    yield make("lossless", lambda: bytes(imagecodecs.ljpeg_encode(grey)), refused=f"a lossless JPEG {save}")
    twelve = partial(imagecodecs.jpeg8_encode, grey.astype(np.uint16) * 16, bitspersample=12)
    yield make("12 bits", lambda: bytes(twelve()), refused=f"a JPEG that does not have 8 bits per channel {save}")
    yield make("arithmetic-coded", partial(with_frame, 0xC9), refused=f"an arithmetic-coded JPEG {save}")
    yield make("hierarchical", partial(with_frame, 0xC5), refused=f"a hierarchical JPEG {save}")
    yield make("JPEG-LS", lambda: bytes(imagecodecs.jpegls_encode(grey)), refused=f"JPEG-LS {save}")


# ---- WebP, GIF, BMP --------------------------------------------------------------------------------------------------


def rgba() -> Image.Image:
    picture = gradient(WIDTH, HEIGHT)
    picture.putalpha(gradient(WIDTH, HEIGHT).convert("L"))
    return picture


def small_first_frame() -> bytes:
    """A picture of 60×40 at (20, 10) on the screen, without a transparent colour."""
    gif = bytearray(encoded(gradient(60, 40).quantize(16), "GIF"))
    gif[6:10] = struct.pack("<HH", WIDTH, HEIGHT)
    at = gif.index(b",", 13 + 3 * 16)
    gif[at + 1 : at + 5] = struct.pack("<HH", 20, 10)
    return bytes(gif)


def _on_screen(file: bytes) -> np.ndarray:
    picture = imagecodecs.gif_decode(encoded(gradient(60, 40).quantize(16), "GIF"))[..., :3]
    screen = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    screen[10:50, 20:80] = picture
    return screen


def _first(decode: Decoder, file: bytes) -> np.ndarray:
    pixels = decode(file)
    return pixels[0] if pixels.ndim == 4 else pixels


def _others() -> Iterator[ImageKind]:
    rgb, blue = gradient(WIDTH, HEIGHT), Image.new("RGB", (WIDTH, HEIGHT), "blue")
    webp = partial(ImageKind, "WebP", decoder="libwebp (imagecodecs)", decoded=imagecodecs.webp_decode)
    yield webp("lossy", partial(encoded, rgb, "WEBP"))
    yield webp("lossless", partial(encoded, rgb, "WEBP", lossless=True))
    yield webp("lossy, with alpha", partial(encoded, rgba(), "WEBP"))
    yield webp("lossless, with alpha", partial(encoded, rgba(), "WEBP", lossless=True))
    yield webp("animated: its first picture", partial(encoded, rgb, "WEBP", save_all=True, append_images=[blue]))

    gif = partial(ImageKind, "GIF", decoder="giflib (imagecodecs)", decoded=partial(_first, imagecodecs.gif_decode))
    for colours in (2, 16, 256):
        yield gif(f"{colours} colours", partial(encoded, rgb.quantize(colours), "GIF"))
    yield gif("interlaced", partial(encoded, rgb.quantize(16), "GIF", interlace=1))
    yield gif("a transparent colour", partial(encoded, rgb.quantize(16), "GIF", transparency=3))
    yield gif("animated: its first picture", partial(encoded, rgb, "GIF", save_all=True, append_images=[blue]))
    yield gif("a first picture smaller than the screen, on white", small_first_frame, decoded=_on_screen)

    bmp = partial(ImageKind, "BMP", decoder="imagecodecs", decoded=lambda file: imagecodecs.bmp_decode(file)[..., :3])
    yield bmp("1 bit", partial(encoded, rgb.convert("1"), "BMP"))
    yield bmp("8 bits", partial(encoded, rgb.quantize(200), "BMP"))
    yield bmp("24 bits", partial(encoded, rgb, "BMP"))
    run_lengths = "a run-length encoded BMP is not supported"
    yield bmp("run lengths", lambda: _seed("bmp rle8"), refused=run_lengths)


def _seed(name: str) -> bytes:
    from reliability.corpus import seeds

    return seeds()[name]


# ---- Other formats ---------------------------------------------------------------------------------------------------


def _unknown() -> Iterator[ImageKind]:
    rgb = gradient(WIDTH, HEIGHT)
    pixels = np.asarray(rgb)
    jpeg_of = "is not supported: convert it to JPEG"
    develop, frame = "is not supported: export it as a JPEG", "is not supported: send one of its frames as a JPEG"
    page, draw = "is not supported: send a page of it as a PNG or JPEG", "is not supported: render it as a PNG"
    unpack, icon = "is not supported: send the image inside it", "is not supported: convert it to PNG"

    def brands(major: bytes, *others: bytes) -> Callable[[], bytes]:
        names = major + bytes(4) + b"".join(others)
        return lambda: struct.pack(">I", 8 + len(names)) + b"ftyp" + names + bytes(100)

    def head(start: bytes) -> Callable[[], bytes]:
        return lambda: start.ljust(200, b"\0")

    html = "a web page (HTML) is not supported: send the image itself; this may be an error page or a login page"
    xml = "XML is not supported: send the image itself; this may be an error message"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    made: list[tuple[str, Callable[[], bytes], str]] = [
        ("HEIC", brands(b"heic", b"mif1", b"heic"), f"HEIC {jpeg_of}"),
        ("HEIC, of a burst", brands(b"msf1", b"hevc"), f"HEIC {jpeg_of}"),
        ("HEIC, as mif1", brands(b"mif1", b"mif1", b"heic"), f"HEIC {jpeg_of}"),
        ("AVIF", lambda: bytes(imagecodecs.avif_encode(pixels)), f"AVIF {jpeg_of}"),
        ("AVIF, as mif1", brands(b"mif1", b"avif", b"miaf"), f"AVIF {jpeg_of}"),
        ("HEIF", brands(b"mif1", b"mif1"), f"HEIF {jpeg_of}"),
        ("JPEG 2000", lambda: bytes(imagecodecs.jpeg2k_encode(pixels)), f"JPEG 2000 {jpeg_of}"),
        (
            "JPEG 2000, codestream",
            lambda: bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k")),
            f"JPEG 2000 {jpeg_of}",
        ),
        ("JPEG XL", lambda: bytes(imagecodecs.jpegxl_encode(pixels)), f"JPEG XL {jpeg_of}"),
        (
            "JPEG XL, container",
            lambda: bytes(imagecodecs.jpegxl_encode(pixels, usecontainer=True)),
            f"JPEG XL {jpeg_of}",
        ),
        ("JPEG XR", lambda: bytes(imagecodecs.jpegxr_encode(pixels)), f"JPEG XR {jpeg_of}"),
        ("QOI", lambda: bytes(imagecodecs.qoi_encode(pixels)), f"QOI {jpeg_of}"),
        ("Radiance HDR", lambda: bytes(imagecodecs.rgbe_encode(pixels.astype(np.float32))), f"Radiance HDR {jpeg_of}"),
        ("OpenEXR", head(b"\x76\x2f\x31\x01"), f"OpenEXR {jpeg_of}"),
        ("PSD", head(b"8BPS\0\1"), f"a Photoshop file (PSD) {jpeg_of}"),
        ("XCF", head(b"gimp xcf v011\0"), f"a GIMP file (XCF) {jpeg_of}"),
        ("DDS", partial(encoded, rgb, "DDS"), f"DDS {jpeg_of}"),
        ("PNM", partial(encoded, rgb, "PPM"), f"PNM {jpeg_of}"),
        ("SGI", partial(encoded, rgb, "SGI"), f"SGI {jpeg_of}"),
        ("DICOM", head(bytes(128) + b"DICM"), f"DICOM {jpeg_of}"),
        ("FITS", head(b"SIMPLE  =                    T"), f"FITS {jpeg_of}"),
        ("ICO", partial(encoded, rgb, "ICO"), f"an icon (ICO) {icon}"),
        ("ICNS", partial(encoded, rgb, "ICNS"), f"an icon (ICNS) {icon}"),
        ("raw, CR2", head(b"II*\0\x10\0\0\0CR\2\0"), f"a camera raw file (CR2) {develop}"),
        ("raw, CR3", brands(b"crx ", b"isom"), f"a camera raw file (CR3) {develop}"),
        ("raw, RAF", head(b"FUJIFILMCCD-RAW 0201"), f"a camera raw file (RAF) {develop}"),
        ("raw, ORF", head(b"IIRO\x08\0\0\0"), f"a camera raw file (ORF) {develop}"),
        ("raw, RW2", head(b"IIU\0\x18\0\0\0"), f"a camera raw file (RW2) {develop}"),
        ("SVG", head(svg), f"SVG {draw}"),
        (
            "SVG, as XML",
            head(
                b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a > b --><!DOCTYPE svg PUBLIC "x" "y" [<!ENTITY a "b">]>\n'
                + svg
            ),
            f"SVG {draw}",
        ),
        ("SVG, UTF-16", lambda: '<?xml version="1.0"?><svg/>'.encode("utf-16"), f"SVG {draw}"),
        ("EMF", head(b"\1\0\0\0" + bytes(36) + b" EMF"), f"a Windows metafile (EMF) {draw}"),
        ("PDF", partial(encoded, rgb, "PDF"), f"PDF {page}"),
        ("PostScript", partial(encoded, rgb, "EPS"), f"PostScript {page}"),
        ("HTML", head(b"\n<!DOCTYPE html>\n<html><body>403</body></html>"), html),
        ("HTML, bare", head(b"<HTML lang=en><head>"), html),
        ("XML", head(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), xml),
        ("MP4", brands(b"isom", b"mp42"), f"a video (MP4 or MOV) {frame}"),
        ("MOV", head(b"\0\0\0\x08wide\0\0\0\0mdat"), f"a video (MP4 or MOV) {frame}"),
        ("WebM", head(b"\x1a\x45\xdf\xa3"), f"a video (Matroska or WebM) {frame}"),
        ("AVI", head(b"RIFF\0\0\0\0AVI LIST"), f"a video (AVI) {frame}"),
        ("ZIP", head(b"PK\3\4"), f"a ZIP file {unpack}"),
        ("gzip", head(b"\x1f\x8b\x08"), f"a gzip file {unpack}"),
        ("NumPy", head(b"\x93NUMPY\1\0"), "a NumPy array is not supported: save its pixels as a PNG"),
    ]
    for name, file, refused in made:
        yield ImageKind(name, "", file, refused=refused)


KINDS = (*_jpegs(), *_pngs(), *_others(), *_unknown())
