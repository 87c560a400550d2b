"""A version is the same OCI artefact, byte for byte, whoever makes it, and any tar reader can read its layers."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artefact.version import ARCHIVE, CONFIG, VERSION_FILE, Checksums, Version
from pipeline.store.oci.layout import Artefact, Blob, Frame, artefact_of, described_by, description_layer, frames_of

Files = dict[str, Path]


def test_made_twice_it_is_the_same(small: Files, tmp_path: Path) -> None:
    first = artefact_of(Version.of(small), small)
    copied = {name: tmp_path / str(number) for number, name in enumerate(reversed(small))}
    for name, copy in copied.items():
        copy.write_bytes(small[name].read_bytes())
        copy.chmod(0o600)
        os.utime(copy, (1, 1))
    second = artefact_of(Version.of(copied), copied)
    assert (first.manifest, first.config, first.description) == (second.manifest, second.config, second.description)
    assert first.layers == second.layers


def test_the_bytes_stay_as_they_are() -> None:
    """Published versions must stay readable: change this number only with a reason, and a way to read both."""
    objects = {name: Checksums(3, "AAAAAA==", "00") for name in (CONFIG, ARCHIVE)}
    version = Version(objects, {"origin": "imagenet", "sha256": "01"}, {"python": "3.11.7"})
    layers = {name: Blob.of(f"{name}\n".encode()) for name in objects}
    assert (
        Artefact(version, layers).digest == "sha256:58f96b107e44333897fac92c116807efff691ae8f6788785861322d29b168c80"
    )  # pragma: allowlist secret


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_a_layer_is_a_tar_with_one_file_of_root_and_of_1970(size: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 2 + b"x" if size == 513 else b"x" * size)
    frame = Frame.around(CONFIG, size)
    layer = b"".join(frame.read(file))
    assert len(layer) == frame.layer_size == frame.blob(file).size
    with tarfile.open(fileobj=io.BytesIO(layer), mode="r|") as tar:
        (entry,) = members = list(tar.getmembers())
        assert len(members) == 1
    assert (entry.name, entry.size, entry.mtime, entry.mode) == (f"models/{CONFIG}", size, 0, 0o644)
    assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.type) == (0, 0, "", "", tarfile.REGTYPE)


def test_archives_of_more_than_8_gib_and_long_names_have_layers_too() -> None:
    frame = Frame.around(f"model-store/{'a' * 150}.mar", 9 * 2**30)
    with tarfile.open(fileobj=io.BytesIO(frame.head + bytes(10240)), mode="r:") as tar:
        entry = tar.next()
    assert entry is not None
    assert (entry.name, entry.size) == (f"models/model-store/{'a' * 150}.mar", 9 * 2**30)


def test_the_manifest_is_an_images_and_names_version_and_model(small: Files) -> None:
    version = Version.of(small)
    artefact = artefact_of(version, small)
    manifest, config = json.loads(artefact.manifest), json.loads(artefact.config)
    assert manifest["annotations"] == {
        "org.opencontainers.image.title": "alexnet",
        "org.opencontainers.image.version": version.name,
    }
    assert [layer["digest"] for layer in manifest["layers"]] == config["rootfs"]["diff_ids"]
    assert len(manifest["layers"]) == 1 + len(frames_of(version))
    assert manifest["config"]["size"] == len(artefact.config)


def test_only_the_layer_of_a_version_json_describes() -> None:
    layer = description_layer(b'{"a": 1}\n')
    assert described_by(layer) == b'{"a": 1}\n'
    assert described_by(b"") is None
    assert described_by(layer[:-512]) is None
    assert described_by(layer + bytes(512)) is None
    assert described_by(layer.replace(b"version.json", b"version.jsoN")) is None
    frame = Frame.around(VERSION_FILE, 1)
    assert described_by(replace(frame, head=frame.head[:-1] + b"x").head + b"a" + frame.tail) is None
