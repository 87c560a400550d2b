"""Small files that ask for much. Run as a program, it decodes one in bounded memory: `bombs.py NAME`."""

from __future__ import annotations

import resource
import struct
import sys
import zlib
from collections.abc import Callable

from corpus import chunk
from pictures import encoded, gradient
from PIL import Image

MIB = 1 << 20
MEMORY = 600 * MIB  # of address space, beyond the start: an ordinary image of 50 megapixels takes up to 350
CPU_S = 10  # then the process is killed: undefended, some of them take minutes

Tag = tuple[int, int, int, int]


def directory(tags: list[Tag], content: bytes = b"") -> bytes:
    """A TIFF with one directory of (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content


def shared(count: int, size: int) -> bytes:
    """A TIFF, or EXIF, with so many tags that each point at nearly the whole of it."""
    return directory([(1 + number, 7, size - 16, 16) for number in range(count)]).ljust(size, b"\0")


def shared_big(count: int, size: int) -> bytes:
    entries = b"".join(struct.pack("<HHQQ", 1 + number, 7, size - 16, 16) for number in range(count))
    return (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, count) + entries).ljust(size, b"\0")


def strips(count: int) -> bytes:
    start = 8 + 2 + 12 * 9 + 4
    tags = [(256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, count, start)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 1), (279, 4, count, start + 4 * count)]
    return directory(tags, struct.pack("<I", start) * count + struct.pack("<I", 1) * count)


def fax(compression: int) -> bytes:
    """300 KB; the decoder says something to stderr for each of ten million rows."""
    content = b"\xff\x00\xaa" * 100_000
    tags = [(256, 4, 1, 1), (257, 4, 1, 10_000_000), (258, 3, 1, 1), (259, 3, 1, compression), (262, 3, 1, 0)]
    tags += [(273, 4, 1, 8 + 2 + 12 * 9 + 4), (277, 3, 1, 1), (278, 4, 1, 10_000_000), (279, 4, 1, len(content))]
    return directory(tags, content)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 255, marker, len(content) + 2) + content


def in_jpeg(content: bytes) -> bytes:
    jpeg = encoded(gradient(90, 70), "JPEG")
    return jpeg[:2] + content + jpeg[2:]


def in_png(content: bytes) -> bytes:
    png = encoded(gradient(90, 70))
    return png[:33] + content + png[33:]


def repeated_scans(repeats: int, between: bytes = b"") -> bytes:
    """A baseline JPEG of 49 megapixels, three scans and as many more as asked for, of fourteen bytes each."""
    grey = encoded(Image.new("L", (7000, 7000)), "JPEG")
    frame, scan = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    colour = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 7000, 7000, 3) + components
    scans = [b"\xff\xda\0\x08\x01" + bytes([number]) + b"\0\0\x3f\0" + bytes(4) for number in (1, 2, 3)]
    head = grey[:frame] + colour + grey[frame + 2 + int.from_bytes(grey[frame + 2 : frame + 4], "big") : scan]
    return head + b"".join(scans) + (between + scans[0]) * repeats + b"\xff\xd9"


def animated_webp(width: int, height: int, frames: int) -> bytes:
    """Each frame is one pixel in the corner of a canvas."""
    pixel = encoded(Image.new("RGB", (1, 1)), "WEBP")[12:]
    frame = bytes(12) + b"\x01\0\0\0" + pixel
    canvas = b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_with_exif(exif: bytes) -> bytes:
    webp = bytearray(encoded(gradient(90, 70), "WEBP", exif=b"II*\0")[:-12])
    return (
        bytes(webp[:4] + struct.pack("<I", len(webp) - 8 + 8 + len(exif)) + webp[8:])
        + b"EXIF"
        + struct.pack("<I", len(exif))
        + exif
    )


def gif_frames(count: int) -> bytes:
    gif = encoded(gradient(90, 70).quantize(4), "GIF")
    frame = gif[13 + 3 * 4 : -1]
    return gif[:-1] + frame * count + b";"


def runs() -> bytes:
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078)
    head += struct.pack("<IiiHHIIiiII", 40, 7000, 7000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    return head + b"\xff\x02" * (5 * MIB - 1000)


def pixels_bomb() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(60 * MIB))) + chunk(b"IEND", b"")


def exif_in_parts() -> bytes:
    exif = shared(65_535, 9 * MIB)
    parts = (exif[start : start + 65_000] for start in range(0, len(exif), 65_000))
    return in_jpeg(b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts))


def text_exif() -> bytes:
    """As ImageMagick writes it, in hexadecimal digits."""
    text = b"\nexif\n  1000\n" + shared(30_000, 400_000).hex().encode()
    return in_png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))


BOMBS: dict[str, Callable[[], bytes]] = {
    "png exif": lambda: in_png(chunk(b"eXIf", shared(65_535, 9 * MIB))),
    "png text exif": text_exif,
    "webp exif": lambda: webp_with_exif(shared(65_535, 9 * MIB)),
    "jpeg exif": lambda: in_jpeg(segment(0xE1, b"Exif\0\0" + shared(5000, 65_000))),
    "jpeg exif in parts": exif_in_parts,
    "jpeg multi-picture": lambda: in_jpeg(segment(0xE2, b"MPF\0" + shared(5000, 65_000))),
    "jpeg segments": lambda: in_jpeg(segment(0xFE, b"") * 2_500_000),
    "jpeg scans": lambda: repeated_scans(46),
    "png chunks": lambda: in_png(chunk(b"abCd", b"") * 800_000),
    "png texts": lambda: in_png(chunk(b"tEXt", b"k\0v") * 600_000),
    "png profiles": lambda: in_png(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(MIB - 1))) * 6000),
    "png text bomb": lambda: in_png(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(60 * MIB))) * 100),
    "png pixels bomb": pixels_bomb,
    "tiff tags": lambda: shared(65_535, 9 * MIB),
    "bigtiff tags": lambda: shared_big(65_535, 9 * MIB),
    "tiff strips": lambda: strips(1_200_000),
    "tiff fax": lambda: fax(3),
    "tiff fax 4": lambda: fax(4),
    "tiff loop": lambda: b"II*\0" + struct.pack("<IHI", 8, 0, 8),
    "webp canvas": lambda: animated_webp(60_000, 60_000, 2),
    "webp frames": lambda: animated_webp(1, 1, 120_000),
    "gif frames": lambda: gif_frames(10_000),
    "bmp runs": runs,
}


def main(name: str) -> None:
    import image_decoder
    from errors import RequestError

    image = BOMBS[name]()
    image_decoder.decode(image_decoder.open_image(encoded(gradient(), "JPEG"), "body", 1_000_000))  # imports the rest
    with open("/proc/self/statm") as memory:
        size = int(memory.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_S, int(used) + CPU_S))
    try:
        image_decoder.decode(image_decoder.open_image(image, "body", 50_000_000))
        print("pixels")
    except RequestError as refusal:
        print(refusal.status, refusal)


if __name__ == "__main__":
    main(sys.argv[1])
