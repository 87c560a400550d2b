"""pybase64 and the standard library accept the same base64, and decode it alike."""

from __future__ import annotations

import base64
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest import mock

import pybase64
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision import base64_bytes
from vision.errors import MalformedField, RequestError
from vision.image import base64_text
from vision.protocol import grpc_json

LETTERS = "QUJDAz09+/-_= \n\r\té\0"
MANY = 100_000  # characters: enough for pybase64's vectorised code

texts = st.one_of(
    st.text(max_size=80),
    st.text(LETTERS, max_size=80),
    st.text("QUJDAz09+/", max_size=80).map(lambda text: text + "=" * (-len(text) % 4)),
    st.builds(
        lambda content, at, letter: (text := base64.b64encode(content).decode())[:at] + letter + text[at + 1 :],
        st.binary(min_size=1, max_size=200),
        st.integers(0, 260),
        st.sampled_from(LETTERS),
    ),
)


def without_pybase64() -> ModuleType:
    """The same module without pybase64 installed."""
    spec = importlib.util.spec_from_file_location("base64_bytes_alone", base64_bytes.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {"pybase64": None}):
        spec.loader.exec_module(module)
    return module


ALONE = without_pybase64()


@contextmanager
def by_the_standard_library() -> Iterator[None]:
    with (
        mock.patch.object(base64_text, "strict", ALONE.strict),
        mock.patch.object(base64_text, "b64decode", ALONE.b64decode),
        mock.patch.object(grpc_json, "strict", ALONE.strict),
    ):
        yield


def made(text: str) -> bytes | None:
    """None if refused."""
    try:
        return base64_bytes.strict(text)
    except ValueError:
        return None


def made_without(text: str) -> bytes | None:
    try:
        result: bytes = ALONE.strict(text)
    except ValueError:
        return None
    return result


def told(text: str, most: int) -> bytes | str:
    """A client's text decoded, or its refusal."""
    try:
        return base64_text.decode_base64(text, "here", most)
    except RequestError as error:
        return f"{error.status} {error}"


def test_pybase64_is_used_where_it_is_there() -> None:
    assert base64_bytes.b64decode is pybase64.b64decode
    assert ALONE.b64decode is base64.b64decode


@settings(max_examples=2000, deadline=None)
@given(texts)
def test_both_take_and_refuse_the_same(text: str) -> None:
    assert made(text) == made_without(text)


@settings(max_examples=1000, deadline=None)
@given(texts, st.sampled_from([10, 10_000]))
def test_a_client_hears_the_same_of_both(text: str, most: int) -> None:
    expected = told(text, most)
    with by_the_standard_library():
        assert told(text, most) == expected


@pytest.mark.parametrize("letter", list("-_=\n é\0"))
def test_one_wrong_letter_among_many_is_refused_wherever_it_is(letter: str) -> None:
    text = base64.b64encode(bytes(range(256)) * (MANY // 256)).decode()
    assert made(text) == made_without(text) is not None
    for at in (0, 1, 63, 64, 65, len(text) // 2, len(text) - 65, len(text) - 4, len(text) - 3):
        wrong = text[:at] + letter + text[at + 1 :]
        assert made(wrong) is made_without(wrong) is None


@pytest.mark.parametrize(
    "text", ["Q", "QQ", "QQ=", "QQ===", "QUJD=", "QUJD====", "====", "=", "QQ==QUJD", "Q=Q=", "=QQ=", " QUJD", "QUJD\n"]
)
def test_what_is_not_padded_as_it_should_be_is_refused(text: str) -> None:
    assert made(text) is made_without(text) is None


@pytest.mark.parametrize("value", [None, 1, True, 1.5, [], {}, ["QUJD"], "QUJD=", "QUJ", "-_-_", "QUJD\n", "é"])
def test_bytes_of_grpc_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(MalformedField, match=r"^here: expected bytes, as base64$"):
        grpc_json._bytes(value, "here")
    with by_the_standard_library(), pytest.raises(MalformedField):
        grpc_json._bytes(value, "here")


@given(st.binary(max_size=300))
def test_bytes_are_written_alike(content: bytes) -> None:
    assert base64_bytes.b64encode(content) == ALONE.b64encode(content) == base64.b64encode(content)
