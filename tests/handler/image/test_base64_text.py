"""Base64 as clients write it: unambiguous text is accepted, at a bounded cost."""

from __future__ import annotations

import base64
import random
import tracemalloc
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.errors import MalformedField, RequestError, TooLarge
from vision.image.base64_text import decode_base64

MOST = 10_485_760
BYTES = bytes(range(256))  # 344 characters, one = at the end, and both characters that differ between the alphabets
TEXT = base64.b64encode(BYTES).decode()
SAFE = base64.urlsafe_b64encode(BYTES).decode()
assert TEXT.endswith("=")
assert {"+", "/"} <= set(TEXT)


def lines(width: int, end: str, text: str = TEXT) -> str:
    return end.join(text[start : start + width] for start in range(0, len(text), width))


def refusal(text: str, most: int = MOST) -> RequestError:
    with pytest.raises(RequestError) as caught:
        decode_base64(text, "here", most)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        SAFE,
        SAFE.rstrip("="),
        f"  {TEXT}\n",
        f"\ufeff{TEXT}",
        *(
            lines(width, end)
            for width in (1, 2, 60, 64, 76, 77)
            for end in ("\n", "\r\n", "\r", "\n    ", " \n", "\\n")
        ),
        lines(76, "\n", SAFE.rstrip("=")),
        lines(76, " ") + "\n",  # echo $(base64 FILE)
        lines(64, " "),
        TEXT.replace("/", "\\/"),  # PHP's JSON, in JSON
        TEXT.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        TEXT.replace("+", "%2b").replace("=", "%3d"),
        f'"{TEXT}"',  # JSON of JSON
        f"'{TEXT}'",
        f' "data:image/jpeg;base64,{TEXT}"\n',
        quote(f"data:image/jpeg;base64,{TEXT}", safe=""),  # encodeURIComponent
        quote(f"data:image/jpeg;name=cat.jpg;base64,{TEXT}"),
    ],
)
def test_either_alphabet_padded_or_not_in_lines_of_any_length(text: str) -> None:
    assert decode_base64(text, "here", MOST) == BYTES


@pytest.mark.parametrize(
    "head",
    [
        "data:image/jpeg;base64,",
        "data:image/svg+xml;base64,",
        "data:application/octet-stream;base64,",  # FileReader, of a file without a type
        "data:;base64,",
        "data:image/*;base64,",
        "data:null;base64,",
        "data:undefined;base64,",
        "data:text/plain;base64,",
        "data:image/png;name=cat%20photo.png;base64,",  # react-jsonschema-form
        "data:image/png;name=cat, asleep.png;base64,",
        'data:image/png;name="a;b,c.png";base64,',
        "data:image/jpeg;charset=utf-8;base64,",  # Cordova
        "data:image/jpeg; charset=utf-8; base64, ",
        "data:image/jpeg;base64;charset=utf-8,",
        "DATA:IMAGE/JPEG;BASE64,",
        "\ndata:image/jpeg;base64,",
        " data:image/jpeg;base64,\n",
        "data://image/png;base64,",  # PHP
        "image/png;base64,",  # what remains after `data:`
        f"data:image/png;name={'n' * 1000};base64,",
    ],
)
@pytest.mark.parametrize("text", [TEXT, SAFE.rstrip("="), lines(76, "\r\n")])
def test_a_data_uri_may_be_of_any_type_and_have_parameters(head: str, text: str) -> None:
    assert decode_base64(head + text, "here", MOST) == BYTES


@pytest.mark.parametrize("count", range(12))
def test_every_length_with_padding_and_without(count: int) -> None:
    for content in (BYTES[:count], BYTES[-count:]):
        for text in (base64.b64encode(content).decode(), base64.urlsafe_b64encode(content).decode()):
            assert decode_base64(text, "here", MOST) == content
            assert decode_base64(text.rstrip("="), "here", MOST) == content


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("QUJDR", "not base64: it has a character too few or too many"),
        ("Q", "not base64: it has a character too few or too many"),
        ("Q===", "not base64: it has a character too few or too many"),
        ("QUJD=", "not base64: it has a character too few or too many"),
        ("QUI==", "not base64: it has a character too few or too many"),
        ("QUJD====", "not base64: it has a character too few or too many"),
        ("+/-_", "not base64: it mixes two alphabets (+ or / with - or _)"),
        (TEXT[:-4] + "-_-_", "not base64: it mixes two alphabets (+ or / with - or _)"),
        (TEXT.replace("+", " "), "not base64: it has spaces, which could stand for line breaks or for +"),
        ("QU JD", "not base64: it has spaces, which could stand for line breaks or for +"),
        ("QUJD QUJDQUJD", "not base64: it has spaces, which could stand for line breaks or for +"),
        ("QUJD QUJD QUI", "not base64: it has spaces, which could stand for line breaks or for +"),
        ("QUJD\tQUJD", "not base64: it has spaces, which could stand for line breaks or for +"),
        (f"b'{TEXT}'", "not base64, but Python's notation for bytes, b'…': call .decode() on them before sending"),
        (f'b"{TEXT}"', "not base64, but Python's notation for bytes, b'…': call .decode() on them before sending"),
        (
            f"bytearray(b'{TEXT}')",
            "not base64, but Python's notation for bytes, b'…': call .decode() on them before sending",
        ),
        (
            "b'\\xff\\xd8\\xff'",
            "not base64, but Python's notation for bytes, b'…': call .decode() on them before sending",
        ),
        ("data:image/png,QUJD", "a data: URI without ;base64, before its data"),
        ("data:image/svg+xml;utf8,<svg/>", "a data: URI without ;base64, before its data"),
        ("data:image/png;base64", "a data: URI without ;base64, before its data"),
        *(
            (text, "not base64 (either alphabet, padded or not)")
            for text in (
                "QUJD!",
                "ÄÖÜß",
                "\ud800abc",
                "QU\0J",
                "QQ==QUJD",
                "=QUJ",
                "QQ=Q",
                "QUJ.",
                "255,",
                f"'{TEXT}'+",
                f"'{TEXT}\"",
                f"'{TEXT}",
                f"\"'{TEXT}'\"",
                '"',
            )
        ),
    ],
)
def test_what_could_be_two_things_or_none_is_refused(text: str, problem: str) -> None:
    error = refusal(text)
    assert isinstance(error, MalformedField)
    assert str(error) == f"here: {problem}"


@pytest.mark.parametrize("seed", range(50))
def test_a_plus_that_a_form_has_lost_is_never_guessed(seed: int) -> None:
    content = random.Random(seed).randbytes(300)
    lost = base64.b64encode(content).decode().replace("+", " ")
    if " " in lost.strip():
        assert refusal(lost).status == 400


@pytest.mark.parametrize("over", range(4))
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_bound_counts_bytes_and_no_line_breaks(over: int, end: str) -> None:
    text = base64.b64encode(bytes(1000 + over)).decode()
    for made in (text, text.rstrip("=")):
        made = lines(2, end, made)
        if over:
            error = refusal(made, 1000)
            assert isinstance(error, TooLarge)
            assert str(error) == "here: more than 1000 bytes"
        else:
            assert decode_base64(made, "here", 1000) == bytes(1000)


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\\n", "%0A", "\n "])
def test_memory_is_bounded_however_often_it_is_broken(end: str) -> None:
    """As separate strings, the pieces of such a text took 25 times its length."""
    text = lines(4, end, base64.b64encode(bytes(1_500_000)).decode())
    tracemalloc.start()
    try:
        assert len(decode_base64(text, "here", MOST)) == 1_500_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(text)


@pytest.mark.parametrize(
    "text",
    [
        *("data:" + part * 1_000_000 for part in (";", ";a", ",", ";base64", ";base64 ", "a", " ")),
        *("A" + part * 1_000_000 + "!" for part in (" ", " A", "\n", "%", "\\", "=", "-+")),
    ],
)
def test_a_long_text_that_is_no_base64_is_read_once(text: str) -> None:
    """A pattern that restarted at each character would take hours."""
    assert refusal(text).status in (400, 413)


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=200), st.integers(1, 80), st.sampled_from(["\n", "\r\n", "\n\t"]), st.booleans(), st.booleans()
)
def test_any_bytes_come_back(content: bytes, width: int, end: str, safe: bool, padded: bool) -> None:
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(content).decode()
    assert decode_base64(lines(width, end, text if padded else text.rstrip("=")), "here", MOST) == content


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=60) | st.text("QUJD=+/-_ \n%2B;,data:base64", max_size=60))
def test_any_text_ends_in_bytes_or_a_refusal(text: str) -> None:
    try:
        decode_base64(text, "here", 40)
    except RequestError as error:
        assert error.status in (400, 413)
        assert str(error).isprintable()
