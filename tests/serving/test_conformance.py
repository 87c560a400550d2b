"""This project's server under the conformance kit: it meets every requirement of the protocols that it speaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.__main__ import main
from pipeline.artefact.model import MODEL_NAME

# Recommendations that are not followed here, with the reason.
NOT_DONE: dict[str, set[str]] = {
    "v1": {"inputs_are_instances"},  # "inputs" are v2's tensors: a v2 call at v1's path gets an error that says so
    "v2": set(),
    "grpc": set(),
}
OURS, COLUMN = "| this project |", {"v1": 2, "v2": 3, "grpc": 4}  # in the kit's page


@pytest.mark.parametrize("protocol", sorted(NOT_DONE))
def test_every_demand_of_the_protocol_is_met(
    door_url: str, checkout: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--protocol", protocol, "--model", MODEL_NAME, "--loading", "60", "--json"]
    status = main([door_url, *options])
    results = json.loads(capsys.readouterr().out)
    assert [each for each in results if each["outcome"] == "failed"] == []
    assert {each["check"] for each in results if each["outcome"] == "advised"} == NOT_DONE[protocol]
    assert status == 0
    outcomes = [each["outcome"] for each in results]
    passed, advised = outcomes.count("passed"), outcomes.count("advised")
    [row] = [line for line in (checkout / "conformance" / "README.md").read_text().splitlines() if OURS in line]
    assert f" {passed} passed, 0 failed, {advised} should " in row.split("|")[COLUMN[protocol]]
