"""Many of the largest requests at once: some are told to retry, but no request and no worker is lost."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import yaml
from ts.model_server import load_properties

from pipeline.serving.torchserve import TorchServe
from reliability.pictures import base64_text

JSON = {"Content-Type": "application/json"}
PATIENCE = 60  # 503 answers, each with a wait of a second or more
CLIENTS = 48  # with half the memory for the JVM, 20 connections and a worker were lost


def test_many_of_the_largest_at_once(server: TorchServe, photographs: list[Path], checkout: Path) -> None:
    settings = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())
    image = photographs[0].read_bytes()
    largest = image + bytes(settings["handler"]["limits"]["max_image_bytes"] - len(image))
    body = json.dumps({"instances": [{"b64": base64_text(largest)}]}).encode()
    body += b" " * (int(load_properties(str(checkout / "config.properties"))["max_request_size"]) - len(body))
    workers = {process.pid for process in server.processes()}

    def ask(_: int) -> int:
        """How often it was told to retry."""
        for refused in range(PATIENCE):
            response = httpx.post(server.predict_url, content=body, headers=JSON, timeout=120, trust_env=False)
            if response.status_code == 200:
                return refused
            assert response.status_code == 503
            assert response.json()["error"].startswith("server: ")
            time.sleep(int(response.headers["Retry-After"]))
        raise AssertionError(f"refused {PATIENCE} times")

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert len(list(pool.map(ask, range(CLIENTS)))) == CLIENTS
    assert {process.pid for process in server.processes()} == workers
