"""`python -m conformance`: what it prints, and its exit status."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_tools import protoc

from conformance.__main__ import main
from tests.conformance.stand_in import NAME, Reply, StandIn, say, serving

CHECKOUT = Path(__file__).resolve().parents[2]
KIT = CHECKOUT / "conformance"


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def url(stand_in: StandIn) -> Iterator[str]:
    with serving(stand_in) as (url, _):
        yield url


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_every_protocol_that_is_spoken_is_asked(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([url, "--too-large", "4"]) == 0
    shown = told(capsys)
    assert f"v1: {NAME} at {url}" in shown
    assert f"v2: {NAME} at {url}" in shown
    assert "grpc:" not in shown  # it has another port here
    assert "0 FAILED, 0 should" in shown


def test_a_fault_is_told_with_what_was_expected_and_who_says_so(
    url: str, stand_in: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    stand_in.twist = lambda request, reply: say({"models": 1}) if request.path == "/v1/models" else reply
    assert main([url, "--protocol", "v1", "--model", NAME]) == 1
    shown = told(capsys)
    assert f'"models": a list with \'{NAME}\'; got 200 {{"models": 1}}' in shown
    assert "KServe's V1 protocol" in shown
    assert ", 1 FAILED, 0 should" in shown


def test_what_a_server_says_is_shown_and_not_obeyed(
    url: str, stand_in: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    hostile = "[red]\x1b[2J\r\nerror: forged\u202e".encode()
    stand_in.twist = lambda request, reply: reply._replace(body=hostile) if request.path == "/v1/models" else reply
    assert main([url, "--protocol", "v1", "--model", NAME]) == 1
    shown = capsys.readouterr().out
    assert "[red]\\x1b[2J" in shown
    assert not set("\x1b\r\u202e") & set(shown)
    assert "\nerror" not in shown


def test_what_should_be_counts_only_where_that_is_asked(url: str, stand_in: StandIn) -> None:
    stand_in.twist = lambda request, reply: reply._replace(body=b"") if "/live" in request.path else reply
    assert main([url, "--protocol", "v2"]) == 0
    assert main([url, "--protocol", "v2", "--strict"]) == 1


def test_a_url_of_the_model_names_it(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{url}/v1/models/{NAME}:predict", "--protocol", "v1", "--json"]) == 0
    assert {each["protocol"] for each in json.loads(capsys.readouterr().out)} == {"v1"}


@pytest.mark.parametrize(
    ("protocol", "bodies"),
    [
        ("v1", [{"instances": [[1, 2, 3, 4], [4, 3, 2, 1]]}]),
        ("v1", [{"instances": [[1, 2, 3, 4]]}, {"instances": [[4, 3, 2, 1]]}]),
        (
            "v2",
            [
                {
                    "inputs": [
                        {"name": "numbers", "shape": [1, 4], "datatype": "FP32", "data": [[number, 2, 3, 4]]},
                        {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]},
                    ]
                }
                for number in (1, 5)
            ],
        ),
    ],
)
def test_questions_of_the_users_own(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: str, bodies: list[object]
) -> None:
    options = []
    for number, body in enumerate(bodies):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(body))
        options += ["--input", str(file)]
    assert main([url, "--protocol", protocol, "--json", *options]) == 0
    results = {each["check"]: each["outcome"] for each in json.loads(capsys.readouterr().out)}
    assert results["the_order_is_kept"] == results["each_gets_its_own_answer"] == "passed"


def test_a_model_that_answers_nothing_is_not_accused(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff")
    assert main([url, "--protocol", "v1", "--json", "--input", str(tmp_path / "picture.jpg")]) == 0
    results = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert results["a_question_is_answered"]["outcome"] == "not_applicable"
    assert "give --input" in results["a_question_is_answered"]["detail"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["http://127.0.0.1:9"], "127.0.0.1:9/?: .*refused"),
        (["grpc://127.0.0.1:9", "--model", "x"], "127.0.0.1:9: "),
        (["ftp://127.0.0.1"], "not the URL of a server"),
        (["http://127.0.0.1:99999"], "not (a|the) URL"),
        (["http://127.0.0.1:9", "--header", "nonsense"], "expected .NAME: VALUE."),
        (["http://127.0.0.1:9", "--input", "/no/such/file"], "/no/such/file: No such file"),
        (
            ["http://127.0.0.1:9", "--loading", "0.1", "--protocol", "v1", "--model", "x"],
            "x was not ready within 0.1 s",
        ),
        (["http://127.0.0.1:9", "--loading", "0.1", "--protocol", "v1"], "--loading needs --model"),
        (["grpc://127.0.0.1:9"], "give --model"),
    ],
)
def test_who_cannot_be_asked_is_another_status(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert re.match(f"error: .*{sentence}", told), told
    assert told.count("\n") == 1


def test_a_server_of_something_else_cannot_be_asked(
    url: str, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.twist = lambda _, __: Reply(200, b"<html>", {})
    assert main([url, "--protocol", "v2"]) == 2
    assert "give --model" in capsys.readouterr().err
    stand_in.twist = lambda _, __: Reply(404, b"<html>", {})
    assert main([url]) == 2
    assert "does not speak any of" in capsys.readouterr().err


def test_the_descriptors_are_those_of_the_proto_file(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    protoc.main(["", f"-I{KIT}", f"--descriptor_set_out={made}", str(KIT / "open_inference_grpc.proto")])
    assert made.read_bytes() == (KIT / "open_inference_grpc.binpb").read_bytes()
