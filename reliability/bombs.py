"""Small files that are expensive to decode. As a program, it decodes one in bounded memory: `bombs.py NAME`."""

from __future__ import annotations

import resource
import struct
import sys
import zlib
from collections.abc import Callable

from PIL import Image

from reliability.corpus import chunk
from reliability.pictures import encoded, gradient

MIB = 1 << 20
EXIF = b"Exif\0\0"
MEMORY = 600 * MIB  # of additional address space: an ordinary JPEG or PNG of 50 megapixels takes up to 350
CPU_S = 10  # then the process is killed: without defences, some of them take minutes

Tag = tuple[int, int, int, int]


def directory(tags: list[Tag], content: bytes = b"") -> bytes:
    """A TIFF with one directory of (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content


def shared(count: int, size: int) -> bytes:
    """A TIFF, or EXIF, with `count` tags that each point at nearly the whole file."""
    return directory([(1 + number, 7, size - 16, 16) for number in range(count)]).ljust(size, b"\0")


def shared_big(count: int, size: int) -> bytes:
    entries = b"".join(struct.pack("<HHQQ", 1 + number, 7, size - 16, 16) for number in range(count))
    return (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, count) + entries).ljust(size, b"\0")


def strips(count: int) -> bytes:
    start = 8 + 2 + 12 * 9 + 4
    tags = [(256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, count, start)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 1), (279, 4, count, start + 4 * count)]
    return directory(tags, struct.pack("<I", start) * count + struct.pack("<I", 1) * count)


def tiff_of_lists(tags: list[Tag], lists: dict[int, bytes], content: bytes) -> bytes:
    """A TIFF with these tags, the values of tags with lists, and the content."""
    start = 8 + 2 + 12 * len(tags) + 4
    values, placed = b"", {}
    for tag, of_tag in lists.items():
        placed[tag] = start + len(values)
        values += of_tag
    tags = [(tag, kind, count, placed.get(tag, value)) for tag, kind, count, value in tags]
    return directory(tags, values + content)


def reversed_bits(strips: int = 200_000, size: int = MIB) -> bytes:
    """Each strip claims to be as long as the content, whose bits are reversed for each."""
    tags = [(256, 4, 1, 200), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (266, 3, 1, 2)]
    tags += [(273, 4, strips, 0), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, strips, 0)]
    content = 8 + 2 + 12 * len(tags) + 4 + 8 * strips
    row = bytes(int(f"{byte:08b}"[::-1], 2) for byte in zlib.compress(bytes(200)))
    lists = {273: struct.pack("<I", content) * strips, 279: struct.pack("<I", size) * strips}
    return tiff_of_lists(tags, lists, row.ljust(size, b"\0"))


def one_row(width: int, channels: int = 1, rows: int = 1) -> bytes:
    """A row of bits, each of which is unpacked to many bytes."""
    packed = zlib.compress(bytes((width * channels + 7) // 8 * rows), 9)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, rows),
        (258, 3, 1, 1),
        (259, 3, 1, 8),
        (262, 3, 1, 2 if channels > 1 else 1),
    ]
    tags += [(273, 4, 1, 8 + 2 + 12 * 9 + 4), (277, 3, 1, channels), (278, 4, 1, rows), (279, 4, 1, len(packed))]
    return directory(tags, packed)


def long_strips(strips: int = 200_000, size: int = 9 * MIB) -> bytes:
    """Each strip of one row claims to be as long as the file."""
    packed = zlib.compress(bytes(200))
    tags = [(256, 4, 1, 200), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    tags += [(273, 4, strips, 0), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, strips, 0)]
    content = 8 + 2 + 12 * len(tags) + 4 + 8 * strips
    lists = {273: struct.pack("<I", content) * strips, 279: struct.pack("<I", size) * strips}
    return tiff_of_lists(tags, lists, packed.ljust(size - content, b"\0"))


def tiles(width: int, length: int, count: int) -> bytes:
    """A picture one pixel wide, so each tile shows only one column."""
    packed = zlib.compress(bytes(width * length), 9)
    tags = [(256, 4, 1, 1), (257, 4, 1, count * length), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 4, 1, width), (323, 4, 1, length), (324, 4, count, 0), (325, 4, count, 0)]
    content = 8 + 2 + 12 * len(tags) + 4 + 8 * count
    lists = {324: struct.pack("<I", content) * count, 325: struct.pack("<I", len(packed)) * count}
    return tiff_of_lists(tags, lists, packed)


def shared_jpegs(count: int) -> bytes:
    """Strips that begin with the same long segments, but end in different places."""
    frame = segment(0xC0, b"\x08\0\x08\0\x40\x03\1\x11\0\2\x11\0\3\x11\0")
    jpeg = b"\xff\xd8" + segment(0xFE, bytes(65_000)) * 27 + frame + b"\xff\xda\0\x0c" + b"\xff\xd9" * count
    tags = [(256, 4, 1, 64), (257, 4, 1, 8 * count), (258, 3, 3, 0), (259, 3, 1, 7), (262, 3, 1, 6), (273, 4, count, 0)]
    tags += [(277, 3, 1, 3), (278, 4, 1, 8), (279, 4, count, 0)]
    start = 8 + 2 + 12 * len(tags) + 4 + 6 + 8 * count
    sizes = b"".join(struct.pack("<I", len(jpeg) - 2 * number) for number in range(count))
    lists = {258: struct.pack("<HHH", 8, 8, 8), 273: struct.pack("<I", start) * count, 279: sizes}
    return tiff_of_lists(tags, lists, jpeg)


def rationals(count: int = 200_000) -> bytes:
    many = (258, 262, 273, 278, 279, 284, 317, 320, 338, 339, 530, 532)
    tags = [(256, 4, 1, 1), (257, 4, 1, 1), (259, 3, 1, 1), (277, 3, 1, 1), *((tag, 5, count, 0) for tag in many)]
    start = 8 + 2 + 12 * len(tags) + 4
    tags = [(tag, kind, number, start if kind == 5 else value) for tag, kind, number, value in tags]
    return directory(sorted(tags), struct.pack("<II", 8, 1) * count)


def fax(compression: int) -> bytes:
    """300 KB; the decoder writes to stderr for each of ten million rows."""
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
    """A baseline JPEG of 49 megapixels, with three scans and `repeats` more, of fourteen bytes each."""
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


def chunks_in_webp(kind: bytes, size: int, count: int, head: bytes = b"") -> bytes:
    """head: of a chunk that contains them, if any."""
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x12\0\0\0" + (89).to_bytes(3, "little") + (69).to_bytes(3, "little")
    chunks = (kind + struct.pack("<I", size) + bytes(size)) * count
    if head:
        chunks = head[:4] + struct.pack("<I", len(head) - 4 + len(chunks)) + head[4:] + chunks
    body = b"WEBP" + canvas + chunks + encoded(gradient(90, 70), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_frames(count: int) -> bytes:
    gif = encoded(gradient(90, 70).quantize(4), "GIF")
    frame = gif[13 + 3 * 4 : -1]
    return gif[:-1] + frame * count + b";"


def run_length(width: int, height: int, runs: bytes, bits: int = 8) -> bytes:
    """A BMP. `\\0\\0` ends a line, `\\0\\2` goes right and up."""
    colours = 1 << bits
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 4 * colours)
    kind = 1 if bits == 8 else 2
    return (
        head
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, kind, 0, 0, 0, colours, 0)
        + bytes(4 * colours)
        + runs
    )


def in_gif(extensions: bytes) -> bytes:
    gif = encoded(gradient(90, 70).quantize(4), "GIF")
    return gif[: 13 + 3 * 4] + extensions + gif[13 + 3 * 4 :]


def hidden_scans(count: int) -> bytes:
    """Scans inside apparent segments, which a decoder that is out of step searches for markers."""
    jpeg = repeated_scans(0)
    start = jpeg.index(b"\xff\xda")
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + bytes(4)
    restarts = b"\xff\xdd\0\4\0\1"
    hidden = b"".join(segment(0x02, scan * min(4000, count - done)) for done in range(0, count, 4000))
    return jpeg[:start] + restarts + scan + hidden + b"\xff\xd9"


def hidden_fax() -> bytes:
    """Its compression is a list, so the entry has an offset: 8, which is also deflate's number. At 8 is 3, fax."""
    content = b"\xff\x00\xaa" * 100_000
    start = 16 + 2 + 12 * 9 + 4
    tags = [(256, 4, 1, 1), (257, 4, 1, 10_000_000), (258, 3, 1, 1), (259, 3, 3, 8), (262, 3, 1, 0)]
    tags += [(273, 4, 1, start), (277, 3, 1, 1), (278, 4, 1, 10_000_000), (279, 4, 1, len(content))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IHHHHH", 16, 3, 3, 3, 0, len(tags)) + entries + bytes(4) + content


def shared_directories(count: int, first: int) -> bytes:
    """A TIFF of one pixel, with `count` more directories of shared tags. first: the tag with their offset, if any."""
    size = 9 * MIB
    tags = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 1)]
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    tags += [(first, 4, 1, start)] if first else [(700, 1, 1, 0)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0 if first else start)
    others = b"".join(
        struct.pack("<H", 100)
        + b"".join(struct.pack("<HHII", 1 + number, 7, size - 16, 16) for number in range(100))
        + struct.pack("<I", start + 1206 * (done + 1) if done + 1 < count else 0)
        for done in range(count)
    )
    return (head + others).ljust(size, b"\0")


def pixels_bomb() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(60 * MIB))) + chunk(b"IEND", b"")


def exif_in_parts() -> bytes:
    exif = shared(65_535, 9 * MIB)
    parts = (exif[start : start + 65_000] for start in range(0, len(exif), 65_000))
    return in_jpeg(b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts))


def text_exif() -> bytes:
    """EXIF in hexadecimal digits, as ImageMagick writes it."""
    text = b"\nexif\n  1000\n" + shared(30_000, 400_000).hex().encode()
    return in_png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))


BOMBS: dict[str, Callable[[], bytes]] = {
    "png exif": lambda: in_png(chunk(b"eXIf", shared(65_535, 9 * MIB))),
    "png text exif": text_exif,
    "webp exif": lambda: webp_with_exif(shared(65_535, 9 * MIB)),
    "webp alphas": lambda: chunks_in_webp(b"ALPH", 480, count=19_900),
    "webp alphas in a frame": lambda: chunks_in_webp(b"ALPH", 0, count=1_200_000, head=b"ANMF" + bytes(16)),
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
    "gif comments": lambda: in_gif(b"!\xfe\1x\0" * 2_000_000),
    "gif empty comments": lambda: in_gif(b"!\xfe\0" * 1_000_000),
    "gif one comment": lambda: in_gif(b"!\xfe" + b"\1x" * 1_000_000 + b"\0"),
    "gif a few comments": lambda: in_gif((b"!\xfe" + (b"\xff" + b"x" * 255) * 1000 + b"\0") * 10),
    "gif junk": lambda: in_gif(bytes(10 * MIB - 9000)),
    "bmp runs": lambda: run_length(7000, 7000, b"\xff\x02" * (5 * MIB - 1000)),
    "bmp ends of lines": lambda: run_length(7000, 7000, b"\1\2\0\0" * 7000),
    "bmp deltas": lambda: run_length(20_000_000, 1, b"\0\2\0\xff" * 4),
    "bmp runs of four bits": lambda: run_length(7000, 7000, (b"\xff\x12" * 27 + b"\x73\x12\0\0") * 7000, bits=4),
    "jpeg exif after the end": lambda: in_jpeg(b"\xff\xd9" + segment(0xE1, EXIF + shared(5000, 65_000))),
    "jpeg exif, begun twice": lambda: in_jpeg(segment(0xE1, EXIF * 2 + shared(5000, 65_000))),
    "png exif, begun twice": lambda: in_png(chunk(b"eXIf", EXIF * 2 + shared(65_535, 9 * MIB))),
    "png exif, begun a million times": lambda: in_png(chunk(b"eXIf", EXIF * 1_500_000)),
    "webp exif, begun twice": lambda: webp_with_exif(EXIF * 2 + shared(65_535, 9 * MIB)),
    "jpeg segments after the end": lambda: in_jpeg(b"\xff\xd9" + segment(0xFE, b"") * 2_500_000),
    "jpeg hidden segments": lambda: in_jpeg((b"\xff\xf0\xff\xff" + segment(0xFE, b"") * 16_383 + b"\0") * 150),
    "jpeg padding": lambda: in_jpeg(b"\xff" * (10 * MIB - 9000)),
    "jpeg padding without an end": lambda: b"\xff\xd8" + b"\xff" * (10 * MIB - 9000),
    "jpeg padding in a scan": lambda: repeated_scans(0)[:-2] + b"\xff" * (9 * MIB),
    "jpeg junk": lambda: in_jpeg(segment(0xFE, b"") + bytes(10 * MIB - 9000)),
    "jpeg restarts": lambda: in_jpeg(b"\xff\xd0" * (5 * MIB - 9000)),
    "jpeg hidden scans": lambda: hidden_scans(400),
    "jpeg markers in a scan": lambda: repeated_scans(0)[:-2] + b"\xff\x01" * 4_000_000,
    "tiff of another byte order": lambda: b"MM\0+" + shared(200, 9 * MIB)[4:],
    "tiff hidden fax": hidden_fax,
    "tiff exif": lambda: shared_directories(1, first=34665),
    "tiff gps": lambda: shared_directories(1, first=34853),
    "tiff directories": lambda: shared_directories(200, first=0),
    "tiff reversed bits": reversed_bits,
    "tiff tiles": lambda: tiles(50_000, 1000, count=200),
    "tiff rationals": rationals,
    "tiff jpegs": lambda: shared_jpegs(19_999),
    "tiff too many jpegs": lambda: shared_jpegs(20_001),
    "tiff of one row": lambda: one_row(50_000_000),
    "tiff of many channels": lambda: one_row(100, channels=30_000, rows=60),
    "tiff long strips": lambda: long_strips(),
    "png packed exif": lambda: in_png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(60 * MIB))) * 150
    ),
    "svg comments": lambda: b"<?xml?>" + b"<!---->" * (MIB - 100),
    "jpeg without an end": lambda: repeated_scans(0)[:-2],
}


def main(name: str) -> None:
    from reliability.decoding import decode
    from vision.errors import RequestError

    image = BOMBS[name]()
    decode(encoded(gradient(), "JPEG"), 1_000_000)  # imports the rest
    with open("/proc/self/statm") as memory:
        size = int(memory.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_S, int(used) + CPU_S))
    try:
        decode(image, 50_000_000)
        print("pixels")
    except RequestError as refusal:
        print(refusal.status, refusal)


if __name__ == "__main__":
    main(sys.argv[1])
