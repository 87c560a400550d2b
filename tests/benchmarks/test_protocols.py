"""The cost of each protocol: the bodies, the requests, and the arithmetic on made-up rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables
from benchmarks.load import requests_of
from benchmarks.pictures import v2_body
from benchmarks.protocols import BASE, BINARY, CLIENTS, summary
from tests.handler.protocol.test_v2 import parse
from vision.image.source import Element
from vision.worker.settings import Limits

IMAGE = b"\xff\xd8\xff" * 50
LIMITS = Limits(1000, 100, 200, 3, 10, 5, classes=10)


@pytest.mark.parametrize("binary", [True, False])
def test_a_body_is_what_the_handler_reads(binary: bool) -> None:
    body, length = v2_body(IMAGE, binary)
    headers: dict[str, Any] = {"inference_header_content_length": str(length)} if binary else {}
    request = parse(body, LIMITS, **headers)
    assert request.instances == [Element(IMAGE)] if binary else isinstance(request.instances[0], Element)


def test_a_request_says_how_long_its_json_is(tmp_path: Path) -> None:
    body, length = v2_body(IMAGE, binary=True)
    (tmp_path / f"00-{length}.v2").write_bytes(body)
    (request,) = requests_of("http://h:1/v2/models/a/infer", tmp_path)
    head, _, sent = request.partition(b"\r\n\r\n")
    assert sent == body
    lines = head.decode().split("\r\n")
    assert f"Inference-Header-Content-Length: {length}" in lines
    assert "Content-Type: application/octet-stream" in lines
    assert json.loads(body[:length])["inputs"][0]["shape"] == [1]


def one_round(base: float, binary: float) -> dict[str, Any]:
    return {way: {"throughput": found, "p50_ms": 10, "cpu_ms": 5} for way, found in ((BASE, base), (BINARY, binary))}


def test_ratios_are_taken_within_a_round() -> None:
    found = summary([one_round(100, 110), one_round(50, 52), one_round(100, 120)], {BASE: 80_000, BINARY: 60_000})
    assert found["figures"][BINARY]["ratio"] == {"median": 1.1, "least": 1.04, "most": 1.2}
    assert [(goal["figure"]["median"], goal["met"]) for goal in found["goals"]] == [(0.75, True), (1.1, True)]
    machine = {
        "processor": "P",
        "instruction_sets": [],
        "cores": 2,
        "memory_gb": 8,
        "python": "3",
        "torch": "2",
        "torchserve": "0",
    }
    about: dict[str, Any] = {
        "date": "2026-01-01",
        "seconds": 60,
        "machine": machine,
        "weights": "untrained",
        "load_s": 8,
    }
    about |= {"images": {}, "warm_up_s": 1, "round_count": 3, "kinds": {kind.name: found for kind in CLIENTS}}
    assert "| v2: bytes behind the JSON | 60000 | 0.75 | 110.0 (52.0–120.0) | 1.10 (1.04–1.20) |" in tables.protocols(
        about
    )
