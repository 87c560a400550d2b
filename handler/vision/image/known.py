"""Known formats that are not accepted, recognised by their first bytes, so that a refusal can say what to do."""

from __future__ import annotations

import re

TO_JPEG = "convert it to JPEG"
DEVELOP = "export it as a JPEG"
DRAW = "render it as a PNG"
PAGE = "send a page of it as a PNG or JPEG"
FRAME = "send one of its frames as a JPEG"
UNPACK = "send the image inside it"

# The first bytes → the format's name, and what to do. The first match wins.
STARTS: dict[bytes, tuple[str, str]] = {
    b"\0\0\0\x0cjP  \r\n\x87\n": ("JPEG 2000", TO_JPEG),
    b"\xff\x4f\xff\x51": ("JPEG 2000", TO_JPEG),
    b"\0\0\0\x0cJXL \r\n\x87\n": ("JPEG XL", TO_JPEG),
    b"\xff\x0a": ("JPEG XL", TO_JPEG),
    b"II\xbc\x01": ("JPEG XR", TO_JPEG),
    b"BPG\xfb": ("BPG", TO_JPEG),
    b"FLIF": ("FLIF", TO_JPEG),
    b"qoif": ("QOI", TO_JPEG),
    b"8BPS": ("a Photoshop file (PSD)", TO_JPEG),
    b"gimp xcf": ("a GIMP file (XCF)", TO_JPEG),
    b"\x76\x2f\x31\x01": ("OpenEXR", TO_JPEG),
    b"#?RADIANCE": ("Radiance HDR", TO_JPEG),
    b"#?RGBE": ("Radiance HDR", TO_JPEG),
    b"DDS ": ("DDS", TO_JPEG),
    b"\xabKTX ": ("KTX", TO_JPEG),
    b"\0\0\1\0": ("an icon (ICO)", "convert it to PNG"),
    b"icns": ("an icon (ICNS)", "convert it to PNG"),
    b"\x8aMNG\r\n\x1a\n": ("MNG", FRAME),
    b"\x8bJNG\r\n\x1a\n": ("JNG", TO_JPEG),
    b"AT&TFORM": ("DjVu", PAGE),
    b"\x01\xda\0": ("SGI", TO_JPEG),
    b"\x01\xda\x01": ("SGI", TO_JPEG),
    b"\x59\xa6\x6a\x95": ("a Sun raster", TO_JPEG),
    b"SIMPLE  =": ("FITS", TO_JPEG),
    b"\x89HDF\r\n\x1a\n": ("HDF5", TO_JPEG),
    b"\x93NUMPY": ("a NumPy array", "save its pixels as a PNG"),
    b"FUJIFILMCCD-RAW": ("a camera raw file (RAF)", DEVELOP),
    b"IIRO": ("a camera raw file (ORF)", DEVELOP),
    b"IIRS": ("a camera raw file (ORF)", DEVELOP),
    b"MMOR": ("a camera raw file (ORF)", DEVELOP),
    b"IIU\0": ("a camera raw file (RW2)", DEVELOP),
    b"FOVb": ("a camera raw file (X3F)", DEVELOP),
    b"\0MRM": ("a camera raw file (MRW)", DEVELOP),
    b"II\x1a\0\0\0HEAPCCDR": ("a camera raw file (CRW)", DEVELOP),
    b"\xc5\xd0\xd3\xc6": ("PostScript", PAGE),
    b"\xd7\xcd\xc6\x9a": ("a Windows metafile (WMF)", DRAW),
    b"\x1a\x45\xdf\xa3": ("a video (Matroska or WebM)", FRAME),
    b"FLV\x01": ("a video (FLV)", FRAME),
    b"\0\0\1\xba": ("a video (MPEG)", FRAME),
    b"\0\0\1\xb3": ("a video (MPEG)", FRAME),
    b"PK\3\4": ("a ZIP file", UNPACK),
    b"\x1f\x8b": ("a gzip file", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z file", UNPACK),
    b"Rar!\x1a\x07": ("a RAR file", UNPACK),
    b"BZh": ("a bzip2 file", UNPACK),
    b"\xfd7zXZ\0": ("an xz file", UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd file", UNPACK),
}

# ISO base media files, by any brand that they list: https://mp4ra.org/registered-types/brands
BRANDS: dict[bytes, tuple[str, str]] = {
    b"avif": ("AVIF", TO_JPEG),
    b"avis": ("AVIF", TO_JPEG),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), ("HEIC", TO_JPEG)),
    b"crx ": ("a camera raw file (CR3)", DEVELOP),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf"), ("HEIF", TO_JPEG)),
}
VIDEO = ("a video (MP4 or MOV)", FRAME)
BOXES = (b"moov", b"mdat", b"wide")  # at the start of old MOV files

RIFFS = {b"AVI ": ("a video (AVI)", FRAME), b"ACON": ("a cursor (ANI)", "convert it to PNG")}

# Text formats; a byte order mark and white space may precede them.
TEXTS: dict[bytes, tuple[str, str]] = {b"%PDF-": ("PDF", PAGE), b"%!PS": ("PostScript", PAGE)}
BEFORE_A_TEXT = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff|[\s\0\x04])+")  # 04: sent to printers first

LOOKED_AT = 4096  # bytes that are searched for the kind of a text
PORTABLE = re.compile(rb"P[1-7FfX]\s")
BEFORE_THE_ROOT = {b"<?": b"?>", b"<!--": b"-->"}  # of XML
ROOT = re.compile(rb"<(?:!doctype\s+)?(?:\w+:)?(\w+)", re.IGNORECASE)
OF_HTML = frozenset(
    b"html head body meta title script style link div span p pre br h1 h2 h3 b a center font form header iframe img "
    b"noscript table".split()
)
PLEASE = "send the image itself"


def known_format(content: bytes | bytearray) -> tuple[str, str] | None:
    """The name of a format that is not accepted, and what to do; None for accepted and unknown formats."""
    content = bytes(content[:LOOKED_AT])
    for start, found in STARTS.items():
        if content.startswith(start):
            return found
    if content[4:8] == b"ftyp":
        return _by_brand(content)
    if content[4:8] in BOXES:
        return VIDEO
    if content[:4] == b"RIFF" and content[8:12] in RIFFS:
        return RIFFS[content[8:12]]
    if content[128:132] == b"DICM":
        return "DICOM", TO_JPEG
    if content[:4] in (b"II*\0", b"MM\0*") and content[8:10] == b"CR":
        return "a camera raw file (CR2)", DEVELOP
    if content[40:44] == b" EMF" and content[:4] == b"\1\0\0\0":
        return "a Windows metafile (EMF)", DRAW
    if PORTABLE.match(content):
        return "PNM", TO_JPEG
    return _of_text(content)


def _by_brand(content: bytes) -> tuple[str, str]:
    length = min(int.from_bytes(content[:4], "big"), 256)
    named = [content[8:12], *(content[at : at + 4] for at in range(16, length, 4))]
    for brand in BRANDS:  # AVIF files list HEIF's brands too
        if brand in named:
            return BRANDS[brand]
    return VIDEO


def _of_text(text: bytes) -> tuple[str, str] | None:
    """In any encoding: in UTF-16 and UTF-32, at least every second byte is zero."""
    if found := BEFORE_A_TEXT.match(text):
        text = text[found.end() :]
    if text[1:2] in (b"", b"\0"):
        text = text.replace(b"\0", b"")
    for start, named in TEXTS.items():
        if text.startswith(start):
            return named
    is_xml = text[:5].lower() == b"<?xml"
    while opened := next((mark for mark in BEFORE_THE_ROOT if text.startswith(mark)), b""):
        text = text.partition(BEFORE_THE_ROOT[opened])[2].lstrip()
    found = ROOT.match(text)
    root = found[1].lower() if found else b""
    if root == b"svg":
        return "SVG", DRAW
    if root in OF_HTML:
        return "a web page (HTML)", f"{PLEASE}; this may be an error page or a login page"
    if is_xml:
        return "XML", f"{PLEASE}; this may be an error message"
    return None
