"""The served OpenAPI document is true: the server is called according to it, and as its page says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

PATIENCE_S = 60

# Its pytest plugin does not work with pytest 9.2.
SCHEMATHESIS = [sys.executable, "-m", "schemathesis.cli", "run"]
SETTINGS = """
hooks = "hooks.py"

[generation]
max-examples = 30  # random requests to each path
deterministic = true

[phases]
stateful.enabled = false  # nothing here changes anything

[phases.coverage]
# Not QUERY, which is newer than Envoy's list of methods: methods not on it are answered 400, as malformed HTTP.
unexpected-methods = ["DELETE", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"]

[checks]
negative_data_rejection.expected-statuses = [400, 403, 413, 415]
"""
# Forms have no types: what is invalid as an object may be valid once it is written as a form.
HOOKS = """
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection

@schemathesis.check
def wrong_data_is_refused(context, response, case):
    return case.media_type == "multipart/form-data" or negative_data_rejection(context, response, case)
"""


@pytest.fixture(scope="session")
def document(door_url: str) -> dict[str, Any]:
    answer = httpx.get(f"{door_url}/openapi.json", timeout=PATIENCE_S)
    assert answer.status_code == HTTPStatus.OK
    made: dict[str, Any] = answer.json()
    return made


def test_each_path_answers_as_the_document_says(door_url: str, document: dict[str, Any], tmp_path: Path) -> None:
    """The status, the content type, the headers and the body; anything the document does not allow is refused."""
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    (tmp_path / "hooks.py").write_text(HOOKS)
    (tmp_path / "openapi.json").write_text(json.dumps(document))  # given a URL, it would leave that URL out
    traffic = tmp_path / "traffic.har"
    told = subprocess.run(
        [
            *SCHEMATHESIS,
            "openapi.json",
            f"--url={door_url}",
            "--checks=all",
            "--exclude-checks=negative_data_rejection,positive_data_acceptance",  # see HOOKS; random text is no image
            "--continue-on-failure",
            "--suppress-health-check=all",
            f"--request-timeout={PATIENCE_S}",
            f"--report-har-path={traffic}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    seen = defaultdict(set)
    for entry in json.loads(traffic.read_text())["log"]["entries"]:
        seen[entry["request"]["method"], urlsplit(entry["request"]["url"]).path].add(entry["response"]["status"])
    for path, operations in document["paths"].items():
        for method in operations:
            assert HTTPStatus.OK in seen[method.upper(), path], f"{method} {path} was never answered 200"


def test_the_shell_lines_of_the_page_work(
    door_url: str, document: dict[str, Any], photographs: list[Path], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photographs[0].read_bytes())
    posts = [operations["post"] for operations in document["paths"].values() if "post" in operations]
    samples = [sample for post in posts for sample in post.get("x-codeSamples", [])]
    assert len(samples) == 4
    for sample in samples:
        with subtests.test(sample["source"]):
            pictures = max(1, sample["source"].count("=@photo.jpg"))
            said = subprocess.run(
                ["sh", "-euc", sample["source"]],
                cwd=tmp_path,
                env=os.environ | {"URL": door_url},
                capture_output=True,
                text=True,
                check=True,
            )
            answer = json.loads(said.stdout)
            if "outputs" in answer:
                assert [output["shape"] for output in answer["outputs"]] == [[pictures, 5]] * 3
            else:
                assert [bool(prediction["classes"]) for prediction in answer["predictions"]] == [True] * pictures
