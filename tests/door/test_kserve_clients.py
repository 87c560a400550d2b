"""KServe's own clients work with the service: its Python SDK, and a transformer in front of it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe, has_envoy
from pipeline.shared.ports import Ports, free_ports
from reliability.pictures import base64_text
from tests.support.waiting import PATIENCE_S

kserve = pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")
pytestmark = [
    pytest.mark.usefixtures("one_worker"),
    pytest.mark.slow,
    pytest.mark.skipif(not has_envoy(), reason="there is no Envoy for this platform"),
]

TRANSFORMER = """
import argparse
import kserve

class PassOn(kserve.Model):
    def __init__(self, name):
        super().__init__(name, return_response_headers=False)
        self.ready = True
    def preprocess(self, payload, headers=None):
        return payload
    def postprocess(self, response, headers=None):
        return response

arguments, _ = argparse.ArgumentParser(parents=[kserve.model_server.parser]).parse_known_args()
kserve.ModelServer(workers=1, enable_grpc=False).start([PassOn(arguments.model_name)])
"""


async def asked(url: str, protocol: str, names: tuple[str, ...]) -> dict[str, Any]:
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol=protocol, timeout=PATIENCE_S, retries=0))
    answers = {}
    try:
        for name in names:
            arguments = (MODEL_NAME,) if name == "is_model_ready" else ()
            try:
                answers[name] = await getattr(client, name)(url, *arguments)
            except httpx.HTTPError as error:
                answers[name] = type(error).__name__
    finally:
        await client.close()
    return answers


def test_the_sdk_finds_it_alive_and_ready(server: TorchServe) -> None:
    v1 = asyncio.run(asked(server.url, "v1", ("is_server_live", "is_model_ready")))
    assert v1 == {"is_server_live": True, "is_model_ready": True}
    v2 = asyncio.run(asked(server.url, "v2", ("is_server_live", "is_server_ready", "is_model_ready")))
    assert v2 == {"is_server_live": True, "is_server_ready": True, "is_model_ready": True}


def test_the_sdk_finds_a_model_that_died_not_ready(light_directory: Path) -> None:
    """Its workers are paused at any moment: the process exists, but answers nothing."""
    environment = {"READY_WITHIN_S": "7", "LIVE_WITHIN_S": "7"}  # it is queried every five
    with TorchServe(light_directory, MODEL_NAME, Ports.any_free(), environment=environment) as running:
        workers = [one for one in running.processes() if any("model_service_worker" in word for word in one.cmdline())]
        for worker in workers:
            worker.suspend()
        deadline = time.monotonic() + PATIENCE_S
        while asyncio.run(asked(running.url, "v1", ("is_model_ready",))) == {"is_model_ready": True}:
            assert time.monotonic() < deadline
        answers = asyncio.run(asked(running.url, "v1", ("is_server_live", "is_model_ready")))
        assert True not in answers.values()
        answers = asyncio.run(asked(running.url, "v2", ("is_server_live", "is_server_ready", "is_model_ready")))
        assert True not in answers.values()
        for worker in workers:
            worker.resume()


@contextmanager
def transformer(server: TorchServe, tmp_path: Path) -> Iterator[str]:
    program = tmp_path / "transformer.py"
    program.write_text(TRANSFORMER)
    (port,) = free_ports(1)
    command = [sys.executable, str(program), "--model_name", MODEL_NAME, "--predictor_protocol", "v1"]
    command += ["--predictor_host", server.url.removeprefix("http://"), "--http_port", str(port)]
    command += ["--enable_predictor_health_check"]
    with open(tmp_path / "log", "wb") as log:
        process = psutil.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not any(one.status == psutil.CONN_LISTEN for one in process.connections(kind="tcp")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


def test_a_transformer_that_checks_its_predictor_serves(
    server: TorchServe, photographs: list[Path], tmp_path: Path
) -> None:
    with transformer(server, tmp_path) as url, httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as http:
        ready = http.get(f"/v1/models/{MODEL_NAME}")
        assert (ready.status_code, ready.json()) == (200, {"name": MODEL_NAME, "ready": True}), ready.text
        assert http.get("/v2/health/ready").status_code == 200
        body = {"instances": [{"b64": base64_text(photographs[0].read_bytes())}]}
        answer = http.post(f"/v1/models/{MODEL_NAME}:predict", json=body)
        assert answer.status_code == 200, answer.text
        assert len(json.loads(answer.content)["predictions"]) == 1
