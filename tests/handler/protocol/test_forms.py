"""Forms: files in order, JSON in `data`, errors for all others; and bounds checked before the work."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.errors import RequestError
from vision.protocol.request import Request
from vision.protocol.v1 import parse_body
from vision.worker.settings import Limits

TYPE = "multipart/form-data; boundary=x"
URL_ENCODED = "application/x-www-form-urlencoded"
JPEG = b"\xff\xd8\xff" + bytes(100)
ONE = b'{"instances": [{"b64": "AAAA"}], "parameters": {"top_k": 3}}'

Part = tuple[str, bytes]


def form(*parts: Part, boundary: bytes = b"x") -> bytes:
    """parts: each (what follows `form-data` in its header, content)."""
    made = b"".join(
        b"--%s\r\nContent-Disposition: form-data%s\r\n\r\n%s\r\n" % (boundary, head.encode(), content)
        for head, content in parts
    )
    return made + b"--%s--\r\n" % boundary


def file(name: str, content: bytes = JPEG) -> Part:
    return f'; name="{name}"; filename="a.jpg"\r\nContent-Type: image/jpeg', content


def field(name: str, content: bytes) -> Part:
    return f'; name="{name}"', content


def refusal(body: bytes, limits: Limits, content_type: str = TYPE) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        parse_body(body, content_type, limits)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("name", ["data", "file", "image", "files", "files[]"])
def test_one_file_is_one_image(name: str, limits: Limits) -> None:
    assert parse_body(form(file(name)), TYPE, limits) == Request([JPEG], [name], 5)


def test_files_are_taken_in_their_order(limits: Limits) -> None:
    files: list[object] = [JPEG + bytes([number]) for number in range(4)]
    names = ["data", "data", "file", "files[]"]
    request = parse_body(
        form(*(file(name, bytes(JPEG + bytes([number]))) for number, name in enumerate(names))), TYPE, limits
    )
    assert request == Request(files, ["data[0]", "data[1]", "file[2]", "files[][3]"], 5)


def test_the_number_of_classes_is_a_field(limits: Limits) -> None:
    assert parse_body(form(field("top_k", b"2"), file("data")), TYPE, limits).top_k == 2
    for wrong in (b"0", b"1001", b"two", b"-1", b"\xb2", b"1e2", b"", b"9" * 5000, b"0000000010th", b" 5"):
        expected = (400, "top_k: expected an integer from 1 to 1000")
        assert refusal(form(file("data"), field("top_k", wrong)), limits) == expected
    assert refusal(form(file("data"), field("top_k", b"1"), field("top_k", b"2")), limits) == (
        400,
        "top_k: is given twice",
    )


@pytest.mark.parametrize("part", [field("data", ONE), file("data", b"\r\n " + ONE)])
def test_json_in_data_is_that_json(part: Part, limits: Limits) -> None:
    assert parse_body(form(part), TYPE, limits) == Request([{"b64": "AAAA"}], ["instances[0]"], 3)


def test_json_may_have_a_byte_order_mark(limits: Limits) -> None:
    assert parse_body(form(field("data", b"\xef\xbb\xbf" + ONE)), TYPE, limits).top_k == 3


@pytest.mark.parametrize("over", range(-2, 4))
@pytest.mark.parametrize("multiple", [65_536, 131_072, 1_048_576])
def test_a_form_may_be_of_any_length(multiple: int, over: int, limits: Limits) -> None:
    """When read in 64 KiB pieces, forms were refused if their last line break began a piece."""
    content = JPEG + bytes(multiple + over - len(form(file("data"))))
    body = form(file("data", content))
    assert len(body) == multiple + over
    assert parse_body(body, TYPE, limits).instances == [content]


def test_what_stands_around_the_parts_is_left_out(limits: Limits) -> None:
    """RFC 2046, 5.1.1: the preamble and the epilogue."""
    for body in (b"preamble\r\n" + form(file("data")), form(file("data")) + b"epilogue" * 20_000):
        assert parse_body(body, TYPE, limits).instances == [JPEG]


def test_a_charset_says_nothing(limits: Limits) -> None:
    head, content = file("data")
    assert parse_body(form((head + "; charset=forged", content)), TYPE, limits).instances == [JPEG]
    typed = '; name="data"\r\nContent-Type: application/json; charset=forged', ONE
    assert parse_body(form(typed), TYPE, limits).top_k == 3


@pytest.mark.parametrize("library", [None, ModuleType("multipart")])  # ModuleType: another library of that name
def test_where_no_library_reads_forms_they_are_not_taken(
    library: ModuleType | None, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "multipart", library)
    assert refusal(form(file("data")), limits) == (415, "content-type: this server does not accept forms")
    assert parse_body(JPEG, "image/jpeg", limits).instances == [JPEG]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (form(field("data", ONE), file("data")), "data: send the JSON alone, without files"),
        (form(file("data"), field("data", ONE)), "data: send the JSON alone, without files"),
        (form(field("data", ONE), field("top_k", b"2")), "top_k: belongs in the JSON: parameters.top_k"),
        (form(field("data", b'{"instances": [')), "body: not JSON (line 1, column 16: Expecting value)"),
        (form(field("data", b"/9j/4AAQSkZJRg==")), "data: expected a file, or JSON; base64 belongs in JSON, "),
        (form(file("photo")), "body: a form may only have data, file, image, files, files[] and top_k; "),
        (form(file("")), "body: a form may only have data, file, image, files, files[] and top_k; "),
        (form(field("top_k", b"2")), "body: the form has no file in data, file, image, files, files[]"),
        (form(), "body: the form has no file in data, file, image, files, files[]"),
        (form(("", JPEG)), "body: not a valid form (multipart/form-data, RFC 7578)"),
        (form(file("data"), field("_charset_", b"forged")), "body: a form may only have data, file, image, files, "),
        (form(file("data"))[:-10], "body: not a valid form (multipart/form-data, RFC 7578)"),
        (b"", "body: not a valid form (multipart/form-data, RFC 7578)"),
        (JPEG, "body: not a valid form (multipart/form-data, RFC 7578)"),
        (
            form(('; name="data"; filename="a"\r\nContent-Transfer-Encoding: base64', b"YWJj")),
            "body: a part has Content-Transfer-Encoding: send the file's bytes as they are",
        ),
    ],
)
def test_what_is_wrong_is_told(body: bytes, sentence: str, limits: Limits) -> None:
    status, said = refusal(body, limits)
    assert (status, said[: len(sentence)]) == (400, sentence)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", f"multipart/form-data; boundary={'x' * 71}", f"{TYPE}\n"]
)
def test_a_boundary_is_as_rfc_2046_has_it(content_type: str, limits: Limits) -> None:
    sentence = "body: the form's content type needs a boundary of 1 to 70 characters"
    assert refusal(form(file("data")), limits, content_type.replace("x\n", '"x\n"')) == (400, sentence)


def test_a_boundary_in_quotes_is_the_same(limits: Limits) -> None:
    assert len(parse_body(form(file("data")), 'Multipart/Form-Data; Boundary="x"', limits).instances) == 1


@pytest.mark.parametrize(
    "body",
    [
        form(*[file("data")] * 66),
        b"--x\r\nContent-Disposition: form-data; name=" + b"a" * (16 << 20),
        b"--x\r\n" + b"a: b\r\n" * (2 << 20),
        form(file("n" * 2000)),
    ],
)
def test_parts_and_their_heads_have_bounds(body: bytes, limits: Limits) -> None:
    assert refusal(body, limits) == (413, "body: more than 64 files, or 1024 bytes in a part's header")


def test_more_files_than_instances_may_be_are_too_many(limits: Limits) -> None:
    assert refusal(form(*[file("data")] * 65), limits) == (413, "instances: more than 64 instances")


def test_classes_have_a_bound_for_all_files_together(limits: Limits) -> None:
    few = form(*[file("data")] * 10, field("top_k", b"1000"))
    assert parse_body(few, TYPE, limits).top_k == 1000
    many = form(*[file("data")] * 11, field("top_k", b"1000"))
    sentence = "top_k: more than 10000 classes for all instances together"
    assert refusal(many, limits) == (413, sentence)
    both = json.dumps({"instances": [{"b64": "AAAA"}] * 64, "parameters": {"top_k": 157}}).encode()
    assert refusal(both, limits, "application/json") == (413, f"parameters.{sentence}")


@pytest.mark.parametrize("content_type", [URL_ENCODED, "", "text/plain", f"{URL_ENCODED}; charset=UTF-8"])
def test_what_curl_says_by_default_is_not_believed(content_type: str, limits: Limits) -> None:
    assert parse_body(JPEG, content_type, limits) == Request([JPEG], ["body"], 5)
    assert parse_body(b" " + ONE, content_type, limits) == Request([{"b64": "AAAA"}], ["instances[0]"], 3)


@pytest.mark.parametrize("text", [b"data=/9j/4AAQ", b"a=%f", b"discount=100%", b"a" + b"&a" * 1000, b"\x01"])
def test_a_form_of_text_is_told_what_to_send(text: bytes, limits: Limits) -> None:
    status, said = refusal(text, limits, URL_ENCODED)
    assert (status, said) == (
        400,
        'body: URL-encoded forms are not accepted: base64 belongs in JSON, {"instances": [{"b64": "…"}]}',
    )


heads = st.sampled_from(['; name="data"', '; name="top_k"', '; name="file"; filename="a"', "", '; name="other"'])
contents = st.sampled_from([JPEG, ONE, b"2", b"", b"--x", b"\r\n--x--", b"{"]) | st.binary(max_size=40)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(heads, contents), max_size=5).map(lambda parts: form(*parts)) | st.binary(max_size=200),
    st.sampled_from([TYPE, URL_ENCODED, "multipart/form-data; boundary=", "multipart/mixed; boundary=x"])
    | st.text(max_size=40).map(lambda text: f"multipart/form-data; {text}"),
    st.integers(0, 300),
)
def test_any_form_ends_in_a_request_or_a_refusal(body: bytes, content_type: str, cut: int) -> None:
    limits = Limits(10_000, 100, 200, 3, 1000, 5)
    for damaged in (body, body[:cut], body[cut:]):
        try:
            assert len(parse_body(damaged, content_type, limits).instances) > 0
        except RequestError as error:
            assert error.status in (400, 413, 415)  # 415: multipart/mixed
            assert str(error).isprintable()
