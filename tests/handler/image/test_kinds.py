"""Each kind of JPEG, PNG, WebP, GIF and BMP has the pixels that another decoder reads; other formats are named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from reliability.decoding import decode
from reliability.pictures import encoded
from tests.support.image_kinds import KINDS, ImageKind
from tests.support.image_page import PAGE, page
from tests.support.torchvision_pixels import reference_pixels
from vision.errors import RequestError
from vision.image.formats import looks_like_an_image

PIXELS = 1_000_000


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.refused], ids=str)
def test_a_kind_that_is_taken_has_its_pixels(kind: ImageKind) -> None:
    expected = reference_pixels(encoded(Image.fromarray(kind.expected())))
    shown = decode(kind.file(), PIXELS)
    assert np.abs(shown.astype(int) - expected.astype(int)).max() <= kind.tolerance


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.refused], ids=str)
def test_a_kind_that_is_refused_is_named(kind: ImageKind) -> None:
    with pytest.raises(RequestError) as caught:
        decode(kind.file(), PIXELS, "instances[2].b64")
    assert (caught.value.status, str(caught.value)) == (400, f"instances[2].b64: {kind.refused}")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_body_of_any_known_kind_is_taken_for_an_image(kind: ImageKind) -> None:
    """Whatever type curl declares, the error names the image format, not JSON."""
    assert looks_like_an_image(kind.file())


@pytest.mark.parametrize(
    "text", [b"{}", b'{"instances": [{"b64": "aGk="}]}', b"[1]", b"P", b"data=QUJD", b"<", b"<!--"]
)
def test_other_texts_are_no_images(text: bytes) -> None:
    assert not looks_like_an_image(text)


BEFORE = (
    *(b"", b"\n", b"\r\n\r\n", b" \t", b"\0", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n", b"\n\xef\xbb\xbf"),
    b"\xef\xbb\xbf" * 2,
)
TEXTS = {
    "<svg/>": "SVG is not supported",
    '<?xml version="1.0"?>\n<svg/>': "SVG is not supported",
    "<?xml version='1.0'?><Error/>": "XML is not supported",
    "<!DOCTYPE html><html>": "a web page (HTML) is not supported",
    "<h2>Error</h2>": "a web page (HTML) is not supported",
    '<a href="/login">Found</a>': "a web page (HTML) is not supported",
    "<br />\n<b>Warning</b>": "a web page (HTML) is not supported",
    "%PDF-1.7\n": "PDF is not supported",
    "%!PS-Adobe-3.0 EPSF-3.0": "PostScript is not supported",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_known_whatever_comes_before_it(text: str) -> None:
    for before in BEFORE:
        with pytest.raises(RequestError) as caught:
            decode(before + text.encode(), PIXELS)
        assert TEXTS[text] in str(caught.value), before


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", *("utf-16", "utf-16-le", "utf-16-be"), *("utf-32", "utf-32-le", "utf-32-be")]
)
def test_a_text_is_known_in_any_encoding(text: str, encoding: str) -> None:
    for before in ("", "\n", "\r\n  "):
        with pytest.raises(RequestError) as caught:
            decode((before + text).encode(encoding), PIXELS)
        assert TEXTS[text] in str(caught.value), before


@pytest.mark.parametrize("text", [b"<!---->" * 100_000, b"<?xml?>" * 100_000, b"<!--" * 100_000, b" " * 1_000_000])
def test_long_comments_cost_nothing(text: bytes) -> None:
    assert not looks_like_an_image(text) or b"?xml" in text


def test_the_page_says_what_the_tests_go_through() -> None:
    command = "python -m tests.support.image_page"
    assert PAGE.read_text(encoding="utf-8") == page(), f"{PAGE.name} is out of date: {command}"
