"""A JPEG without its end marker, or one that ends flat: whether any of its pixels are missing.

libjpeg supplies everything that is missing: one colour for all of it. It does not say so to Pillow. So a file that may
break off is decoded once more with noise behind it. Where all pixels are there, nothing reads that far: both are alike.
"""

from __future__ import annotations

import hashlib
import random
import re

from PIL import Image

from vision.image.guards.jpeg import HUFFMAN_FRAMES, MARKER_IN_SCAN, PROGRESSIVE, START_OF_SCAN, WITH_LENGTH

END = b"\xff\xd9"
# Without FF, which begins markers; then behind each restart marker, one of which a decoder may be waiting for.
_noise = [bytes(random.Random(seed).choices(range(255), k=2048)) for seed in range(9)]  # noqa: S311  # nosec B311
NOISE = _noise[0] + b"".join(bytes([0xFF, 0xD0 + number]) + part for number, part in enumerate(_noise[1:]))
BLOCK = 8  # rows of pixels that a JPEG holds together
LAST = 18  # pixels of the side of the last block of all channels, and what smoothing adds
LARGE = 100 * LAST * LAST  # pixels: of so many the last block is a hundredth
FILLING = 64  # bytes
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
ROWS = 256  # of an image that are looked at together


def ended(jpeg: bytes) -> bytes:
    """The file with an end."""
    return _without_half_a_marker(jpeg) + END


def ended_with_noise(jpeg: bytes, image: Image.Image, lacks_end: bool) -> bytes:
    """The file with an end, and noise before it, in place of what fills it up. image: what was decoded."""
    if _is_filled_up(jpeg, image, lacks_end):
        jpeg = jpeg.rstrip(jpeg[-1:])
    return _without_half_a_marker(jpeg) + NOISE + END


def _without_half_a_marker(jpeg: bytes) -> bytes:
    return jpeg.rstrip(b"\xff")


def may_lack_pixels(jpeg: bytes, image: Image.Image, lacks_end: bool) -> bool:
    """Whether it has to be decoded once more. Few photographs end as one that breaks off and has an end put behind."""
    return lacks_end or _ends_flat(image) or _is_filled_up(jpeg, image, lacks_end)


def _is_filled_up(jpeg: bytes, image: Image.Image, lacks_end: bool) -> bool:
    """Whether one byte again and again is its end: what a download had not got to, or what a disk had there before.

    A decoder takes that for pixels, and never comes to what is put behind it. Of a flat picture they may be pixels.
    """
    if len(jpeg) <= FILLING or jpeg.count(jpeg[-1:], -FILLING) < FILLING:
        return False
    return not _ends_flat(image) or (lacks_end and RESTART.search(jpeg) is not None)


def _ends_flat(image: Image.Image) -> bool:
    """Whether the last of its pixels are of one colour, as those are that libjpeg supplies."""
    end = image.crop((image.width * 3 // 4, max(0, image.height - BLOCK), image.width, image.height))
    return end.getcolors(1) is not None


def digest(image: Image.Image) -> bytes:
    """Of all pixels, without a second copy of them in memory. Of a large picture the last block may be incomplete."""
    found = hashlib.blake2b()
    is_large = image.width * image.height >= LARGE
    for start in range(0, image.height, ROWS):
        strip = image.crop((0, start, image.width, min(start + ROWS, image.height)))
        top = max(0, image.height - LAST - start)
        if is_large and top < strip.height:
            strip.paste(0, (max(0, image.width - LAST), top, image.width, strip.height))
        found.update(strip.tobytes())
    return found.digest()


def has_all_scans(jpeg: bytes) -> bool:
    """Whether each coefficient of each channel comes in a scan, to its last bit: a progressive JPEG has ten of them.

    The fields are those of https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.2 and B.2.3.
    """
    channels = b""
    missing: set[tuple[int, int]] = set()
    position, progressive = 2, False
    while found := MARKER_IN_SCAN.search(jpeg, position):
        marker, start = found[1][0], found.end()
        length = int.from_bytes(jpeg[start : start + 2], "big")
        segment = jpeg[start + 2 : start + length]
        if marker in HUFFMAN_FRAMES and len(segment) > 5:
            progressive = marker == PROGRESSIVE
            channels = segment[6 : 6 + 3 * segment[5] : 3]
            missing = {(channel, number) for channel in channels for number in range(64)}
        if marker == START_OF_SCAN and len(segment) >= 4 and len(segment) == 4 + 2 * segment[0]:
            first, last, bit = (segment[-3], segment[-2], segment[-1] & 15) if progressive else (0, 63, 0)
            if bit == 0:
                missing -= {(channel, n) for channel in segment[1:-3:2] for n in range(first, last + 1)}
        position = start + length if marker in WITH_LENGTH else start
    return bool(channels) and not missing
