"""Scripts and a registry: publish.sh prints what serve.sh serves, and each failure is one line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pipeline.artefact.signature import Signer
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, Version, archive_of
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from pipeline.store.oci.uri import OciUri
from tests.support.oci_registry import REPOSITORY, Behind, SmallRegistry, SmallVisit
from tests.support.scripts import OnlyError, Script, Start
from tests.support.waiting import Eventually

Files = dict[str, Path]


class Keys(NamedTuple):
    """private, public: a pair. other: the public key of another pair."""

    private: Path
    public: Path
    other: Path


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(*(tmp_path / name for name in ("key.pem", "key.pub", "other.pub")))
    pair, another = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made.private.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for file, key in ((made.public, pair), (made.other, another)):
        file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return made


def signed_copy(archive: Path, model: str, config: Path, keys: Keys, folder: Path) -> Path:
    """An archive with a signature beside it, as scripts/package.sh leaves them."""
    copy = folder / f"{model}.mar"
    shutil.copy(archive, copy)
    Signer(keys.private).sign({CONFIG: config, archive_of(model): copy}, folder / f"{model}.mar.sig")
    return copy


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "torchserve-alexnet"


def printed(done: subprocess.CompletedProcess[str]) -> str:
    """What a script says on stdout, which is one line."""
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return done.stdout.rstrip("\n")


# --- scripts/publish.sh -----------------------------------------------------------------------------------------------


def test_the_uri_alone_is_printed_and_again_it_is_the_same(script: Script, registry: Behind, small: Files) -> None:
    first = script("publish", registry.uri, "--archive", small[ARCHIVE])
    again = script("publish", registry.uri, "--archive", small[ARCHIVE])
    uri = OciUri.parse(printed(first))
    assert printed(again) == str(uri)
    assert (uri.parent, uri.tag) == (registry.uri, Version.of(small).name)
    assert uri.digest
    assert first.stderr.startswith("sent ")
    assert again.stderr.startswith("already published (")


def test_versions_are_listed(script: Script, registry: Behind, small: Files) -> None:
    uri = printed(script("publish", registry.uri, "--archive", small[ARCHIVE]))
    done = script("publish", "--list", registry.uri)
    assert printed(done).split()[2:] == ["tiny", uri]
    nothing = OciUri(registry.uri.registry, "team/nothing")
    assert script("publish", "--list", nothing).stderr == f"no versions in {nothing}\n"


def test_a_version_goes_from_cloud_storage_to_a_registry_and_back_as_it_is(
    script: Script, registry: Behind, cloud: Any, small: Files, cache: Path
) -> None:
    first = printed(script("publish", f"gs://{cloud.bucket}/a", "--archive", small[ARCHIVE]))
    second = printed(script("publish", registry.uri, "--archive", first))
    shutil.rmtree(cache)
    third = printed(script("publish", f"gs://{cloud.bucket}/b", "--archive", second))
    name = Version.of(small).name
    assert third == f"gs://{cloud.bucket}/b/{name}"
    for part in (ARCHIVE, "version.json"):
        assert cloud.read(f"b/{name}/{part}") == cloud.read(f"a/{name}/{part}")


@pytest.mark.parametrize("destination", ["oci://Registry.example/a", "oci://a.example", "oci://a/b"])
def test_a_destination_that_cannot_be_is_told(
    script: Script, only_error: OnlyError, small: Files, destination: str
) -> None:
    assert only_error(script("publish", destination, "--archive", small[ARCHIVE])).startswith(repr(destination))


def test_a_version_is_no_place_to_publish_to(script: Script, only_error: OnlyError, small: Files) -> None:
    sentence = only_error(script("publish", "oci://a.example/b:0123456789ab", "--archive", small[ARCHIVE]))
    assert sentence == (
        "oci://a.example/b:0123456789ab is a version, and that never changes: publish to oci://a.example/b"
    )


def test_untrained_weights_are_not_published_unless_asked_for(
    script: Script, only_error: OnlyError, registry: Behind, pets_archive: Path
) -> None:
    sentence = only_error(script("publish", registry.uri, "--archive", pets_archive))
    assert "has untrained weights" in sentence
    assert registry.tags == []


def test_killed_while_it_sends_it_leaves_no_tag(
    start: Start, script: Script, small_registry: SmallRegistry, large: Files, eventually: Eventually
) -> None:
    repository = f"oci://{small_registry.address}/{REPOSITORY}"
    held, over = threading.Event(), threading.Event()

    def trouble(visit: SmallVisit) -> bool:
        if visit.command == "PUT" and "/manifests/" in visit.path:
            held.set()
            over.wait()
            visit.close_connection = True
            return True
        return False

    small_registry.trouble = trouble
    publishing = start("publish", repository, "--archive", large[ARCHIVE])
    try:
        eventually(held.is_set)
        publishing.send_signal(signal.SIGTERM)
        publishing.communicate()
    finally:
        over.set()
    assert publishing.returncode == 128 + signal.SIGTERM
    assert small_registry.tagged == {}
    small_registry.trouble = lambda _: False
    small_registry.calls.clear()
    uri = OciUri.parse(printed(script("publish", repository, "--archive", large[ARCHIVE])))
    assert list(small_registry.tagged) == [uri.tag]
    assert not [call for call in small_registry.calls if call.startswith("POST")]


# --- scripts/serve.sh and scripts/compare.sh --------------------------------------------------------------------------


def test_what_cannot_be_pulled_is_told_in_one_line(
    script: Script, only_error: OnlyError, registry: Behind, photographs: list[Path], cache: Path
) -> None:
    gone = registry.uri.at("0123456789ab")
    assert only_error(script("serve", gone)).startswith(f"there is no version 0123456789ab in {registry.uri}: ")
    assert only_error(script("compare", gone, gone, photographs[0])).startswith("there is no version 0123456789ab in ")


def test_what_a_registry_says_is_not_obeyed_by_the_terminal(
    script: Script, only_error: OnlyError, small_registry: SmallRegistry, cache: Path
) -> None:
    small_registry.trouble = lambda visit: visit.error(418, "X", "\x1b[31mred\x07\nnext")
    sentence = only_error(script("serve", f"oci://{small_registry.address}/{REPOSITORY}:0123456789ab"))
    assert sentence == f"{small_registry.address} refuses (418): \\x1b[31mred\\x07 next"


def test_only_what_the_key_has_signed_is_served(
    script: Script, only_error: OnlyError, registry: Behind, small: Files, keys: Keys, tmp_path: Path, cache: Path
) -> None:
    plain = printed(script("publish", registry.uri, "--archive", small[ARCHIVE]))
    assert only_error(script("serve", plain, "--public-key", keys.public)).startswith("no signature at ")
    archive = signed_copy(small[ARCHIVE], "alexnet", small[CONFIG], keys, tmp_path)
    signed = printed(script("publish", registry.uri, "--archive", archive))
    kept = cache / OciUri.parse(signed).tag / SIGNATURE
    sentence = only_error(script("serve", signed, "--public-key", keys.other))
    assert sentence == f"{kept} is not a signature by the key {keys.other}"
    assert kept.read_bytes() == archive.with_name("alexnet.mar.sig").read_bytes()


def test_what_kserve_pulls_is_served_by_torchserve(
    script: Script,
    realest_registry: Behind,
    pets_archive: Path,
    photographs: list[Path],
    tmp_path: Path,
    one_worker: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a pod: KServe's own storage initializer fills /mnt/models, and TorchServe loads what lies there."""
    pytest.importorskip("oras")  # which comes with KServe's library, but not for Python 3.14
    from kserve_storage import Storage

    uri = printed(script("publish", realest_registry.uri, "--archive", pets_archive, "--allow-untrained"))
    monkeypatch.setenv("KSERVE_OCI_INSECURE_REGISTRY", "true")
    models = Path(Storage.download(uri, str(tmp_path / "models")))
    with TorchServe(models, "pets", Ports.any_free()) as server:
        answer = httpx.post(server.predict_url, content=photographs[0].read_bytes(), trust_env=False, timeout=60)
    assert len(answer.json()["predictions"][0]["classes"]) == 5


def test_what_was_published_and_signed_is_served_and_answers(
    script: Script,
    start: Start,
    realest_registry: Behind,
    pets_archive: Path,
    checkout: Path,
    keys: Keys,
    photographs: list[Path],
    port: int,
    cache: Path,
    tmp_path: Path,
    one_worker: None,
) -> None:
    archive = signed_copy(pets_archive, "pets", checkout / "config.properties", keys, tmp_path)
    uri = printed(script("publish", realest_registry.uri, "--archive", archive, "--allow-untrained"))
    serving = start("serve", uri, "--port", port, "--public-key", keys.public)
    assert serving.stdout is not None
    assert "/v1/models/pets:predict (Ctrl-C stops)" in serving.stdout.readline()
    answer = script("predict", photographs[0], "--url", f"http://127.0.0.1:{port}", "--json")
    serving.send_signal(signal.SIGINT)
    _, said = serving.communicate(timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert len(json.loads(answer.stdout)["classes"]) == 5
    assert serving.returncode == 0, said
    (kept,) = cache.glob("[!.]*")
    assert kept.name == OciUri.parse(uri).tag
