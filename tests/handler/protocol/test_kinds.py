"""The kind of a body: by its content type if that is meaningful, else by its first bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.errors import RequestError
from vision.protocol.kinds import Kind, kind_of

JPEG, OBJECT = b"\xff\xd8\xff\xe0", b'{"instances": []}'
DEFAULTS = ["", "application/x-www-form-urlencoded", "text/plain", "text/plain; charset=forged", "no type", "a/b, c/d"]
LISTED_TWICE = "application/json, application/json"  # two headers joined by a proxy


def refusal(body: bytes, content_type: str) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        kind_of(body, content_type)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("body", [JPEG, OBJECT, b"", b"data=QUJD"])
@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/jpeg", Kind.IMAGE),
        ("IMAGE/whatever; a=b", Kind.IMAGE),
        ("application/octet-stream", Kind.IMAGE),
        ("binary/octet-stream", Kind.IMAGE),
        ("application/json", Kind.JSON),
        (" Application/JSON ; charset=utf-8", Kind.JSON),
        ("text/json", Kind.JSON),
        ("application/vnd.kserve+json", Kind.JSON),
        ("multipart/form-data; boundary=x", Kind.FORM),
    ],
)
def test_a_type_that_says_something_is_believed(body: bytes, content_type: str, kind: Kind) -> None:
    assert kind_of(body, content_type) is kind


@pytest.mark.parametrize("content_type", [*DEFAULTS, LISTED_TWICE])
def test_behind_any_other_type_the_first_bytes_decide(content_type: str) -> None:
    assert kind_of(JPEG, content_type) is Kind.IMAGE
    assert kind_of(b"\n\t " + OBJECT, content_type) is Kind.JSON
    assert kind_of(b"[1]", content_type) is Kind.JSON
    assert kind_of(b" \n", content_type) is Kind.JSON  # whose error says that it is empty
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        assert kind_of(OBJECT.decode().encode(encoding), content_type) is Kind.JSON


@pytest.mark.parametrize("content_type", DEFAULTS)
@pytest.mark.parametrize("body", [b"data=/9j/4AAQ", b"file=QUJD", b"files%5B%5D=QUJD", b"a[b]=c&d=e"])
def test_a_form_of_text_is_told_where_base64_belongs(body: bytes, content_type: str) -> None:
    status, sentence = refusal(body, content_type)
    assert (status, sentence[:57]) == (400, "body: URL-encoded forms are not accepted: base64 belongs ")


def test_what_nobody_knows_is_what_it_always_was() -> None:
    assert kind_of(b"no picture", "") is Kind.IMAGE  # `curl -T`
    assert kind_of(b"no picture", "text/plain") is Kind.JSON


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/xml", "text/xml; charset=utf-8", "application/soap+xml", "text/html", "application/pdf"),
        *("video/mp4", "audio/wav", "font/woff2", "model/obj", "message/rfc822", "application/zip"),
        *("multipart/mixed; boundary=x", "Multipart/Related", "multipart/form-datas"),
    ],
)
def test_what_is_surely_something_else_is_not_taken(content_type: str) -> None:
    expected = "expected an image (image/*), JSON (application/json) or a form (multipart/form-data)"
    for body in (JPEG, OBJECT, b""):
        assert refusal(body, content_type) == (415, f"content-type: {expected}")


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([JPEG, OBJECT, b""]) | st.binary(max_size=50),
    st.text(max_size=60) | st.sampled_from([f"{a},{b}" for a in DEFAULTS for b in ("video/mp4", "image/png")]),
)
def test_any_type_ends_in_a_kind_or_a_refusal(body: bytes, content_type: str) -> None:
    try:
        assert kind_of(body, content_type) in Kind
    except RequestError as error:
        assert error.status in (400, 415)
