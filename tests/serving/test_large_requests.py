"""Many requests of the largest size at once: none is lost, and no worker."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import yaml
from ts.model_server import load_properties

from pipeline.serving.torchserve import TorchServe
from reliability.pictures import base64_text

CLIENTS = 48  # of which 20 connections broke off, and a worker was lost, when the JVM had half of the memory


def test_many_of_the_largest_at_once(server: TorchServe, photographs: list[Path], checkout: Path) -> None:
    settings = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())
    image = photographs[0].read_bytes()
    largest = image + bytes(settings["handler"]["limits"]["max_image_bytes"] - len(image))
    body = json.dumps({"instances": [{"b64": base64_text(largest)}]}).encode()
    body += b" " * (int(load_properties(str(checkout / "config.properties"))["max_request_size"]) - len(body))
    workers = {process.pid for process in server.processes()}

    def ask(_: int) -> int:
        headers = {"Content-Type": "application/json"}
        return httpx.post(server.predict_url, content=body, headers=headers, timeout=120, trust_env=False).status_code

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert list(pool.map(ask, range(CLIENTS))) == [200] * CLIENTS
    assert {process.pid for process in server.processes()} == workers
