"""Many requests of the largest size at once: none is lost, and no worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import yaml
from pictures import base64_text

from pipeline.torchserve import TorchServe


def test_sixteen_of_the_largest_at_once(server: TorchServe, photographs: list[Path], checkout: Path) -> None:
    settings = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())
    image = photographs[0].read_bytes()
    largest = image + bytes(settings["handler"]["limits"]["max_image_bytes"] - len(image))
    body = {"instances": [{"b64": base64_text(largest)}]}
    workers = {process.pid for process in server.processes()}

    def ask(_: int) -> int:
        return httpx.post(server.predict_url, json=body, timeout=120, trust_env=False).status_code

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(16))) == [200] * 16
    assert {process.pid for process in server.processes()} == workers
