"""Pulling: what arrives is what was published, byte for byte, or nothing does; and it is downloaded once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefact.version import ARCHIVE, CONFIG, VERSION_FILE, Version
from pipeline.shared.errors import PipelineError
from pipeline.store.bucket import connect
from pipeline.store.publish import Outcome, publish_version
from pipeline.store.pull import cache_directory, pull_version
from pipeline.store.registry import list_versions
from pipeline.store.storage_uri import StorageUri

Files = Mapping[str, Path]
Pull = Callable[..., Path]
Publish = Callable[..., Outcome]
Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]


@pytest.fixture
def published(publish: Publish, cloud: Any, small: Files) -> StorageUri:
    """The storageUri of a small version; nothing has been asked yet."""
    uri = publish(small).uri
    cloud.calls.clear()
    return uri


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, of this process and of scripts/serve.sh."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "torchserve-alexnet"


@pytest.fixture
def pull(cache: Path) -> Pull:
    """Pulls into the cache; notes count as failures."""

    def run(
        uri: StorageUri,
        progress: Callable[[int, int], None] = lambda *_: None,
        note: Callable[[str], None] = pytest.fail,
    ) -> Path:
        return pull_version(uri, cache, progress, note)

    return run


def has_arrived(directory: Path, uri: StorageUri, files: Files) -> bool:
    """The cache holds this one version, byte for byte, and the lock."""
    name = uri.path.rpartition("/")[2]
    assert directory.name == name
    assert set(os.listdir(directory.parent)) == {name, f".{name}.lock"}
    arrived = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert arrived == {*files, VERSION_FILE}
    return all((directory / name).read_bytes() == path.read_bytes() for name, path in files.items())


def only_the_lock(cache: Path) -> bool:
    (left,) = os.listdir(cache)
    return left.endswith(".lock")


def refusal(pull: Pull, uri: StorageUri, cache: Path) -> str:
    with pytest.raises(PipelineError) as refused:
        pull(uri)
    assert "\n" not in str(refused.value)
    assert only_the_lock(cache)
    return str(refused.value)


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# --- When all is well -------------------------------------------------------------------------------------------------


def test_what_was_published_arrives_byte_for_byte(pull: Pull, publish: Publish, large: Files, cache: Path) -> None:
    uri = publish(large).uri
    directory = pull(uri)
    assert directory == cache / Version.of(large).name
    assert has_arrived(directory, uri, large)


def test_right_beneath_a_bucket_is_fine(pull: Pull, cloud: Any, small: Files) -> None:
    prefix, version = StorageUri(cloud.bucket, ""), Version.of(small)
    uri = publish_version(connect(), prefix, version, small, lambda *_: None, pytest.fail).uri
    assert has_arrived(pull(uri), uri, small)


def test_a_second_pull_asks_nobody(
    pull: Pull, published: StorageUri, small: Files, cloud: Any, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = pull(published)
    cloud.calls.clear()
    assert pull(published) == directory
    assert cloud.calls == []
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port}")
    assert pull(published) == directory
    assert has_arrived(directory, published, small)


def test_a_version_at_two_places_is_downloaded_once(
    pull: Pull, published: StorageUri, small: Files, cloud: Any
) -> None:
    directory = pull(published)
    cloud.calls.clear()
    assert pull(StorageUri("elsewhere", published.path)) == directory
    assert cloud.calls == []


def test_progress_ends_before_or_at_the_total(pull: Pull, publish: Publish, large: Files, cloud: Any) -> None:
    """It is looked at a few times a second: so the archive is kept back until some of it has been seen."""
    uri = publish(large).uri
    told: list[tuple[int, int]] = []
    seen = threading.Event()

    def progress(so_far: int, total: int) -> None:
        told.append((so_far, total))
        if so_far:
            seen.set()

    def wait(call: Any, forward: Callable[[], Any]) -> Any:
        if call.is_download and "alexnet.mar" in call.path:
            assert seen.wait(60)
        return forward()

    cloud.trouble = wait
    pull(uri, progress)
    assert {total for _, total in told} == {Version.of(large).size}
    assert all(0 <= so_far <= total for so_far, total in told)


def test_the_cache_is_where_other_programs_have_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == tmp_path / ".cache" / "torchserve-alexnet"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/torchserve-alexnet")


def test_folders_as_the_console_makes_them_do_no_harm(
    pull: Pull, published: StorageUri, small: Files, cloud: Any
) -> None:
    for folder in (f"{published.path}/", f"{published.path}/model-store/"):
        cloud.put(folder, b"")
    assert has_arrived(pull(published), published, small)


def test_the_environment_is_left_as_it_was(pull: Pull, published: StorageUri) -> None:
    before = dict(os.environ)
    pull(published)
    assert dict(os.environ) == before


# --- What is in the cache ---------------------------------------------------------------------------------------------


def instead(path: Path) -> Path:
    """A path that something else will have."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return path


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda directory: change_a_byte(directory / ARCHIVE), f"{ARCHIVE} is not what was published"),
        (lambda directory: (directory / CONFIG).unlink(), f"{CONFIG} is missing"),
        (lambda directory: instead(directory / CONFIG).symlink_to("nowhere"), f"{CONFIG} is missing"),
        (
            lambda directory: instead(directory / VERSION_FILE).mkdir(),
            f"{VERSION_FILE} cannot be read (Is a directory)",
        ),
        (lambda directory: instead(directory).touch(), f"{VERSION_FILE} cannot be read (Not a directory)"),
        (lambda directory: instead(directory).symlink_to("nowhere"), f"{VERSION_FILE} is missing"),
        (lambda directory: (directory / VERSION_FILE).unlink(), f"{VERSION_FILE} is missing"),
        (lambda directory: (directory / VERSION_FILE).write_bytes(b"{"), f"{VERSION_FILE} is not what was published"),
        (lambda directory: shutil.rmtree(directory / "config"), f"{CONFIG} is missing"),
    ],
)
def test_damage_in_the_cache_is_noticed_and_mended(
    pull: Pull,
    published: StorageUri,
    small: Files,
    damage: Callable[[Path], object],
    told: str,
) -> None:
    directory = pull(published)
    damage(directory)
    notes: list[str] = []
    assert pull(published, note=notes.append) == directory
    assert notes == [f"The copy in {directory} is damaged ({told}): it is downloaded again."]
    assert has_arrived(directory, published, small)


def test_the_description_of_another_version_in_the_cache_is_damage(
    pull: Pull, published: StorageUri, small: Files, large: Files
) -> None:
    directory = pull(published)
    (directory / VERSION_FILE).write_bytes(Version.of(large).to_json())
    notes: list[str] = []
    pull(published, note=notes.append)
    assert f"({VERSION_FILE} is of another version)" in notes[0]
    assert has_arrived(directory, published, small)


def test_a_damaged_copy_that_cannot_be_mended_is_not_served(pull: Pull, published: StorageUri, cloud: Any) -> None:
    directory = pull(published)
    change_a_byte(directory / ARCHIVE)
    cloud.delete(f"{published.path}/{VERSION_FILE}")
    with pytest.raises(PipelineError):
        pull(published, note=lambda _: None)


def test_what_a_killed_process_left_is_replaced(pull: Pull, published: StorageUri, small: Files, cache: Path) -> None:
    left = cache / f".{Version.of(small).name}.part" / "model-store"
    left.mkdir(parents=True)
    (left / "alexnet.mar").write_bytes(b"half of it")
    (left / "another.mar").write_bytes(b"and more")
    assert has_arrived(pull(published), published, small)


@pytest.mark.parametrize("in_the_way", ["", "torchserve-alexnet"])
def test_a_cache_that_cannot_be_made_is_told_with_what_to_do(
    in_the_way: str, pull: Pull, published: StorageUri, cache: Path, cloud: Any
) -> None:
    cache.parent.parent.mkdir(exist_ok=True)
    file = cache.parent / in_the_way
    file.parent.mkdir(exist_ok=True)
    file.write_text("a file where the folder should be")
    with pytest.raises(PipelineError) as refused:
        pull(published)
    assert str(refused.value).startswith(f"the cache {cache} cannot be used (")
    assert "XDG_CACHE_HOME" in str(refused.value)
    assert cloud.calls == []


# --- Two at once ------------------------------------------------------------------------------------------------------


def test_of_two_at_once_one_waits_and_finds_what_the_other_has_downloaded(
    pull: Pull, published: StorageUri, small: Files, cloud: Any
) -> None:
    told = threading.Event()
    notes: list[str] = []

    def note(sentence: str) -> None:
        notes.append(sentence)
        told.set()

    def wait(call: Any, forward: Callable[[], Any]) -> Any:
        if call.is_download:
            assert told.wait(60)  # until the other one waits
        return forward()

    cloud.trouble = wait
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(pull, published, note=note) for _ in range(2))
    directory = first.result()
    assert second.result() == directory
    assert notes == [f"Another process is at work on {directory}: waiting for it."]
    assert sum(call.is_download and "alexnet.mar" in call.path for call in cloud.calls) == 1
    assert has_arrived(directory, published, small)


# --- What is in the bucket --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, ARCHIVE])
def test_an_object_that_is_not_what_was_published_is_refused(
    name: str, pull: Pull, published: StorageUri, small: Files, cloud: Any, cache: Path
) -> None:
    cloud.put(f"{published.path}/{name}", b"?" * small[name].stat().st_size)
    assert refusal(pull, published, cache).startswith(f"{published / name} is not what was published")
    assert not any(name in call.path for call in cloud.calls if call.is_download)


@pytest.mark.parametrize("name", [CONFIG, ARCHIVE])
def test_an_object_that_is_missing_is_told(
    name: str, pull: Pull, published: StorageUri, cloud: Any, cache: Path
) -> None:
    cloud.delete(f"{published.path}/{name}")
    assert refusal(pull, published, cache).startswith(f"{published / name} is missing")


@pytest.mark.parametrize("name", ["more", "model-store/other.mar", "config/a/b"])
def test_an_object_too_many_is_refused_for_kserve_would_download_it(
    name: str, pull: Pull, published: StorageUri, cloud: Any, cache: Path
) -> None:
    cloud.put(f"{published.path}/{name}", b"more")
    assert refusal(pull, published, cache).startswith(f"{published / name} is not part of this version")


def test_what_was_not_published_to_its_end_is_refused(
    pull: Pull, published: StorageUri, cloud: Any, cache: Path
) -> None:
    cloud.delete(f"{published.path}/{VERSION_FILE}")
    sentence = refusal(pull, published, cache)
    assert sentence.startswith(f"{published} has no {VERSION_FILE}")
    assert f"scripts/publish.sh --list gs://{cloud.bucket}/models shows" in sentence


def test_a_version_that_was_never_there_is_refused(pull: Pull, published: StorageUri, cloud: Any, cache: Path) -> None:
    absent = StorageUri(cloud.bucket, "models/0123456789ab")
    assert refusal(pull, absent, cache).startswith(f"{absent} has no {VERSION_FILE}")


def test_the_description_of_another_version_is_refused(
    pull: Pull, published: StorageUri, large: Files, cloud: Any, cache: Path
) -> None:
    other = Version.of(large)
    cloud.put(f"{published.path}/{VERSION_FILE}", other.to_json())
    sentence = refusal(pull, published, cache)
    assert sentence.startswith(f"{published / VERSION_FILE} is of another version, {other.name}")


def test_a_description_that_was_changed_is_refused(pull: Pull, published: StorageUri, cloud: Any, cache: Path) -> None:
    described = json.loads(cloud.read(f"{published.path}/{VERSION_FILE}"))
    described["objects"][CONFIG]["sha256"] = "0" * 64
    cloud.put(f"{published.path}/{VERSION_FILE}", json.dumps(described).encode())
    assert refusal(pull, published, cache).startswith(f"{published / VERSION_FILE} does not describe a version")


def test_an_object_that_would_lead_the_download_elsewhere_is_refused(
    pull: Pull, published: StorageUri, cloud: Any, cache: Path
) -> None:
    """KServe's downloader makes every folder that the names of objects have."""
    cloud.put(f"{published.path}/../../../elsewhere/", b"")
    assert refusal(pull, published, cache).endswith("/../../../elsewhere/ leads out of its folder: delete it")
    assert not any(path.name == "elsewhere" for path in cache.parent.rglob("*"))


def test_a_description_of_any_size_is_not_read(pull: Pull, published: StorageUri, cloud: Any, cache: Path) -> None:
    cloud.put(f"{published.path}/{VERSION_FILE}", b" " * 1_000_001)
    assert refusal(pull, published, cache).startswith(f"{published / VERSION_FILE} has 1000001 bytes, more than any ")
    assert not any(call.is_download for call in cloud.calls)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "models",
        "models/0123456789AB",
        "models/0123456789a",
        "models/0123456789ab/config",  # pragma: allowlist secret
    ],
)
def test_a_uri_that_leads_to_no_version_is_refused(path: str, pull: Pull, cache: Path, cloud: Any) -> None:
    uri = StorageUri(cloud.bucket, path)
    with pytest.raises(PipelineError) as refused:
        pull(uri)
    assert str(refused.value).startswith(f"{uri} is not a version")
    shown = path.removesuffix("/0123456789a")  # where the last part may be half a version, what is beside it
    assert f"scripts/publish.sh --list {StorageUri(cloud.bucket, shown)} shows" in str(refused.value)
    assert cloud.calls == []
    assert not cache.exists()


@pytest.mark.parametrize("name", [VERSION_FILE, "alexnet.mar"])
def test_an_object_that_is_deleted_meanwhile_is_told(
    name: str, pull: Pull, published: StorageUri, cloud: Any, cache: Path
) -> None:
    def delete(call: Any, forward: Callable[[], Any]) -> Any:
        if call.is_download and call.path.endswith(name):
            for there in cloud.objects():
                cloud.delete(there)
        return forward()

    cloud.trouble = delete
    assert "there is no bucket" not in refusal(pull, published, cache)


def test_a_bucket_that_does_not_exist_is_told(pull: Pull, cache: Path, cloud: Any) -> None:
    uri = StorageUri(f"{cloud.bucket}-not", "models/0123456789ab")
    assert refusal(pull, uri, cache).startswith(f"there is no bucket gs://{uri.bucket}: ")


def test_who_may_not_read_is_told_the_role(pull: Pull, published: StorageUri, cloud: Any, cache: Path) -> None:
    said = "Permission 'storage.objects.get' denied on resource (or it may not exist)."
    cloud.refuse(403, said, lambda call: call.is_download)
    assert refusal(pull, published, cache) == (
        f"permission storage.objects.get is missing on gs://{cloud.bucket}: "
        "ask its owner for the role roles/storage.objectViewer"
    )


def test_who_may_read_the_description_alone_is_told_the_role(
    pull: Pull, published: StorageUri, cloud: Any, cache: Path
) -> None:
    """The refusal comes out of KServe's downloader."""
    said = "Permission 'storage.objects.get' denied on resource (or it may not exist)."
    cloud.refuse(403, said, lambda call: call.is_download and "alexnet.mar" in call.path)
    assert refusal(pull, published, cache).startswith(
        f"permission storage.objects.get is missing on gs://{cloud.bucket}: "
    )


def test_without_credentials_a_bucket_that_is_not_public_is_told_as_such(
    pull: Pull, published: StorageUri, cloud: Any, cache: Path
) -> None:
    cloud.refuse(401, "Anonymous caller does not have storage.objects.list access to the Google Cloud Storage bucket.")
    sentence = refusal(pull, published, cache)
    assert sentence.startswith(f"gs://{cloud.bucket} is not public")
    assert "gcloud auth application-default login" in sentence


def test_without_credentials_a_public_bucket_can_be_read(
    pull: Pull,
    published: StorageUri,
    small: Files,
    cloud: Any,
    no_credentials: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", cloud.url)
    (found,) = list_versions(connect(), StorageUri(cloud.bucket, "models"), pytest.fail)
    assert found.uri == published
    assert has_arrived(pull(published), published, small)
    assert cloud.calls
    assert {call.authorization for call in cloud.calls} == {None}


# --- On a bad line ----------------------------------------------------------------------------------------------------


def of_the_archive(trouble: Callable[..., Any], times: int = 1) -> Callable[..., Any]:
    """Makes trouble for the first downloads of the archive."""
    left = iter(range(times))

    def meddle(call: Any, forward: Callable[[], Any]) -> Any:
        troubled = call.is_download and "alexnet.mar" in call.path and next(left, None) is not None
        return trouble(call, forward) if troubled else forward()

    return meddle


@pytest.mark.parametrize("with_checksum", [True, False])
def test_bytes_that_change_on_the_way_are_noticed(
    with_checksum: bool, pull: Pull, published: StorageUri, small: Files, cloud: Any, cache: Path
) -> None:
    """By Google's library, which is sent the checksums; and where a proxy keeps them from it, nevertheless."""

    def flip(_: Any, forward: Callable[[], Any]) -> Any:
        answer = forward()
        answer.body = answer.body[:100] + bytes([answer.body[100] ^ 1]) + answer.body[101:]
        if not with_checksum:
            answer.headers = {name: value for name, value in answer.headers.items() if name.lower() != "x-goog-hash"}
        return answer

    cloud.trouble = of_the_archive(flip)
    assert "damaged" in refusal(pull, published, cache)
    assert has_arrived(pull(published), published, small)


def test_a_download_that_breaks_off_once_arrives_whole(
    pull: Pull, published: StorageUri, small: Files, cloud: Any
) -> None:
    def cut(call: Any, forward: Callable[[], Any]) -> None:
        answer = forward()
        call.send_first(answer, len(answer.body) // 2)

    cloud.trouble = of_the_archive(cut)
    assert has_arrived(pull(published), published, small)
    assert sum(call.is_download and "alexnet.mar" in call.path for call in cloud.calls) > 1


def test_calls_that_are_not_answered_and_refusals_that_pass_lose_nothing(
    pull: Pull, published: StorageUri, small: Files, cloud: Any
) -> None:
    troubles: list[Callable[..., Any]] = [lambda *_: cloud.error(503, "Service Unavailable"), lambda *_: None]
    cloud.trouble = of_the_archive(lambda call, forward: troubles.pop()(call, forward), times=len(troubles))
    assert has_arrived(pull(published), published, small)


@pytest.mark.parametrize("what", ["list", VERSION_FILE, "alexnet.mar"])
@pytest.mark.parametrize("status", [200, 403, 407, 511])
def test_the_page_of_somebody_in_between_is_told_in_one_line(
    what: str, status: int, pull: Pull, published: StorageUri, cloud: Any, cache: Path
) -> None:
    page = cloud.page(status, b"<html>\n<body>Log in to the hotel's network\n</html>")
    cloud.trouble = lambda call, forward: page if call.path.endswith("/o" if what == "list" else what) else forward()
    refusal(pull, published, cache)


# --- scripts/serve.sh -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["s3://models/0123456789ab", "gs://models/a b", "gs:/models/0123456789ab"])
def test_serve_tells_a_uri_that_cannot_be(script: Script, only_error: OnlyError, source: str, cache: Path) -> None:
    assert only_error(script("serve", source)).startswith(repr(source))
    assert not cache.exists()


def test_serve_tells_what_is_not_there_in_one_line(
    script: Script, only_error: OnlyError, cloud: Any, cache: Path
) -> None:
    uri = f"gs://{cloud.bucket}/models/0123456789ab"
    assert only_error(script("serve", uri)).startswith(f"{uri} has no {VERSION_FILE}")
    assert only_the_lock(cache)


def test_serve_tells_what_kserve_may_not_download_in_one_line(
    script: Script, only_error: OnlyError, cloud: Any, published: StorageUri, cache: Path
) -> None:
    said = "Permission 'storage.objects.get' denied on resource (or it may not exist)."
    cloud.refuse(403, said, lambda call: call.is_download and "alexnet.mar" in call.path)
    assert "roles/storage.objectViewer" in only_error(script("serve", published))
    assert only_the_lock(cache)


def test_serve_tells_a_full_disk_in_one_line(
    script: Script, only_error: OnlyError, published: StorageUri, cache: Path
) -> None:
    sentence = only_error(script("serve", published, limits="ulimit -f 10"))
    assert sentence == f"{cache}/.{published.path.rpartition('/')[2]}.part: File too large"
    assert only_the_lock(cache)


@pytest.fixture
def pulling(
    checkout: Path, cloud: Any, published: StorageUri, cache: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """scripts/serve.sh, which waits for the archive: it has half of it."""
    half_sent = threading.Event()

    def hold_back(call: Any, forward: Callable[[], Any]) -> Any:
        answer = forward()
        if call.is_download and "alexnet.mar" in call.path:
            call.send_first(answer, len(answer.body) // 2)
            half_sent.set()
            cloud.over.wait()
            return None
        return answer

    cloud.trouble = hold_back
    command = [str(checkout / "scripts" / "serve.sh"), str(published)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as started:
        assert half_sent.wait(60)
        yield started
        cloud.over.set()
        started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_download_leaves_nothing(
    number: signal.Signals, pulling: subprocess.Popen[str], cache: Path
) -> None:
    assert any(cache.glob(".*.part"))
    pulling.send_signal(number)
    out, err = pulling.communicate(timeout=60)
    assert (pulling.returncode, out) == (128 + number, "")
    assert "Traceback" not in err
    assert only_the_lock(cache)
