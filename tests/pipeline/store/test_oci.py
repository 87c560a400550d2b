"""A version in a registry: a pull gives exactly the bytes that were published, or nothing.

Asked of the real registry and of the small one, so that the tests that need trouble may have it from the small one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, VERSION_FILE, Version
from pipeline.shared.errors import PipelineError
from pipeline.store.oci.layout import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    Artefact,
    Blob,
    artefact_of,
    description_layer,
)
from pipeline.store.oci.pushing import Pushed, push_version
from pipeline.store.oci.reading import list_tags, read_whole
from pipeline.store.oci.registry import Registry
from pipeline.store.oci.uri import OciUri
from pipeline.store.publish import Outcome
from pipeline.store.pull import pull_version
from tests.support.oci_registry import Behind

Files = Mapping[str, Path]
Publish = Callable[[Files], Outcome]


def push(registry: Behind, files: Files) -> Pushed:
    with Registry(registry.uri, for_writing=True) as opened:
        return push_version(opened, Version.of(files), files, lambda *_: None)


def pull(uri: OciUri, cache: Path, note: Callable[[str], None] = pytest.fail) -> Path:
    return pull_version(uri, cache, lambda *_: None, note)


def refusal(uri: OciUri, cache: Path) -> str:
    """The message of a failed pull, which leaves nothing behind."""
    with pytest.raises(PipelineError) as refused:
        pull(uri, cache)
    assert "\n" not in str(refused.value)
    assert all(left.endswith(".lock") for left in os.listdir(cache))
    return str(refused.value)


def files_in(directory: Path) -> dict[str, bytes]:
    found = (file for file in directory.rglob("*") if file.is_file())
    return {str(file.relative_to(directory)): file.read_bytes() for file in found}


def download_as_kserve_does(uri: OciUri, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What an InferenceService's init container does with oci+fetch://, which it receives as oci://."""
    pytest.importorskip("oras")  # a dependency of KServe's library, but not for Python 3.14
    from kserve_storage import Storage

    with monkeypatch.context() as patch:
        patch.setenv("KSERVE_OCI_INSECURE_REGISTRY", "true")
        patch.setenv("HOME", str(directory))  # where it stores credentials
        return Path(Storage.download(str(uri), str(directory)))


# --- When all is well -------------------------------------------------------------------------------------------------


def test_what_was_pushed_arrives_byte_for_byte(registry: Behind, large: Files, tmp_path: Path) -> None:
    done = push(registry, large)
    version = Version.of(large)
    assert done.new
    assert str(done.uri).startswith(f"{registry.uri}:{version.name}@sha256:")
    expected = {name: file.read_bytes() for name, file in large.items()} | {VERSION_FILE: version.to_json()}
    assert files_in(pull(done.uri, tmp_path / "cache")) == expected


def test_kserves_own_storage_initializer_makes_the_same_files_of_it_as_of_cloud_storage(
    registry: Behind, publish: Publish, small: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_cloud_storage = pull_version(publish(small).uri, tmp_path / "cache", lambda *_: None, pytest.fail)
    uri = push(registry, small).uri
    by_digest = download_as_kserve_does(uri, tmp_path / "digest", monkeypatch)
    by_tag = download_as_kserve_does(replace(uri, digest=""), tmp_path / "tag", monkeypatch)
    assert files_in(by_digest) == files_in(by_tag) == files_in(from_cloud_storage)


def test_the_same_again_sends_nothing(registry: Behind, small: Files) -> None:
    first, second = push(registry, small), push(registry, small)
    assert (first.new, second.new) == (True, False)
    assert (first.uri, second.sent) == (second.uri, 0)
    assert registry.tags == [first.uri.tag]


def test_two_registries_get_the_same_bytes(registry: Behind, small: Files) -> None:
    done = push(registry, small)
    artefact = artefact_of(Version.of(small), small)
    assert registry.manifest(done.uri.tag) == artefact.manifest
    assert done.uri.digest == artefact.digest


def test_what_another_has_published_with_other_tools_is_the_same_version(registry: Behind, small: Files) -> None:
    theirs = replace(Version.of(small), tools={"python": "3.14.0"})
    with Registry(registry.uri, for_writing=True) as opened:
        first = push_version(opened, theirs, small, lambda *_: None)
    assert push(registry, small) == Pushed(first.uri, 0, new=False)


def test_a_signature_is_a_part_of_it(registry: Behind, small: Files, tmp_path: Path) -> None:
    signature = tmp_path / SIGNATURE
    signature.write_bytes(b"{}")
    plain, signed = push(registry, small), push(registry, {**small, SIGNATURE: signature})
    assert plain.uri.tag != signed.uri.tag
    assert signed.sent < plain.sent  # the archive is there
    assert (pull(signed.uri, tmp_path / "cache") / SIGNATURE).read_bytes() == b"{}"


def test_progress_goes_to_its_end(registry: Behind, large: Files) -> None:
    told: list[tuple[int, int]] = []
    with Registry(registry.uri, for_writing=True) as opened:
        sent = push_version(opened, Version.of(large), large, lambda *bytes_: told.append(bytes_)).sent
    assert told == sorted(told)
    assert told[-1] == (sent, sent)
    assert {total for _, total in told} == {sent}


def test_what_is_in_the_cache_is_not_asked_for(registry: Behind, small: Files, tmp_path: Path) -> None:
    uri = push(registry, small).uri
    directory = pull(uri, tmp_path / "cache")
    nowhere = replace(uri, registry="127.0.0.1:9")
    assert pull(nowhere, tmp_path / "cache") == directory


def test_a_digest_is_checked_in_the_cache_too(registry: Behind, small: Files, tmp_path: Path) -> None:
    """Another version under the same name, which is only the beginning of a hash."""
    uri = push(registry, small).uri
    directory = pull(uri, tmp_path / "cache")
    notes: list[str] = []
    assert pull(uri, tmp_path / "cache", notes.append) == directory
    other = replace(uri, digest=f"sha256:{'0' * 64}")
    with pytest.raises(PipelineError, match="there is no version sha256:000"):
        pull(other, tmp_path / "cache", notes.append)
    assert notes == [
        f"The copy in {directory} is damaged (its digest is not the one in the URI): it is downloaded again."
    ]
    assert pull(uri, tmp_path / "cache") == directory  # the copy was left, because nothing replaced it


@pytest.mark.parametrize("size", [10**40, 2**63, -1, True])
def test_a_size_that_no_file_has_is_reported_with_the_other_versions(
    registry: Behind, small: Files, large: Files, size: int
) -> None:
    uri = push(registry, small).uri
    version = Version.of(large)
    hostile = replace(
        version, objects={name: replace(checksums, size=size) for name, checksums in version.objects.items()}
    )
    blob = registry.put_blob(description_layer(hostile.to_json()))
    manifest = json.loads(registry.manifest(uri.tag)) | {"layers": layers(blob)}
    registry.put_manifest(hostile.name, json.dumps(manifest).encode(), str(manifest["mediaType"]))
    warnings: list[str] = []
    with Registry(registry.uri) as asked:
        assert [found for found, _ in list_tags(asked, warnings.append)] == [uri]
    assert ["does not describe a version" in warning for warning in warnings] == [True]


def test_a_damaged_copy_is_downloaded_again(registry: Behind, small: Files, tmp_path: Path) -> None:
    uri = push(registry, small).uri
    notes: list[str] = []
    (pull(uri, tmp_path / "cache") / CONFIG).write_bytes(b"x")
    directory = pull(uri, tmp_path / "cache", notes.append)
    assert (directory / CONFIG).read_bytes() == small[CONFIG].read_bytes()
    assert "is damaged" in notes[0]


def test_all_versions_are_listed(registry: Behind, small: Files, large: Files) -> None:
    first, second = push(registry, small).uri, push(registry, large).uri
    registry.put_manifest("latest", registry.manifest(first.tag))
    with Registry(registry.uri) as opened:
        found = list_tags(opened, pytest.fail)
    assert found == sorted([(first, Version.of(small)), (second, Version.of(large))], key=lambda pair: pair[0].tag)


def test_a_version_that_cannot_be_read_is_told_beside_the_others(registry: Behind, small: Files, large: Files) -> None:
    first, second = push(registry, small).uri, push(registry, large).uri
    registry.put_manifest(second.tag, registry.manifest(first.tag))
    warnings: list[str] = []
    with Registry(registry.uri) as opened:
        assert list_tags(opened, warnings.append) == [(first, Version.of(small))]
    (warning,) = warnings
    assert f"{second.parent}:{second.tag} has a different version, {first.tag}, under this tag" in warning


def test_where_nothing_was_pushed_nothing_is_listed(registry: Behind) -> None:
    with Registry(registry.uri) as opened:
        assert list_tags(opened, pytest.fail) == []


# --- Missing, or something else ---------------------------------------------------------------------------------------


def test_a_tag_that_is_not_there_is_told(registry: Behind, small: Files, tmp_path: Path) -> None:
    expected = f"there is no version 0123456789ab in {registry.uri}: scripts/publish.sh --list {registry.uri} shows"
    assert refusal(registry.uri.at("0123456789ab"), tmp_path / "cache").startswith(expected)
    uri = push(registry, small).uri
    gone = replace(uri, digest=f"sha256:{'0' * 64}")
    assert f"no version {gone.digest} in" in refusal(gone, tmp_path / "cache")


def test_a_tag_that_is_no_versions_is_told(registry: Behind, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="is not a version, which has a tag of twelve hexadecimal digits"):
        pull(registry.uri.at("latest"), tmp_path / "cache")


def test_another_content_under_the_same_tag_is_refused_and_left(
    registry: Behind, small: Files, large: Files, tmp_path: Path
) -> None:
    other = push(registry, large).uri
    name = Version.of(small).name
    content = registry.manifest(other.tag)
    registry.put_manifest(name, content)
    with pytest.raises(PipelineError, match="already exists with other content"):
        push(registry, small)
    assert registry.manifest(name) == content
    assert f"has a different version, {other.tag}, under this tag" in refusal(registry.uri.at(name), tmp_path / "cache")


def test_a_digest_of_another_version_is_told(registry: Behind, small: Files, large: Files, tmp_path: Path) -> None:
    first, second = push(registry, small).uri, push(registry, large).uri
    assert f"has a different version, {second.tag}," in refusal(
        replace(first, digest=second.digest), tmp_path / "cache"
    )


# --- Not a version, or changed ----------------------------------------------------------------------------------------


def forged(registry: Behind, small: Files, **changes: object) -> OciUri:
    """A version with changed fields in its manifest."""
    uri = push(registry, small).uri
    manifest = json.loads(registry.manifest(uri.tag)) | changes
    registry.put_manifest(uri.tag, json.dumps(manifest).encode(), str(manifest["mediaType"]))
    return replace(uri, digest="")


def layers(*blobs: Blob, media_type: str = LAYER_TYPE) -> list[dict[str, object]]:
    return [{"mediaType": media_type, "digest": blob.digest, "size": blob.size} for blob in blobs]


@pytest.mark.parametrize(
    ("media_type", "reason"),
    [
        (f"{LAYER_TYPE}+gzip", f"has a layer of the type '{LAYER_TYPE}+gzip'"),
        (f"{LAYER_TYPE}+zstd", f"has a layer of the type '{LAYER_TYPE}+zstd'"),
        ("application/json", "has a layer of the type 'application/json'"),
    ],
)
def test_layers_of_another_type_are_refused(
    registry: Behind, small: Files, tmp_path: Path, media_type: str, reason: str
) -> None:
    blob = registry.put_blob(b"x")
    uri = forged(registry, small, layers=layers(blob, media_type=media_type))
    assert reason in refusal(uri, tmp_path / "cache")


def test_a_list_of_images_is_refused(registry: Behind, small: Files, tmp_path: Path) -> None:
    uri = push(registry, small).uri
    entry = {"mediaType": MANIFEST_TYPE, "digest": uri.digest, "size": len(registry.manifest(uri.tag))}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
    registry.put_manifest(uri.tag, json.dumps(index).encode(), INDEX_TYPE)
    assert "is a list of images for several systems" in refusal(replace(uri, digest=""), tmp_path / "cache")


def test_an_image_that_is_no_version_is_refused(registry: Behind, tmp_path: Path) -> None:
    config, layer = registry.put_blob(b"{}"), registry.put_blob(b"no tar")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": config.digest, "size": config.size},
        "layers": layers(layer),
    }
    registry.put_manifest("0123456789ab", json.dumps(manifest).encode())
    sentence = refusal(registry.uri.at("0123456789ab"), tmp_path / "cache")
    assert "has a first layer that is not its version.json" in sentence


def test_no_layers_are_refused(registry: Behind, small: Files, tmp_path: Path) -> None:
    assert "has no layers" in refusal(forged(registry, small, layers=[]), tmp_path / "cache")


def test_a_first_layer_that_is_too_large_is_not_read(registry: Behind, small: Files, tmp_path: Path) -> None:
    blob = registry.put_blob(bytes(1_010_000))
    sentence = refusal(forged(registry, small, layers=layers(blob)), tmp_path / "cache")
    assert "has a first layer of 1010000 bytes" in sentence


@pytest.mark.parametrize("more", [False, True])
def test_a_layer_too_many_or_too_few_is_refused(registry: Behind, small: Files, tmp_path: Path, more: bool) -> None:
    artefact = artefact_of(Version.of(small), small)
    described = Blob.of(artefact.description)
    extra = registry.put_blob(b"more")
    found = [described, *artefact.layers.values(), extra] if more else [described]
    sentence = refusal(forged(registry, small, layers=layers(*found)), tmp_path / "cache")
    assert f"has {len(found)} layers, but its files need {1 + len(small)}" in sentence


def test_a_layer_of_another_size_is_refused_before_it_is_read(registry: Behind, small: Files, tmp_path: Path) -> None:
    artefact = artefact_of(Version.of(small), small)
    bomb = Blob(artefact.layers[ARCHIVE].digest, 10**15)
    described = Blob.of(artefact.description)
    sentence = refusal(
        forged(registry, small, layers=layers(described, artefact.layers[CONFIG], bomb)), tmp_path / "cache"
    )
    assert f"has {10**15} bytes for {ARCHIVE}" in sentence


def test_another_manifest_than_the_files_make_is_refused(registry: Behind, small: Files, tmp_path: Path) -> None:
    uri = forged(registry, small, annotations={"a": "b"})
    assert "has a manifest that does not match its files" in refusal(uri, tmp_path / "cache")


def test_a_description_that_was_changed_is_refused(registry: Behind, small: Files, tmp_path: Path) -> None:
    version = Version.of(small)
    other = version.to_json().replace(b'"untrained"', b'"imagenet"').replace(b'"tiny"', b'"imagenet"')
    assert other != version.to_json()
    blob = registry.put_blob(description_layer(other))
    artefact = artefact_of(version, small)
    uri = forged(registry, small, layers=layers(blob, *(artefact.layers[name] for name in sorted(small))))
    assert "has a manifest that does not match its files" in refusal(uri, tmp_path / "cache")


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.replace(b"models/config/config.properties", b"/tmp/absolute" + bytes(18)),
        lambda layer: layer.replace(b"models/config/config.properties", b"models/../../../../../etc/cron" + b"d"),
        lambda layer: layer[:156] + b"2" + layer[157:],  # a symbolic link
        lambda layer: layer[:156] + b"1" + layer[157:],  # a hard link
        lambda layer: layer[:156] + b"3" + layer[157:],  # a device
        lambda layer: layer[:-1] + b"x",
        lambda layer: layer[:600] + b"#" + layer[601:],
    ],
    ids=["absolute", "upwards", "symlink", "hardlink", "device", "after the end", "the content"],
)
def test_a_layer_with_something_else_than_its_file_is_refused(
    registry: Behind, small: Files, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    version = Version.of(small)
    artefact = artefact_of(version, small)
    layer = registry_layer(registry, small, artefact)
    changed = registry.put_blob(change(layer))
    assert changed.size == len(layer)
    assert changed.digest != artefact.layers[CONFIG].digest
    other = Artefact(version, {**artefact.layers, CONFIG: changed})
    registry.put_blob(other.config)
    registry.put_manifest(version.name, other.manifest)
    sentence = refusal(registry.uri.at(version.name), tmp_path / "cache")
    assert f"the layer with {CONFIG} is not what was published" in sentence or "is damaged" in sentence
    assert not Path("/tmp/absolute").exists()


def registry_layer(registry: Behind, small: Files, artefact: Artefact) -> bytes:
    push(registry, small)
    return registry.blob(artefact.layers[CONFIG].digest)


def test_a_version_that_is_whole_has_all_its_layers(registry: Behind, small: Files) -> None:
    uri = push(registry, small).uri
    with Registry(uri) as opened:
        assert read_whole(opened, uri).version == Version.of(small)
