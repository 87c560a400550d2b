"""scripts/deploy.sh --golden with answers from a real model: the API server's proxy leads to a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.deployment.golden import read_golden
from pipeline.serving.torchserve import TorchServe
from reliability.pictures import views
from tests.support.api_server import URL, ApiServer, Call
from tests.support.deployments import ONE, TWO, Deploy, Heard

pytest_plugins = ["tests.support.deployments"]


def test_a_real_model_agrees_with_itself_in_all_of_its_classes(
    server: TorchServe,
    api: ApiServer,
    deploy: Deploy,
    heard: Heard,
    photographs: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = []

    def forward(call: Call) -> Any:
        url = server.url + call.path.partition("/proxy")[2]
        answer = httpx.request(call.method, url, json=call.body, trust_env=False, timeout=60).raise_for_status().json()
        counts.append(len(answer["predictions"][0]["classes"]))
        return answer

    monkeypatch.setattr(api, "_serve", forward)
    (tmp_path / "golden").mkdir()
    for number, view in enumerate(views(photographs, 20)):
        (tmp_path / "golden" / f"{number:02}.jpg").write_bytes(view)
    deploy(ONE)
    golden = read_golden(str(tmp_path / "golden"), 1)
    assert deploy(TWO, golden=golden) == URL
    assert counts.count(1000) >= 4 * 20
    said = "\n".join(heard.said)
    assert "100.0%, 20 of 20 pictures" in said
    assert "movement, mean         0.0000" in said
