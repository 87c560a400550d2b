"""Image files for fuzzing: a seed of every kind that the decoders know, and reproducible mutants of them, by number.

As a program, it decodes mutants and stops at the first that gives neither pixels nor a RequestError:
`corpus.py FIRST COUNT`, with handler/ and the checkout on the path.
"""

from __future__ import annotations

import faulthandler
import random
import resource
import struct
import sys
import time
import zlib
from typing import Any

import numpy as np
from PIL import Image

from reliability.pictures import encoded, gradient

PIXELS = 1_000_000  # the limit for mutants: seeds are small, and files that claim more are refused
HANG_S = 60  # of wall time: nothing takes nearly this long, unless it never ends
CPU_S = 2.0  # the limit for one image
MEMORY = 1 << 30  # additional bytes of address space: more than decoding an image of a million pixels ever needs

# ---- Seeds -----------------------------------------------------------------------------------------------------------


def seeds() -> dict[str, bytes]:
    """Name → file, each of a few thousand bytes."""
    rgb = gradient(90, 70)
    grey, blue = rgb.convert("L"), Image.new("RGB", rgb.size, "blue")
    palette, rgba = rgb.quantize(16), rgb.copy()
    rgba.putalpha(grey)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8769] = 6, "a description", {0x9003: "2020:01:01 00:00:00"}
    made = {
        "jpeg": encoded(rgb, "JPEG"),
        "jpeg progressive": encoded(rgb, "JPEG", progressive=True),
        "jpeg restarts": encoded(rgb, "JPEG", restart_marker_blocks=2),
        "jpeg grey": encoded(grey, "JPEG"),
        "jpeg cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "jpeg exif": encoded(rgb, "JPEG", exif=exif, icc_profile=bytes(200), comment=b"a comment"),
        "mpo": encoded(rgb, "MPO", save_all=True, append_images=[blue]),
        "png": encoded(rgb),
        "png texts": _with_texts(encoded(rgb, icc_profile=bytes(200), exif=exif)),
        "png grey 16": encoded(sixteen),
        "png rgb 16": _png(2, 16, np.repeat(np.asarray(rgb), 2, axis=2)),
        "png grey 2": _png(0, 2, np.zeros((70, 23), np.uint8) + 0x1B),
        "png rgba": encoded(rgba),
        "png interlaced": _interlaced(np.asarray(rgb)),
        "png transparent": encoded(palette, transparency=b"\x00\x80\xff"),
        "png grey transparent": encoded(grey, transparency=9),
        "apng": encoded(rgb, save_all=True, append_images=[blue], duration=5),
        "webp": encoded(rgb, "WEBP", quality=50),
        "webp lossless": encoded(rgba, "WEBP", lossless=True, exif=exif),
        "webp animated": encoded(rgb, "WEBP", save_all=True, append_images=[blue]),
        "gif": encoded(palette, "GIF", transparency=3, comment=b"a comment"),
        "gif animated": encoded(palette, "GIF", save_all=True, append_images=[blue], duration=5),
        "gif interlaced": encoded(palette, "GIF", interlace=1),
        "bmp 1": encoded(rgb.convert("1"), "BMP"),
        "bmp 8": encoded(palette, "BMP"),
        "bmp 24": encoded(rgb, "BMP"),
        "bmp 32": encoded(rgba, "BMP"),
        "bmp 4": _bmp(4, 0, bytes(range(48)) * 70),
        "bmp rle8": _bmp(
            8, 1, (b"\x50\x03\x00\x03\x01\x02\x03\x00\x07\x04\x00\x00") * 69 + b"\x00\x02\x01\x01\x00\x01"
        ),
        "bmp rle4": _bmp(4, 2, (b"\x50\x31\x00\x04\x12\x34\x06\x21\x00\x00") * 70 + b"\x00\x01"),
        "tiff tiles": _tiled_tiff(),
    }
    for name in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        made[f"tiff {name}"] = encoded(rgb, "TIFF", compression=name)
    made["tiff group4"] = encoded(rgb.convert("1"), "TIFF", compression="group4")
    made["tiff 16"] = encoded(sixteen, "TIFF", compression="tiff_lzw")
    made |= {f"tiff {name}": file for name, file in _tiffs_of_planes(rgb).items()}
    made["tiff palette"] = encoded(palette, "TIFF")
    made["tiff pages"] = encoded(rgb.copy(), "TIFF", save_all=True, append_images=[blue.copy()], big_tiff=True)
    for bits in (1, 2, 4):
        made[f"png palette {bits}"] = encoded(rgb.quantize(1 << bits), bits=bits)
    return made


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(colour: int, bits: int, rows: np.ndarray) -> bytes:
    """rows: bytes of a 90×70 picture, as in the file."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 90, 70, bits, colour, 0, 0, 0))
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def _interlaced(rgb: np.ndarray) -> bytes:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [rgb[y::down, x::right] for x, y, right, down in passes]
    lines = b"".join(b"\0" + row.tobytes() for part in parts for row in part if row.size)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def _with_texts(png: bytes) -> bytes:
    texts = chunk(b"tEXt", b"key\0value") + chunk(b"zTXt", b"key\0\0" + zlib.compress(b"value"))
    return png[:33] + texts + chunk(b"iTXt", b"key\0\1\0en\0key\0" + zlib.compress(b"value")) + png[33:]


def _bmp(bits: int, compression: int, content: bytes) -> bytes:
    colours = bytes(range(256)) * (4 << bits >> 8) if bits == 8 else bytes(range(4 << bits))
    start = 54 + len(colours)
    information = struct.pack("<IiiHHIIiiII", 40, 90, 70, 1, bits, compression, len(content), 0, 0, 1 << bits, 0)
    return b"BM" + struct.pack("<IHHI", start + len(content), 0, 0, start) + information + colours + content


def _tiffs_of_planes(rgb: Image.Image) -> dict[str, bytes]:
    """Kinds of samples that the handler unpacks itself: a plane for each channel, and types of every length."""
    made = {}
    levels = np.asarray(rgb)
    kinds = {"planes": (8, 1, "u1", 1), "planes 16": (16, 1, ">u2", 257), "planes float": (32, 3, ">f4", 1 / 255)}
    kinds |= {"planes signed": (32, 2, ">i4", 1 << 23), "planes 64": (64, 3, ">f8", 1 / 255)}
    for name, (bits, sample_format, sample, scale) in kinds.items():
        planes = [(levels[..., number].astype(float) * scale).astype(sample).tobytes() for number in range(3)]
        packed = [zlib.compress(plane) for plane in planes]
        tags = [(256, 3, [90]), (257, 3, [70]), (258, 3, [bits] * 3), (259, 3, [8]), (262, 3, [2])]
        tags += [(273, 4, [0, 0, 0]), (277, 3, [3]), (278, 3, [70]), (279, 4, [len(plane) for plane in packed])]
        tags += [(284, 3, [2]), (339, 3, [sample_format] * 3)]
        start = 8 + 2 + 12 * len(tags) + 4 + 6 + 12 + 12 + 6
        starts = [start, start + len(packed[0]), start + len(packed[0]) + len(packed[1])]
        entries, lists = b"", b""
        for tag, kind, values in tags:
            content = struct.pack(f">{len(values)}{'HI'[kind == 4]}", *(starts if tag == 273 else values))
            at = struct.pack(">I", 8 + 2 + 12 * len(tags) + 4 + len(lists))
            entries += struct.pack(">HHI", tag, kind, len(values)) + (
                content.ljust(4, b"\0") if len(content) <= 4 else at
            )
            lists += content if len(content) > 4 else b""
        head = b"MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4)
        made[name] = head + lists + b"".join(packed)
    return made


def _tiled_tiff() -> bytes:
    tiles = [bytes([shade]) * 4096 for shade in (10, 90, 170, 250)]
    tags = [(256, 3, 1, 90), (257, 3, 1, 70), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 3, 1, 64), (323, 3, 1, 64), (324, 4, 4, 8 + 2 + 12 * 10 + 4), (325, 4, 4, 8 + 2 + 12 * 10 + 20)]
    first = 8 + 2 + 12 * 10 + 36
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    offsets = struct.pack("<4I", *(first + 4096 * index for index in range(4)))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + offsets + struct.pack("<4I", *[4096] * 4)
    return head + b"".join(tiles)


# ---- Mutants ---------------------------------------------------------------------------------------------------------


def mutant(number: int, files: list[bytes]) -> bytes:
    """The same number and files always give the same bytes."""
    chance = random.Random(number)
    image = chance.choice(files)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        image = chance.choice(MUTATIONS)(image, chance, files)
    return _with_right_sums(image) if chance.random() < 0.8 else image


def _truncated(image: bytes, chance: random.Random, _: Any) -> bytes:
    return image[: chance.randrange(len(image) + 1)]


def _flipped(image: bytes, chance: random.Random, _: Any) -> bytes:
    changed = bytearray(image)
    for _bit in range(chance.choice((1, 2, 10, 100)) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _header_flipped(image: bytes, chance: random.Random, _: Any) -> bytes:
    return _flipped(image[:200], chance, _) + image[200:]


def _spliced(image: bytes, chance: random.Random, files: list[bytes]) -> bytes:
    other = chance.choice(files)
    return image[: chance.randrange(len(image) + 1)] + other[chance.randrange(len(other)) :]


def _reheaded(image: bytes, chance: random.Random, files: list[bytes]) -> bytes:
    length = chance.choice((4, 8, 12, 16, 33, 54))
    return chance.choice(files)[:length] + image[length:]


def _blown_up(image: bytes, chance: random.Random, _: Any) -> bytes:
    """An absurd length, offset or count at a random place, mostly in the header."""
    width = chance.choice((1, 2, 4, 4))
    value = chance.choice((b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\xff\xff\xff\x7f" * 2, b"\x80" + bytes(7), bytes(8)))
    at = chance.randrange(chance.choice((64, 300, len(image) + 1)) + 1)
    return image[:at] + value[:width] + image[at + width :]


def _repeated(image: bytes, chance: random.Random, _: Any) -> bytes:
    start = chance.randrange(len(image) + 1)
    end = min(len(image), start + chance.choice((1, 12, 100, 1000)))
    return image[:end] + image[start:end] * chance.choice((1, 3, 20)) + image[end:]


def _cut_out(image: bytes, chance: random.Random, _: Any) -> bytes:
    start = chance.randrange(len(image) + 1)
    return image[:start] + image[start + chance.choice((1, 4, 12, 100)) :]


def _noisy(image: bytes, chance: random.Random, _: Any) -> bytes:
    start = chance.randrange(len(image) + 1)
    length = chance.choice((4, 40, 400))
    return image[:start] + chance.randbytes(length) + image[start + length :]


MUTATIONS = (_truncated, _flipped, _header_flipped, _spliced, _reheaded, _blown_up, _blown_up, _repeated, _cut_out,
             _noisy)  # fmt: skip


def _with_right_sums(image: bytes) -> bytes:
    """Corrects the checksums of a PNG's chunks: with wrong ones, the decoder looks no further."""
    if not image.startswith(b"\x89PNG\r\n\x1a\n"):
        return image
    mended, position = [image[:8]], 8
    while position + 12 <= len(image):
        (length,) = struct.unpack_from(">I", image, position)
        if position + 12 + length > len(image):
            break
        mended.append(chunk(image[position + 4 : position + 8], image[position + 8 : position + 8 + length]))
        position += 12 + length
    return b"".join(mended) + image[position:]


# ---- The trial -------------------------------------------------------------------------------------------------------


def trial(image: bytes) -> str:
    """Decodes → `pixels`, or the refusal's status. Raises any other error, and AssertionError above the limits."""
    from reliability.decoding import decode  # here, so that making pictures needs no handler
    from vision.errors import RequestError

    started = time.process_time()
    try:
        pixels = decode(image, PIXELS)
        assert pixels.shape == (224, 224, 3)
        assert pixels.dtype == np.uint8
        outcome = "pixels"
    except RequestError as refusal:
        assert refusal.status in (400, 413)
        outcome = str(refusal.status)
    assert time.process_time() - started < CPU_S, f"{time.process_time() - started:.1f} s"
    return outcome


def main(first: int, count: int) -> None:
    files = list(seeds().values())
    outcomes: dict[str, int] = {}
    trial(files[0])  # triggers late imports before memory is limited
    with open("/proc/self/statm") as memory:
        size = int(memory.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    for number in range(first, first + count):
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            outcome = trial(mutant(number, files))
        except BaseException:
            print(f"mutant {number}", flush=True)
            raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(outcomes)


if __name__ == "__main__":
    faulthandler.enable()
    main(int(sys.argv[1]), int(sys.argv[2]))
