"""An archive from before the front door: published versions never change, and a roll-back may use one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.artefact.archive import build_archive
from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe, has_envoy
from pipeline.shared.ports import Ports
from reliability.pictures import base64_text

pytestmark = [
    pytest.mark.usefixtures("one_worker"),
    pytest.mark.slow,
    pytest.mark.skipif(not has_envoy(), reason="there is no Envoy for this platform"),
]


@pytest.fixture(scope="module")
def older(checkout: Path, contents: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """Its handler ignores the headers that the door sends, and sends none that the door reads."""
    made = tmp_path_factory.mktemp("older")
    (made / "config").mkdir()
    shutil.copy(checkout / "config.properties", made / "config")
    shutil.copytree(checkout / "handler", made / "handler")
    for file, known, unknown in (
        ("entry.py", "context.set_response_header(", "(lambda *_: None)("),
        ("vision/worker/torchserve.py", '"x-client-content-type"', '"x-not-there-yet"'),
    ):
        text = (made / "handler" / file).read_text()
        assert text.count(known) == 1
        (made / "handler" / file).write_text(text.replace(known, unknown))
    build_archive(made / "handler", contents, MODEL_NAME, made / "model-store" / f"{MODEL_NAME}.mar")
    with TorchServe(made, MODEL_NAME, Ports.any_free()) as running:
        yield running


def test_json_and_images_are_answered(older: TorchServe, photographs: list[Path]) -> None:
    image = photographs[0].read_bytes()
    with httpx.Client(trust_env=False, timeout=60) as http:
        answers = [
            http.post(older.predict_url, json={"instances": [{"b64": base64_text(image)}]}),
            http.post(older.predict_url, content=image, headers={"Content-Type": "image/jpeg"}),
            http.post(older.predict_url, content=image, headers={"Content-Type": "application/octet-stream"}),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.content for answer in answers}) == 1


def test_its_refusals_keep_their_words(older: TorchServe) -> None:
    with httpx.Client(trust_env=False, timeout=60) as http:
        refused = http.post(older.predict_url, json={"instances": []})
        form = http.post(older.predict_url, files={"data": b"no image"})
    sentence = "instances: expected a list of at least one instance"
    assert (refused.status_code, refused.json()) == (400, {"error": sentence})
    assert form.status_code == 400
    assert form.json()["error"].startswith("body: ")
