"""A signed model with another name, served by a real TorchServe behind the front door: everything uses its name."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pipeline.artefact.model import MODEL_NAME
from pipeline.artefact.signature import Signer
from pipeline.artefact.version import CONFIG, SIGNATURE, VERSION_FILE, Version, archive_of
from pipeline.serving.client import Client
from pipeline.serving.question import QUESTION
from pipeline.serving.torchserve import TorchServe, has_envoy
from pipeline.shared.ports import Ports

pytestmark = [
    pytest.mark.usefixtures("one_worker"),
    pytest.mark.slow,
    pytest.mark.skipif(not has_envoy(), reason="there is no Envoy for this platform"),
]

PETS = "pets"


@pytest.fixture(scope="module")
def pets_directory(checkout: Path, pets_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What scripts/publish.sh would have published, signed; and other things that may be in the store."""
    made = tmp_path_factory.mktemp("pets")
    files = {CONFIG: made / CONFIG, archive_of(PETS): made / archive_of(PETS)}
    files[CONFIG].parent.mkdir()
    shutil.copy(checkout / "config.properties", files[CONFIG])
    files[archive_of(PETS)].parent.mkdir()
    archive = Path(shutil.copy(pets_archive, files[archive_of(PETS)]))
    key = ec.generate_private_key(ec.SECP256R1())
    (made / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (made / "key.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    Signer(made / "key.pem").sign(files, made / SIGNATURE)
    (made / VERSION_FILE).write_bytes(Version.of(files | {SIGNATURE: made / SIGNATURE}).to_json())
    store = archive.parent
    shutil.copy(archive, store / f".{archive.name}.x7d2")
    shutil.copy(archive, store / ".other.mar")
    shutil.copy(archive, store / "other.model")
    with zipfile.ZipFile(archive) as opened:  # TorchServe also takes a folder for a model
        opened.extractall(store / "folder")
    manifest = store / "folder" / "MAR-INF" / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace(f'"{PETS}"', '"unsigned"'))
    return made


@pytest.fixture(scope="module")
def serving(pets_directory: Path) -> Iterator[TorchServe]:
    """Somebody has set variables that would make TorchServe load something else."""
    elsewhere = {"TS_LOAD_MODELS": "all", "TS_MODEL_STORE": "/gone", "TS_CONFIG_FILE": "/gone"}
    environment = {"ALEXNET_PUBLIC_KEY": str(pets_directory / "key.pub"), **elsewhere}
    with TorchServe(pets_directory, PETS, Ports.any_free(), environment=environment) as running:
        yield running


@pytest.fixture
def http(serving: TorchServe) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serving.url, trust_env=False, timeout=60) as opened:
        yield opened


def test_predictions_are_those_of_its_path_and_tell_its_version(
    http: httpx.Client, pets_directory: Path, photographs: list[Path]
) -> None:
    version = json.loads((pets_directory / VERSION_FILE).read_text())["version"]
    answer = http.post("/v1/models/pets:predict", json=QUESTION)
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, version)
    image = http.post(
        "/v1/models/pets:predict", content=photographs[0].read_bytes(), headers={"Content-Type": "image/jpeg"}
    )
    assert len(image.json()["predictions"][0]["classes"]) == 5
    assert http.post(f"/v1/models/{MODEL_NAME}:predict", json=QUESTION).status_code == 404


def test_the_server_tells_its_name_everywhere(http: httpx.Client) -> None:
    assert http.get("/v1/models").json() == {"models": [PETS]}
    assert http.get("/v1/models/pets").json() == {"name": PETS, "ready": True}
    assert http.get("/v2/models/pets/ready").status_code == 200
    assert http.get("/").json()["links"]["predict"] == "/v1/models/pets:predict"
    assert "/v1/models/pets:predict" in http.get("/openapi.json").json()["paths"]
    assert "/v1/models/pets:predict" in http.get("/docs").text
    for path in ("/openapi.json", "/docs"):
        assert f"models/{MODEL_NAME}" not in http.get(path).text


def test_metrics_have_its_name(serving: TorchServe, http: httpx.Client) -> None:
    http.post("/v1/models/pets:predict", json=QUESTION)
    told = httpx.get(f"{serving.metrics_url}/metrics", trust_env=False, timeout=60).text
    assert 'ts_inference_requests_total{model_name="pets"' in told
    assert f'model_name="{MODEL_NAME}"' not in told


def test_nothing_but_the_signed_archive_is_loaded(serving: TorchServe) -> None:
    """Whatever else is in the store, and whatever variables say."""
    told = httpx.get(f"{serving.management_url}/models", trust_env=False, timeout=60).json()
    assert told["models"] == [{"modelName": PETS, "modelUrl": f"{PETS}.mar"}]


def test_a_client_that_names_no_model_asks_the_one_that_is_there(serving: TorchServe, photographs: list[Path]) -> None:
    with Client(serving.url, MODEL_NAME) as client:
        client.find_model()
        assert client.address.model == PETS
        assert len(client.predict(str(photographs[0]), top_k=2)) == 2
    with Client(f"{serving.url}/v1/models/cats:predict", MODEL_NAME) as client:
        client.find_model()
        assert client.address.model == "cats"
