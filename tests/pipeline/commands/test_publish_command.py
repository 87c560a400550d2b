"""scripts/publish.sh as a user runs it: the storageUri on stdout, and one line for each error."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pipeline.artefact.archive import build_archive
from pipeline.artefact.model import MODEL_NAME
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, VERSION_FILE, Version
from pipeline.shared.errors import PipelineError
from pipeline.shared.terminal import megabytes
from pipeline.store.bucket import connect
from pipeline.store.embedded_storage import EmbeddedStorage
from pipeline.store.pull import pull_version
from pipeline.store.registry import read_version
from pipeline.store.storage_uri import StorageUri
from tests.support.scripts import Start
from tests.support.versions import write_tiny

Files = Mapping[str, Path]
Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]


def printed(done: subprocess.CompletedProcess[str]) -> str:
    """The only line of stdout."""
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done
    return done.stdout.rstrip("\n")


def size_of(files: Files) -> str:
    """The message, as a regular expression."""
    return re.escape(megabytes(Version.of(files).size))


# --- When all is well -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_it_prints_the_storage_uri_alone(ending: str, script: Script, cloud: Any, small: Files) -> None:
    prefix = f"gs://{cloud.bucket}/models"
    done = script("publish", prefix + ending, "--archive", small[ARCHIVE])
    uri = f"{prefix}/{Version.of(small).name}"
    assert printed(done) == uri
    assert re.fullmatch(rf"sent {size_of(small)} in \d+\.\d s\n", done.stderr)
    assert read_version(connect(), StorageUri.parse(uri)) == Version.of(small)


def test_published_again_it_prints_the_same(script: Script, cloud: Any, small: Files) -> None:
    first, again = (script("publish", f"gs://{cloud.bucket}", "--archive", small[ARCHIVE]) for _ in range(2))
    assert printed(first) == printed(again) == f"gs://{cloud.bucket}/{Version.of(small).name}"
    assert re.fullmatch(r"already published \(\d+\.\d s\)\n", again.stderr)


def test_untrained_weights_have_to_be_allowed(
    script: Script, only_error: OnlyError, cloud: Any, light_directory: Path
) -> None:
    archive = light_directory / ARCHIVE
    sentence = only_error(script("publish", f"gs://{cloud.bucket}", "--archive", archive))
    assert sentence.startswith(f"{archive} has untrained weights")
    assert "--allow-untrained" in sentence
    assert cloud.calls == []


# --- A version that was published elsewhere ---------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing was pulled before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_version_is_promoted_as_it_is(
    script: Script, cloud: Any, publish: Callable[..., Any], small: Files, own_cache: Path
) -> None:
    source = publish(small).uri
    done = script("publish", f"gs://{cloud.bucket}/prod", "--archive", source)
    promoted = StorageUri.parse(printed(done))
    assert promoted == StorageUri(cloud.bucket, f"prod/{Version.of(small).name}")
    assert read_version(connect(), promoted) == read_version(connect(), source)
    for name in (*small, VERSION_FILE):
        assert cloud.read(f"{promoted.path}/{name}") == cloud.read(f"{source.path}/{name}")


def test_a_version_takes_its_own_settings_and_signature_along(
    script: Script, cloud: Any, publish: Callable[..., Any], small: Files, own_cache: Path, tmp_path: Path
) -> None:
    config, signature = tmp_path / "config.properties", tmp_path / "model.sig"
    config.write_text(small[CONFIG].read_text() + "# of another checkout\n")
    signature.write_bytes(b"signed by somebody else's key")
    source = publish({**small, CONFIG: config, SIGNATURE: signature}).uri
    promoted = StorageUri.parse(printed(script("publish", f"gs://{cloud.bucket}/prod", "--archive", source)))
    assert promoted.path.rpartition("/")[2] == source.path.rpartition("/")[2] != Version.of(small).name
    assert cloud.read(f"{promoted.path}/{CONFIG}") == config.read_bytes()
    assert cloud.read(f"{promoted.path}/{SIGNATURE}") == signature.read_bytes()


def test_a_version_that_is_not_complete_is_not_promoted(
    script: Script, only_error: OnlyError, cloud: Any, publish: Callable[..., Any], small: Files, own_cache: Path
) -> None:
    source = publish(small).uri
    cloud.delete(f"{source.path}/{VERSION_FILE}")
    sentence = only_error(script("publish", f"gs://{cloud.bucket}/prod", "--archive", source))
    assert sentence.startswith(f"{source} ")
    assert "was not published there, or publishing did not finish" in sentence
    assert not any(name.startswith("prod/") for name in cloud.objects())


def test_a_version_that_was_changed_is_not_promoted(
    script: Script, only_error: OnlyError, cloud: Any, publish: Callable[..., Any], small: Files, own_cache: Path
) -> None:
    source = publish(small).uri
    cloud.put(f"{source.path}/{CONFIG}", b"changed")
    sentence = only_error(script("publish", f"gs://{cloud.bucket}/prod", "--archive", source))
    assert f"{source}/{CONFIG}" in sentence
    assert not any(name.startswith("prod/") for name in cloud.objects())


def test_what_is_no_version_is_not_promoted(script: Script, only_error: OnlyError, cloud: Any, own_cache: Path) -> None:
    sentence = only_error(script("publish", f"gs://{cloud.bucket}/prod", "--archive", f"gs://{cloud.bucket}/models"))
    assert f"gs://{cloud.bucket}/models" in sentence


def test_untrained_versions_have_to_be_allowed_too(
    script: Script,
    only_error: OnlyError,
    cloud: Any,
    publish: Callable[..., Any],
    light_directory: Path,
    own_cache: Path,
) -> None:
    source = publish({CONFIG: light_directory / CONFIG, ARCHIVE: light_directory / ARCHIVE}).uri
    arguments = ["publish", f"gs://{cloud.bucket}/prod", "--archive", source]
    assert only_error(script(*arguments)).startswith(f"{source} has untrained weights")
    assert printed(script(*arguments, "--allow-untrained")).startswith(f"gs://{cloud.bucket}/prod/")


MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_memory_stays_small_however_large_the_archive_is(
    checkout: Path, cloud: Any, directory: Path, embedded_storage: EmbeddedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", embedded_storage.url)
    publishing = [checkout / "scripts" / "publish.sh", f"gs://{cloud.bucket}", "--archive", directory / ARCHIVE]
    # A child inherits its parent's maximum.
    command = [sys.executable, "-c", MEASURED, *map(str, publishing), "--allow-untrained"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 300_000  # kB; the archive has 244 MB


# --- --list -----------------------------------------------------------------------------------------------------------


def test_versions_are_listed_the_newest_first(
    script: Script, cloud: Any, publish: Callable[..., Any], small: Files, large: Files
) -> None:
    first = publish(large).uri
    second = publish(small).uri
    done = script("publish", "--list", f"gs://{cloud.bucket}/models/")
    newer, older = done.stdout.splitlines()
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+"
    assert re.fullmatch(rf"{moment} +{size_of(small)}  tiny       +{second}", newer)
    assert re.fullmatch(rf"{moment} +{size_of(large)}  large      +{first}", older)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_complete_versions_are_listed(
    script: Script, cloud: Any, publish: Callable[..., Any], small: Files, large: Files
) -> None:
    uri = publish(small).uri
    interrupted = publish(large).uri
    cloud.delete(f"{interrupted.path}/{VERSION_FILE}")
    cloud.put("models/.uploads/0/000000000000-8388608.part", b"part")
    cloud.put("models/notes/version.json", b"not ours")
    cloud.put("models/version.json", b"not ours")
    cloud.put("models/0123456789ab", b"an object, no folder")
    done = script("publish", "--list", f"gs://{cloud.bucket}/models")
    assert printed(done).endswith(f"  {uri}")


def test_where_there_are_no_versions_that_is_said(script: Script, cloud: Any) -> None:
    done = script("publish", f"gs://{cloud.bucket}/nothing", "--list")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"no versions directly under gs://{cloud.bucket}/nothing\n"


def test_a_version_that_was_changed_is_told_with_its_uri_and_the_others_are_listed(
    script: Script, cloud: Any, publish: Callable[..., Any], small: Files, large: Files
) -> None:
    uri = publish(small).uri
    changed = publish(large).uri
    copied = f"models/{'0' * 12}/{VERSION_FILE}"
    cloud.put(copied, cloud.read(f"{changed.path}/{VERSION_FILE}"))
    cloud.put(f"{changed.path}/{VERSION_FILE}", b"{}")
    done = script("publish", "--list", f"gs://{cloud.bucket}/models")
    assert printed(done).endswith(f"  {uri}")
    first, second = sorted(done.stderr.splitlines())
    assert first.startswith(f"gs://{cloud.bucket}/{copied} is of another version, ")
    assert second.startswith(f"{changed}/{VERSION_FILE} does not describe a version")


# --- What the user got wrong ------------------------------------------------------------------------------------------


def test_an_archive_that_is_not_there_is_told_with_what_makes_one(
    script: Script, only_error: OnlyError, cloud: Any
) -> None:
    sentence = only_error(script("publish", f"gs://{cloud.bucket}", "--archive", "none.mar"))
    assert sentence.startswith("no archive at none.mar: build one with scripts/package.sh")


def test_an_archive_that_is_none_is_named(script: Script, only_error: OnlyError, cloud: Any, checkout: Path) -> None:
    readme = checkout / "README.md"
    sentence = only_error(script("publish", f"gs://{cloud.bucket}", "--archive", readme))
    assert sentence.startswith(f"{readme} is not a model archive made by scripts/package.sh")


@pytest.mark.parametrize("destination", ["models", "gs://Models", "gs://models//a"])
def test_a_destination_that_cannot_be_is_told(
    script: Script, only_error: OnlyError, small: Files, destination: str
) -> None:
    assert only_error(script("publish", destination, "--archive", small[ARCHIVE])).startswith(repr(destination))


@pytest.mark.parametrize("wrong", [[], ["gs://models", "--lists"], ["gs://models", "gs://models"]])
def test_wrong_usage_has_exit_status_2(script: Script, wrong: list[str]) -> None:
    done = script("publish", *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


# --- Errors from Cloud Storage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--list"], []])
def test_a_bucket_that_does_not_exist_is_told_with_what_makes_one(
    script: Script, only_error: OnlyError, cloud: Any, small: Files, arguments: list[str]
) -> None:
    bucket = f"gs://{cloud.bucket}-not"
    sentence = only_error(script("publish", f"{bucket}/models", "--archive", small[ARCHIVE], *arguments))
    assert sentence.startswith(f"there is no bucket {bucket}: ")
    assert f"gcloud storage buckets create {bucket}" in sentence


REFUSALS = [
    (
        403,
        "x@y does not have storage.objects.create access to the Google Cloud Storage object. Permission "
        "'storage.objects.create' denied on resource (or it may not exist).",
        ["permission storage.objects.create is missing", "roles/storage.objectUser"],
    ),
    (
        403,
        "The project exceeded its quota for egress bandwidth.\nSee https://cloud.google.com/storage/quotas",
        ["a full quota", "The project exceeded its quota for egress bandwidth."],
    ),
]


@pytest.mark.parametrize(("status", "said", "told"), REFUSALS)
def test_a_refusal_is_told_in_one_line_with_its_remedy(
    script: Script, only_error: OnlyError, cloud: Any, small: Files, status: int, said: str, told: list[str]
) -> None:
    cloud.refuse(status, said, lambda call: call.is_upload)
    sentence = only_error(script("publish", f"gs://{cloud.bucket}", "--archive", small[ARCHIVE]))
    assert f"gs://{cloud.bucket}" in sentence
    for words in told:
        assert words in sentence


def test_who_may_not_even_list_is_told_the_role(script: Script, only_error: OnlyError, cloud: Any) -> None:
    cloud.refuse(403, "x@y does not have storage.objects.list access to the Google Cloud Storage bucket.")
    assert only_error(script("publish", "--list", f"gs://{cloud.bucket}")) == (
        f"permission storage.objects.list is missing on gs://{cloud.bucket}: "
        "ask its owner for the role roles/storage.objectViewer"
    )


def test_a_line_that_does_not_come_back_is_told_in_one_line(
    script: Script, only_error: OnlyError, small: Files, free_port: int
) -> None:
    """The slow test in this file: the call is retried for 20 s."""
    environment = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{free_port}"}
    sentence = only_error(script("publish", "gs://models", "--archive", small[ARCHIVE], environment=environment))
    assert sentence.startswith("Cloud Storage cannot be reached (")
    assert "Connection refused" in sentence
    assert "HTTPS_PROXY" in sentence


def test_a_caller_that_is_not_known_is_told_in_one_line(
    script: Script, only_error: OnlyError, cloud: Any, small: Files
) -> None:
    cloud.refuse(401, "Anonymous caller does not have storage.objects.create access.")
    sentence = only_error(script("publish", f"gs://{cloud.bucket}", "--archive", small[ARCHIVE]))
    assert "gcloud auth application-default login" in sentence


# --- Credentials ------------------------------------------------------------------------------------------------------


@pytest.fixture
def key(website: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_credentials: None, cloud: Any) -> Path:
    """A service account's key: its tokens come from the website, and are used for Cloud Storage."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "key.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "x@y.iam.gserviceaccount.com",
                "private_key_id": "1",
                "private_key": private.decode(),
                "token_uri": f"{website.url}/token",
            }
        )
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", cloud.url)
    return file


def test_it_publishes_and_pulls_with_a_service_account(
    key: Path, script: Script, website: Any, cloud: Any, small: Files, tmp_path: Path
) -> None:
    answer = json.dumps({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}).encode()
    website.put("/token", answer, **{"Content-Type": "application/json"})
    uri = StorageUri.parse(printed(script("publish", f"gs://{cloud.bucket}", "--archive", small[ARCHIVE])))
    directory = pull_version(uri, tmp_path / "cache", lambda *_: None, pytest.fail)
    assert Version.of(small).damage_in(directory) is None
    assert {call.authorization for call in cloud.calls} == {"Bearer t"}
    assert website.asked


def test_credentials_that_have_been_revoked_are_told_with_the_remedy(
    key: Path, script: Script, only_error: OnlyError, website: Any, cloud: Any, small: Files
) -> None:
    refusal = json.dumps({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}).encode()
    website.put("/token", refusal, 400, **{"Content-Type": "application/json"})
    sentence = only_error(script("publish", f"gs://{cloud.bucket}", "--archive", small[ARCHIVE]))
    assert sentence.startswith("the Google Cloud credentials are not accepted (")
    assert "invalid_grant" in sentence
    assert "gcloud auth application-default login" in sentence
    assert cloud.calls == []


def test_without_credentials_the_remedy_is_told(
    script: Script, only_error: OnlyError, small: Files, user_environment: None, no_credentials: None
) -> None:
    sentence = only_error(script("publish", "gs://models", "--archive", small[ARCHIVE]))
    assert sentence == "no Google Cloud credentials: run gcloud auth application-default login"


@pytest.mark.parametrize("content", [None, '{"type": "service_account"}', "[]"])
def test_a_file_of_credentials_that_cannot_be_used_is_told(
    script: Script,
    only_error: OnlyError,
    small: Files,
    user_environment: None,
    no_credentials: None,
    tmp_path: Path,
    content: str | None,
) -> None:
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    sentence = only_error(script("publish", "gs://models", "--archive", small[ARCHIVE], environment=environment))
    assert sentence.startswith("the Google Cloud credentials cannot be used (")
    assert sentence.endswith(f": correct or unset GOOGLE_APPLICATION_CREDENTIALS ({file})")


# --- Killed, and stopped ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def in_parts(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that is sent in three parts."""
    random = np.random.default_rng(2).standard_normal(5_000_000, np.float32)
    folder = tmp_path_factory.mktemp("in-parts")
    contents = write_tiny(folder / "contents", "parts", random)
    return build_archive(checkout / "handler", contents, MODEL_NAME, folder / "alexnet.mar").path


@pytest.fixture
def half_way(start: Start, cloud: Any, in_parts: Path) -> subprocess.Popen[str]:
    """A publisher that has sent two of three parts; the third is held back."""
    arrived, lock, passed = threading.Semaphore(0), threading.Lock(), iter(range(100))

    def hold_back(call: Any, forward: Callable[[], Any]) -> Any:
        if not call.is_part:
            return forward()
        with lock:
            held = next(passed) == 2
        answer = None if held else forward()
        arrived.release()
        if held:
            cloud.over.wait()
        return answer

    cloud.trouble = hold_back
    publishing = start("publish", f"gs://{cloud.bucket}/models", "--archive", in_parts)
    for _ in range(3):
        assert arrived.acquire(timeout=60)
    return publishing


def test_a_publisher_that_was_killed_is_taken_up_where_it_was(
    half_way: subprocess.Popen[str], script: Script, cloud: Any, in_parts: Path, checkout: Path
) -> None:
    half_way.kill()
    half_way.wait()
    cloud.trouble = lambda _, forward: forward()
    version = Version.of({CONFIG: checkout / "config.properties", ARCHIVE: in_parts})
    uri = StorageUri(cloud.bucket, f"models/{version.name}")
    parts = {name: item for name, item in cloud.objects().items() if ".uploads/" in name}
    assert len(parts) == 2
    with pytest.raises(PipelineError, match="was not published there, or publishing did not finish"):
        read_version(connect(), uri)
    cloud.calls.clear()
    assert printed(script("publish", f"gs://{cloud.bucket}/models", "--archive", in_parts)) == str(uri)
    missing = version.objects[ARCHIVE].size - sum(int(item["size"]) for item in parts.values())
    assert missing < cloud.sent < missing + 10_000
    assert read_version(connect(), uri) == version
    assert cloud.read(f"{uri.path}/{ARCHIVE}") == in_parts.read_bytes()
    assert len(cloud.objects()) == len((CONFIG, ARCHIVE, VERSION_FILE))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_even_while_cloud_storage_does_not_answer(
    number: signal.Signals, half_way: subprocess.Popen[str], cloud: Any, in_parts: Path
) -> None:
    half_way.send_signal(number)
    out, err = half_way.communicate(timeout=10)
    assert (half_way.returncode, out, err) == (128 + number, "", "")
    assert not any(name.endswith(VERSION_FILE) for name in cloud.objects())
