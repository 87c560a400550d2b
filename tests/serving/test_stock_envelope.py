"""The archive under TorchServe's stock KServe envelope, set up like KServe's own torchserve runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.client import Client
from pipeline.serving.protocol import Protocol
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.errors import NotClassified
from pipeline.shared.ports import Ports
from reliability.pictures import base64_text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stock(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    with ZipFile(directory / "model-store" / "alexnet.mar") as archive:
        version = json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]["modelVersion"]
    settings = {
        "defaultVersion": True,
        "marName": "alexnet.mar",
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": 1,
        "maxBatchDelay": 10,
        "responseTimeout": 60,
    }
    snapshot = {"name": "startup.cfg", "modelCount": 1, "models": {"alexnet": {version: settings}}}
    made = tmp_path_factory.mktemp("stock")
    (made / "config").mkdir()
    (made / "model-store").symlink_to(directory / "model-store")
    (made / "config" / "config.properties").write_text(
        "enable_envvars_config=true\n"
        "disable_token_authorization=true\n"
        "install_py_dep_per_model=true\n"
        f"model_snapshot={json.dumps(snapshot)}\n"
    )
    with TorchServe(made, MODEL_NAME, Ports.any_free(), environment={"TS_SERVICE_ENVELOPE": "kserve"}) as running:
        yield running


def test_the_envelope_wraps_predictions(stock: TorchServe, server: TorchServe, photographs: list[Path]) -> None:
    for field in ("b64", "data"):
        body = {"instances": [{field: base64_text(photograph.read_bytes())} for photograph in photographs]}
        answers = [httpx.post(served.predict_url, json=body, timeout=60, trust_env=False) for served in (stock, server)]
        assert [answer.status_code for answer in answers] == [200, 200]
        found, expected = (
            [[entry["label"] for entry in prediction["classes"]] for prediction in answer.json()["predictions"]]
            for answer in answers
        )
        assert found == expected


def test_errors_keep_status_and_shape(stock: TorchServe) -> None:
    for instances, sentence in (
        ([{"b64": "AAAA"}], "instances[0].b64: not an image (JPEG, PNG, WebP, GIF, BMP or TIFF expected)"),
        ([], "instances: expected a list of at least one instance"),
        ([{}, {}], "instances[0]: expected exactly one of b64, data, image, image_bytes, url"),
    ):
        response = httpx.post(stock.predict_url, json={"instances": instances}, timeout=60, trust_env=False)
        assert (response.status_code, response.json()) == (400, {"error": sentence})


@pytest.mark.parametrize("protocol", [Protocol.RAW, Protocol.V2])
def test_what_the_envelope_does_not_take_is_told_with_what_it_takes(
    stock: TorchServe, photographs: list[Path], protocol: Protocol
) -> None:
    with Client(stock.url, MODEL_NAME, protocol=protocol) as client, pytest.raises(NotClassified) as raised:
        client.predict(str(photographs[0]), top_k=1)
    assert str(raised.value).endswith(": a runtime that takes only JSON, such as the stock one, needs --protocol v1")
    with Client(stock.url, MODEL_NAME, protocol=Protocol.V1) as client:
        assert client.predict(str(photographs[0]), top_k=1)
