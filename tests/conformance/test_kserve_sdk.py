"""The kit against another real server: KServe's SDK, which fails the checks that the kit's page lists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.__main__ import main
from pipeline.shared.ports import Ports

pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")

KIT = Path(__file__).resolve().parents[2] / "conformance"
WAITS = ["--model", "doubler", "--loading", "120", "--json"]


@pytest.fixture(scope="module")
def servers() -> Iterator[Ports]:
    """KServe's SDK with the page's model; it may still be starting."""
    ports = Ports.any_free()
    command = [sys.executable, str(KIT / "servers" / "kserve_sdk.py"), "--model_name=doubler"]
    at = [f"--http_port={ports.inference}", f"--grpc_port={ports.management}"]
    process = subprocess.Popen([*command, *at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield ports
    finally:
        process.terminate()
        process.wait(60)


def said_to_fail() -> set[str]:
    """`PROTOCOL NAME` of each row in the page's table."""
    page = (KIT / "README.md").read_text()
    chapter = page[page.index("### KServe's SDK") : page.index("### MLServer")]
    return {f"{protocol} {name}" for protocol, name in re.findall(r"^\| (v1|v2|grpc) `(\w+)`", chapter, re.MULTILINE)}


def counts(results: list[dict[str, str]]) -> str:
    outcomes = [each["outcome"] for each in results]
    passed, failed, advised = (outcomes.count(outcome) for outcome in ("passed", "failed", "advised"))
    return f"{passed} passed, {failed} failed, {advised} should"


def test_kserves_sdk_fails_where_the_page_says(servers: Ports, capsys: pytest.CaptureFixture[str]) -> None:
    results: dict[str, list[dict[str, str]]] = {}
    for protocol, url in (
        ("v1", f"http://127.0.0.1:{servers.inference}"),
        ("v2", f"http://127.0.0.1:{servers.inference}"),
        ("grpc", f"grpc://127.0.0.1:{servers.management}"),
    ):
        main([url, "--protocol", protocol, *WAITS])
        results[protocol] = json.loads(capsys.readouterr().out)
    everything = [each for part in results.values() for each in part]
    failed = {f"{each['protocol']} {each['check']}" for each in everything if each["outcome"] == "failed"}
    assert failed == said_to_fail()
    row = " | ".join(counts(results[protocol]) for protocol in ("v1", "v2", "grpc"))
    assert f"| KServe's SDK 0.21.0 | {row} |" in (KIT / "README.md").read_text()
