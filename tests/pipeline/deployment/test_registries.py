"""A version in a registry is deployed by its digest, where this cluster's KServe brings it into the pods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefact.version import ARCHIVE, Version
from pipeline.deployment.annotations import VERSION
from pipeline.store.oci.layout import artefact_of
from pipeline.store.oci.pushing import push_version
from pipeline.store.oci.registry import Registry
from pipeline.store.oci.uri import OciUri
from tests.support.api_server import ApiServer
from tests.support.deployments import Attempt, Deploy, Heard, Make
from tests.support.oci_registry import REPOSITORY, SmallRegistry

pytest_plugins = ["tests.support.deployments"]

Files = Mapping[str, Path]
ON = {"enableOciModelSupport": True}


def set_up(api: ApiServer, settings: object, version: str = "v0.21.0") -> None:
    """KServe of a version, with settings of its storage initializer."""
    api.controller = {"image": f"kserve/kserve-controller:{version}"}
    said = settings if isinstance(settings, str) else json.dumps(settings)
    api.objects["configmaps", "inferenceservice-config"] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
        "data": {"storageInitializer": said},
    }


@pytest.fixture
def published(small_registry: SmallRegistry, small: Files) -> OciUri:
    return push(small_registry, small)


def push(registry: SmallRegistry, files: Files) -> OciUri:
    repository = OciUri.parse(f"oci://{registry.address}/{REPOSITORY}")
    with Registry(repository, for_writing=True) as opened:
        return push_version(opened, Version.of(files), files, lambda *_: None).uri


def fetched(uri: OciUri) -> str:
    return str(uri).replace("oci://", "oci+fetch://")


def test_the_storage_initializer_is_told_to_pull_it_by_its_digest(
    api: ApiServer, deploy: Deploy, heard: Heard, published: OciUri
) -> None:
    set_up(api, ON)
    deploy(str(replace(published, digest="")))
    assert api.storage_uri == fetched(published)
    assert f"version      {fetched(published)} is whole" in heard.said
    assert api.service["metadata"]["annotations"][VERSION] == published.tag
    assert not [line for line in heard.warned if "not checked" in line]


@pytest.mark.parametrize("settings", [ON, {"enableModelcar": True}, {"ociModelMode": "native"}])
def test_any_of_the_settings_is_enough(api: ApiServer, deploy: Deploy, published: OciUri, settings: object) -> None:
    set_up(api, settings)
    deploy(fetched(published))
    assert api.storage_uri == fetched(published)


def test_the_kubelet_mounts_it_where_the_user_says_so(api: ApiServer, deploy: Deploy, published: OciUri) -> None:
    set_up(api, ON, "v0.20.0")
    native = str(published).replace("oci://", "oci+native://")
    deploy(native)
    assert api.storage_uri == native


def test_one_goes_back_to_the_version_before(
    api: ApiServer, make: Make, small_registry: SmallRegistry, published: OciUri, pets: Files, large: Files
) -> None:
    set_up(api, ON)
    second = push(small_registry, large)
    make().deploy(str(published))
    make().deploy(str(second))
    make().roll_back()
    assert api.storage_uris[-3:] == [fetched(published), fetched(second), fetched(published)]


@pytest.mark.parametrize(
    ("version", "scheme", "since"),
    [("v0.20.0", "oci://", "0.21"), ("v0.20.1", "oci+fetch://", "0.21"), ("v0.19.0", "oci+native://", "0.20")],
)
def test_a_kserve_that_is_too_old_is_told(
    api: ApiServer, refusal: Attempt, published: OciUri, version: str, scheme: str, since: str
) -> None:
    set_up(api, ON, version)
    written = "oci+native://" if "native" in scheme else "oci+fetch://"
    assert refusal(str(published).replace("oci://", scheme)) == (
        f"KServe supports {written} from {since} on, but this cluster has {version[1:]}: "
        "upgrade it, or publish the version to Cloud Storage (scripts/publish.sh gs://…)"
    )
    assert api.writes == []


@pytest.mark.parametrize("settings", [{}, {"enableModelcar": False, "ociModelMode": ""}])
def test_a_kserve_that_does_not_is_told(api: ApiServer, refusal: Attempt, published: OciUri, settings: object) -> None:
    """It would start pods without a model, and say nothing."""
    set_up(api, settings)
    assert refusal(str(published)) == (
        "this KServe does not pull from registries: set enableOciModelSupport to true in the part storageInitializer "
        "of the ConfigMap inferenceservice-config in namespace kserve"
    )
    assert api.writes == []


@pytest.mark.parametrize("settings", ["{", "[]"])
def test_settings_that_cannot_be_read_are_told(
    api: ApiServer, deploy: Deploy, heard: Heard, published: OciUri, settings: str
) -> None:
    set_up(api, settings)
    deploy(str(published))
    assert any(line.startswith("cannot tell whether this KServe pulls from registries") for line in heard.warned)


def test_settings_that_one_may_not_read_are_told(
    api: ApiServer, deploy: Deploy, heard: Heard, published: OciUri
) -> None:
    set_up(api, ON)
    api.refuse(403, "no", lambda call: "inferenceservice-config" in call.path)
    deploy(str(published))
    assert any(line.startswith("cannot tell whether this KServe pulls from registries") for line in heard.warned)


def test_another_storage_container_is_told(api: ApiServer, overlays: Path, refusal: Attempt, published: OciUri) -> None:
    set_up(api, ON)
    manifests = overlays / "standard" / "manifests.yaml"
    said = manifests.read_text()
    manifests.write_text(said.replace("    minReplicas: 1\n", "    minReplicas: 1\n    storageContainerName: own\n"))
    assert "the overlay names another (storageContainerName): " in refusal(str(published))
    assert api.writes == []


def test_a_version_that_is_not_whole_is_not_deployed(
    api: ApiServer, refusal: Attempt, small_registry: SmallRegistry, published: OciUri, small: Files
) -> None:
    set_up(api, ON)
    del small_registry.blobs[artefact_of(Version.of(small), small).layers[ARCHIVE].digest]
    assert refusal(str(published)).startswith(f"{published}: the layer with {ARCHIVE} is missing: ")
    assert api.calls == []


def test_a_version_that_is_not_there_is_not_deployed(api: ApiServer, refusal: Attempt, published: OciUri) -> None:
    gone: Any = replace(published, tag="0123456789ab", digest="")
    assert refusal(str(gone)).startswith("there is no version 0123456789ab in ")
    assert api.calls == []
