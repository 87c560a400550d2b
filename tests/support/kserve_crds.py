"""KServe's CRDs: in the folder that KSERVE_CRDS names, else in ../shared/kserve-crds, else downloaded once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
import yaml

from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import PipelineError
from pipeline.shared.http import http_client
from pipeline.shared.text import one_line
from pipeline.store.pull import cache_directory
from tests.support.structural_schema import Schema

# "serving.kserve.io/v1beta1 InferenceService" → its schema
Schemas = dict[str, Schema]

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "kserve-crds"
VERSION = "0.20.0"
SOURCE = f"https://raw.githubusercontent.com/kserve/kserve/v{VERSION}/config/crd/full"
CLUSTER_SERVING_RUNTIMES_SHA256 = "c6f6bbb1b4b11afd1e38bd6d7255a8795b86efa2b7d14946ccff9d23592e6846"
INFERENCE_SERVICES_SHA256 = "57c3bf13f77de94678bf2ae3748056ec071ad2b9e88d6a28f44fb4710758fcff"
SERVING_RUNTIMES_SHA256 = "380a3e1e1444cef9b8b88819596692728868205a2147dc66423be469a4a7bbb1"
SHA256 = {
    "serving.kserve.io_clusterservingruntimes.yaml": CLUSTER_SERVING_RUNTIMES_SHA256,
    "serving.kserve.io_inferenceservices.yaml": INFERENCE_SERVICES_SHA256,
    "serving.kserve.io_servingruntimes.yaml": SERVING_RUNTIMES_SHA256,
}
TIMEOUT = httpx.Timeout(20, connect=3)  # seconds


@pytest.fixture(scope="session")
def crd_schemas() -> Schemas:
    """What the API server accepts for KServe's kinds."""
    schemas: Schemas = {}
    for file in crd_folder().glob("*.yaml"):
        crd = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]
        for version in crd["versions"]:
            schemas[f"{crd['group']}/{version['name']} {crd['names']['kind']}"] = version["schema"]["openAPIV3Schema"]
    return schemas


def crd_folder(beside: Path = BESIDE, source: str = SOURCE) -> Path:
    """Skips the test, saying what to do, if they are not available."""
    if named := os.environ.get("KSERVE_CRDS"):
        return Path(named) if Path(named).is_dir() else _skip(f"are not in {named}")
    if beside.is_dir():
        return beside
    try:
        kept = cache_directory() / f"kserve-crds-{VERSION}"
        with http_client(TIMEOUT) as http:
            for name, sha256 in SHA256.items():
                if not _has(kept / name, sha256):
                    _download(http, f"{source}/{name}", kept / name, sha256)
    except (PipelineError, OSError) as error:
        _skip(f"cannot be downloaded or kept ({one_line(error)})")
    return kept


def _has(file: Path, sha256: str) -> bool:
    return file.is_file() and sha256_of(file) == sha256


def _download(http: httpx.Client, url: str, file: Path, sha256: str) -> None:
    try:
        content = http.get(url).raise_for_status().content
    except httpx.HTTPError as error:
        _skip(f"could not be downloaded from {url} ({one_line(error) or type(error).__name__})")
    if hashlib.sha256(content).hexdigest() != sha256:
        _skip(f"could not be downloaded: what came from {url} has another SHA-256 than the published file")
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(content)
    os.replace(part, file)


def _skip(reason: str) -> NoReturn:
    pytest.skip(f"KServe's CRDs {reason}: set KSERVE_CRDS=DIR")
