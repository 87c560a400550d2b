"""Whether a JPEG without its end marker, or with a flat end, lacks any pixels.

libjpeg fills in missing pixels with a single colour and does not tell Pillow. So a file that may be cut off is decoded
a second time with noise appended. If no pixels are missing, the decoder never reads the noise, and both results match.
"""

from __future__ import annotations

import hashlib
import random
import re

from PIL import Image

from vision.image.guards.jpeg import HUFFMAN_FRAMES, MARKER_IN_SCAN, PROGRESSIVE, START_OF_SCAN, WITH_LENGTH

END = b"\xff\xd9"
# Without FF, which begins markers; then once more after each restart marker, since a decoder may be waiting for one.
_noise = [bytes(random.Random(seed).choices(range(255), k=2048)) for seed in range(9)]  # noqa: S311  # nosec B311
NOISE = _noise[0] + b"".join(bytes([0xFF, 0xD0 + number]) + part for number, part in enumerate(_noise[1:]))
BLOCK = 8  # rows of pixels in a block of a JPEG
LAST = 18  # side of the last block over all channels, in pixels, plus smoothing
LARGE = 100 * LAST * LAST  # pixels; the last block is then at most a hundredth
FILLING = 64  # bytes
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
ROWS = 256  # of an image, hashed at a time


def ended(jpeg: bytes) -> bytes:
    """The file with an end marker."""
    return _without_half_a_marker(jpeg) + END


def ended_with_noise(jpeg: bytes, image: Image.Image, lacks_end: bool) -> bytes:
    """The file with noise and an end marker instead of its filling. image: the decoded image."""
    if _is_filled_up(jpeg, image, lacks_end):
        jpeg = jpeg.rstrip(jpeg[-1:])
    return _without_half_a_marker(jpeg) + NOISE + END


def _without_half_a_marker(jpeg: bytes) -> bytes:
    return jpeg.rstrip(b"\xff")


def may_lack_pixels(jpeg: bytes, image: Image.Image, lacks_end: bool) -> bool:
    """Whether it must be decoded a second time. Few complete photographs end like a truncated one."""
    return lacks_end or _ends_flat(image) or _is_filled_up(jpeg, image, lacks_end)


def _is_filled_up(jpeg: bytes, image: Image.Image, lacks_end: bool) -> bool:
    """Whether the file ends in one repeated byte: an unfinished download, or old content of a disk.

    A decoder takes these bytes for pixels and never reaches the appended noise. In a flat picture they may be pixels.
    """
    if len(jpeg) <= FILLING or jpeg.count(jpeg[-1:], -FILLING) < FILLING:
        return False
    return not _ends_flat(image) or (lacks_end and RESTART.search(jpeg) is not None)


def _ends_flat(image: Image.Image) -> bool:
    """Whether its last pixels have a single colour, like those that libjpeg fills in."""
    end = image.crop((image.width * 3 // 4, max(0, image.height - BLOCK), image.width, image.height))
    return end.getcolors(1) is not None


def digest(image: Image.Image) -> bytes:
    """Of all pixels, without a second copy in memory. In a large picture, the last block may be incomplete."""
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
    """Whether the scans (ten in a progressive JPEG) contain every coefficient of every channel to the last bit.

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
