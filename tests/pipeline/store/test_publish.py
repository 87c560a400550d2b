"""Publishing: one whole version or none, never overwritten, taken up again where it was interrupted, come what may."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.cloud.storage.retry import DEFAULT_RETRY

from pipeline.artefact.version import ARCHIVE, CONFIG, VERSION_FILE, Version
from pipeline.shared.errors import PipelineError
from pipeline.store.bucket import connect
from pipeline.store.publish import Outcome, publish_version
from pipeline.store.registry import read_version
from pipeline.store.storage_uri import StorageUri

Files = Mapping[str, Path]
Publish = Callable[..., Outcome]
DENIED = (
    "x@y does not have storage.objects.create access to the Google Cloud Storage object. Permission "
    "'storage.objects.create' denied on resource (or it may not exist)."
)


def size(files: Files) -> int:
    return sum(path.stat().st_size for path in files.values())


def is_whole(cloud: Any, uri: StorageUri, files: Files) -> bool:
    """All that lies in the bucket is this one version, byte for byte."""
    expected = {f"{uri.path}/{name}": path.read_bytes() for name, path in files.items()}
    description = f"{uri.path}/{VERSION_FILE}"
    assert cloud.objects().keys() == {*expected, description}
    assert read_version(connect(), uri) == Version.of(files) == Version.from_json(cloud.read(description), "")
    return all(cloud.read(name) == content for name, content in expected.items())


def refusal(publish: Publish, files: Files) -> str:
    with pytest.raises(PipelineError) as refused:
        publish(files)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def sometimes(hit: Callable[[Any], Any], trouble: Callable[..., Any], times: int = 1) -> Callable[..., Any]:
    """Makes trouble for the first calls that are hit."""
    left, lock = [times], threading.Lock()

    def meddle(call: Any, forward: Callable[[], Any]) -> Any:
        with lock:
            troubled = left[0] > 0 and hit(call)
            left[0] -= troubled
        return trouble(call, forward) if troubled else forward()

    return meddle


# --- When all is well -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", ["small", "large"])
def test_what_is_published_is_what_was_there_byte_for_byte(
    files: str, publish: Publish, cloud: Any, request: pytest.FixtureRequest
) -> None:
    published = request.getfixturevalue(files)
    outcome = publish(published)
    uri, sent = outcome.uri, outcome.sent
    assert str(uri) == f"gs://{cloud.bucket}/models/{Version.of(published).name}"
    assert sent == size(published)
    assert is_whole(cloud, uri, published)


def test_its_description_has_the_checksums_that_cloud_storage_reports(
    publish: Publish, cloud: Any, large: Files
) -> None:
    uri = publish(large).uri
    for name, told in json.loads(cloud.read(f"{uri.path}/{VERSION_FILE}"))["objects"].items():
        there = cloud.objects()[f"{uri.path}/{name}"]
        assert (str(told["size"]), told["crc32c"]) == (there["size"], there["crc32c"])


def test_published_again_nothing_is_sent(publish: Publish, cloud: Any, large: Files) -> None:
    uri = publish(large).uri
    before = cloud.objects()
    cloud.calls.clear()
    told: list[int] = []
    assert publish(large, lambda so_far, _: told.append(so_far)) == Outcome(uri, 0, new=False)
    assert (cloud.sent, told) == (0, [])
    assert cloud.objects() == before


def test_versions_with_the_same_prefix_lie_side_by_side(
    publish: Publish, cloud: Any, small: Files, large: Files
) -> None:
    first = publish(small).uri
    before = cloud.objects()
    second = publish(large).uri
    assert first != second
    assert before.items() <= cloud.objects().items()
    assert read_version(connect(), first) == Version.of(small)


def test_right_beneath_a_bucket_is_fine(cloud: Any, small: Files, publish: Publish) -> None:
    version, prefix = Version.of(small), StorageUri(cloud.bucket, "")
    uri = publish_version(connect(), prefix, version, small, lambda *_: None, pytest.fail).uri
    assert str(uri) == f"gs://{cloud.bucket}/{version.name}"
    assert is_whole(cloud, uri, small)


@pytest.mark.parametrize("files", ["small", "large"])
def test_progress_never_exceeds_the_total_and_ends_with_it(
    files: str, publish: Publish, cloud: Any, request: pytest.FixtureRequest
) -> None:
    published, told = request.getfixturevalue(files), []
    publish(published, lambda *so_far: told.append(so_far))
    total = size(published)
    assert {in_all for _, in_all in told} == {total}
    assert all(0 <= so_far <= total for so_far, _ in told)
    assert told == sorted(told)
    assert told[-1] == (total, total)


def test_of_large_files_there_are_no_more_parts_than_cloud_storage_composes(
    publish: Publish, cloud: Any, large: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.publish.PART_BYTES", 4096)
    uri = publish(large).uri
    assert sum(call.is_part for call in cloud.calls) == 32
    assert is_whole(cloud, uri, large)


# --- After an interruption --------------------------------------------------------------------------------------------


def interrupted(cloud: Any, publish: Publish, files: Files, after: int) -> None:
    """Publishes until permission is taken away, after some parts have been sent."""
    parts, denied = iter(range(100)), cloud.error(403, DENIED)
    cloud.trouble = lambda call, forward: denied if call.is_part and next(parts) >= after else forward()
    assert "storage.objects.create" in refusal(publish, files)
    cloud.trouble = lambda _, forward: forward()
    cloud.calls.clear()


@pytest.mark.parametrize("after", [1, 2])
def test_parts_that_were_sent_are_not_sent_again(after: int, publish: Publish, cloud: Any, large: Files) -> None:
    interrupted(cloud, publish, large, after)
    there = sum(int(item["size"]) for item in cloud.objects().values())
    assert sum(".uploads/" in name for name in cloud.objects()) == after
    told: list[tuple[int, int]] = []
    outcome = publish(large, lambda *so_far: told.append(so_far))
    uri, sent = outcome.uri, outcome.sent
    assert sent == size(large) - there
    assert sent <= cloud.sent < sent + 10_000
    assert told[-1][0] == told[-1][1] == size(large) - large[CONFIG].stat().st_size
    assert is_whole(cloud, uri, large)


def test_what_was_interrupted_is_no_version_yet(publish: Publish, cloud: Any, large: Files) -> None:
    interrupted(cloud, publish, large, 2)
    with pytest.raises(PipelineError, match="was not published there, or publishing did not finish"):
        read_version(connect(), StorageUri(cloud.bucket, f"models/{Version.of(large).name}"))


def test_a_part_with_other_content_is_replaced(publish: Publish, cloud: Any, large: Files) -> None:
    interrupted(cloud, publish, large, 1)
    (part,) = [name for name in cloud.objects() if ".uploads/" in name]
    cloud.put(part, b"\0" * int(cloud.objects()[part]["size"]))
    uri = publish(large).uri
    assert is_whole(cloud, uri, large)


def test_what_lacks_only_its_description_gets_it(publish: Publish, cloud: Any, large: Files) -> None:
    uri = publish(large).uri
    cloud.delete(f"{uri.path}/{VERSION_FILE}")
    assert publish(large) == Outcome(uri, 0, new=True)
    assert is_whole(cloud, uri, large)


@pytest.mark.parametrize("name", [CONFIG, ARCHIVE])
def test_what_is_missing_is_put_back(name: str, publish: Publish, cloud: Any, large: Files) -> None:
    uri = publish(large).uri
    cloud.delete(f"{uri.path}/{name}")
    assert publish(large) == Outcome(uri, large[name].stat().st_size, new=False)
    assert is_whole(cloud, uri, large)


def test_parts_that_nobody_needs_any_more_are_removed(publish: Publish, cloud: Any, large: Files) -> None:
    """A process was killed when the version was complete, before it had removed the parts."""
    interrupted(cloud, publish, large, 1)
    parts = {name: cloud.read(name) for name in cloud.objects() if ".uploads/" in name}
    uri = publish(large).uri
    for name, content in parts.items():
        cloud.put(name, content)
    assert publish(large) == Outcome(uri, 0, new=False)
    assert is_whole(cloud, uri, large)


# --- What is there already --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, ARCHIVE, VERSION_FILE, "config/more", "more"])
def test_whatever_else_is_there_is_left_alone_and_nothing_is_sent(
    name: str, publish: Publish, cloud: Any, large: Files
) -> None:
    there = f"models/{Version.of(large).name}/{name}"
    cloud.put(there, b"something else")
    before = cloud.objects()
    assert f"gs://{cloud.bucket}/{there}" in refusal(publish, large)
    assert cloud.objects() == before
    assert cloud.sent == 0


def test_an_object_with_other_content_of_the_same_size_is_never_overwritten(
    publish: Publish, cloud: Any, small: Files
) -> None:
    uri = publish(small).uri
    cloud.put(f"{uri.path}/{ARCHIVE}", b"?" * small[ARCHIVE].stat().st_size)
    before = cloud.objects()
    assert refusal(publish, small) == (
        f"{uri / ARCHIVE} already exists with other content and is never overwritten: "
        "delete it if nobody needs it, or publish under another prefix"
    )
    assert cloud.objects() == before


def test_the_description_of_another_version_is_never_overwritten(
    publish: Publish, cloud: Any, small: Files, large: Files
) -> None:
    uri = publish(small).uri
    cloud.put(f"{uri.path}/{VERSION_FILE}", Version.of(large).to_json())
    before = cloud.objects()
    assert "version.json already exists with other content" in refusal(publish, small)
    assert cloud.objects() == before


def test_a_description_that_names_other_tools_is_kept(publish: Publish, cloud: Any, small: Files) -> None:
    """Published once more from another machine: the objects are the same."""
    uri = publish(small).uri
    described = json.loads(cloud.read(f"{uri.path}/{VERSION_FILE}")) | {"tools": {"python": "3.99"}}
    cloud.put(f"{uri.path}/{VERSION_FILE}", json.dumps(described).encode())
    before = cloud.objects()
    assert publish(small) == Outcome(uri, 0, new=False)
    assert cloud.objects() == before


def test_folders_as_the_console_makes_them_are_in_nobodys_way(publish: Publish, cloud: Any, small: Files) -> None:
    version = Version.of(small)
    for folder in ("models/", f"models/{version.name}/", f"models/{version.name}/config/"):
        cloud.put(folder, b"")
    uri = publish(small).uri
    assert read_version(connect(), uri) == version


# --- Two at once ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", ["small", "large"])
def test_two_publishers_at_once_make_one_whole_version(
    files: str, publish: Publish, cloud: Any, request: pytest.FixtureRequest
) -> None:
    published = request.getfixturevalue(files)
    start = threading.Barrier(2)

    def run() -> StorageUri:
        start.wait()
        return publish(published).uri

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(run) for _ in range(2))
    assert first.result() == second.result()
    assert is_whole(cloud, first.result(), published)


def publish_before(
    hit: Callable[[Any], Any], publish: Publish, cloud: Any, files: Files
) -> tuple[StorageUri, list[StorageUri]]:
    """Publishes, while another one publishes the same from its beginning to its end right before a call."""
    finished: list[StorageUri] = []

    def overtake(_: Any, forward: Callable[[], Any]) -> Any:
        finished.append(publish(files).uri)
        return forward()

    cloud.trouble = sometimes(hit, overtake)
    uri = publish(files).uri
    return uri, finished


@pytest.mark.parametrize(
    "hit",
    [
        lambda call: call.is_upload and CONFIG.encode() in call.body,
        lambda call: call.is_part,
        lambda call: call.is_compose,
        lambda call: call.is_upload and VERSION_FILE.encode() in call.body,
    ],
    ids=["the first object", "a part", "compose", "the description"],
)
def test_another_publisher_may_be_faster(hit: Callable[[Any], Any], publish: Publish, cloud: Any, large: Files) -> None:
    uri, others = publish_before(hit, publish, cloud, large)
    assert others == [uri]
    assert read_version(connect(), uri) == Version.of(large)
    assert is_whole(cloud, uri, large)


# --- On a bad line ----------------------------------------------------------------------------------------------------


def lost(_: Any, forward: Callable[[], Any]) -> None:
    """The answer does not arrive: what was asked has been done."""
    forward()


def cut(call: Any, _: Callable[[], Any]) -> None:
    """The connection breaks in the middle of a body."""
    call.receive(call.size // 2)


CALLS: dict[str, Callable[[Any], Any]] = {
    "the config": lambda call: call.is_upload and CONFIG.encode() in call.body,
    "a part": lambda call: call.is_part,
    "compose": lambda call: call.is_compose,
    "the description": lambda call: call.is_upload and VERSION_FILE.encode() in call.body,
    "delete": lambda call: call.method == "DELETE",
}


@pytest.mark.parametrize("what", CALLS)
def test_an_answer_that_is_lost_does_no_harm(what: str, publish: Publish, cloud: Any, large: Files) -> None:
    cloud.trouble = sometimes(CALLS[what], lost)
    uri = publish(large).uri
    assert is_whole(cloud, uri, large)


def test_connections_that_break_and_refusals_that_pass_lose_nothing(publish: Publish, cloud: Any, large: Files) -> None:
    unavailable = cloud.error(503, "Service Unavailable")
    troubles = [lambda *_: unavailable, cut, cut, lambda *_: unavailable]
    cloud.trouble = sometimes(
        lambda call: call.is_upload and call.size > 1_000_000,
        lambda call, forward: troubles.pop()(call, forward),
        times=len(troubles),
    )
    told: list[tuple[int, int]] = []
    outcome = publish(large, lambda *so_far: told.append(so_far))
    uri, sent = outcome.uri, outcome.sent
    assert sent == size(large)
    assert all(0 <= so_far <= total for so_far, total in told)
    assert told[-1] == (size(large), size(large))
    assert is_whole(cloud, uri, large)


@pytest.mark.parametrize("what", ["the config", "a part"])
def test_bytes_that_change_on_the_way_are_noticed(what: str, publish: Publish, cloud: Any, large: Files) -> None:
    """Cloud Storage refuses what does not have the checksum that it is sent with; so nothing of it is published."""
    content = large[CONFIG].read_bytes() if what == "the config" else large[ARCHIVE].read_bytes()

    def flip(call: Any, forward: Callable[[], Any]) -> Any:
        place = call.body.index(content[:200]) + 100
        call.body = call.body[:place] + bytes([call.body[place] ^ 1]) + call.body[place + 1 :]
        return forward()

    cloud.trouble = sometimes(lambda call: call.is_upload and content[:200] in call.body, flip)
    with pytest.raises(PipelineError):
        publish(large)
    with pytest.raises(PipelineError, match="publishing did not finish"):
        read_version(connect(), StorageUri(cloud.bucket, f"models/{Version.of(large).name}"))
    uri = publish(large).uri
    assert is_whole(cloud, uri, large)


# --- When something goes wrong ----------------------------------------------------------------------------------------


@pytest.fixture
def copied(large: Files, small: Files, tmp_path: Path) -> Callable[[str], Files]:
    """Copies of the files, which a test may change."""

    def make(which: str) -> Files:
        return {
            name: Path(shutil.copy(path, tmp_path / path.name))
            for name, path in (large if which == "large" else small).items()
        }

    return make


@pytest.mark.parametrize("which", ["small", "large"])
def test_a_file_that_changes_while_it_is_published_is_told_and_not_published(
    which: str, copied: Callable[[str], Files], publish: Publish, cloud: Any
) -> None:
    files = copied(which)
    name = Version.of(files).name

    def change(_: Any, forward: Callable[[], Any]) -> Any:
        with files[ARCHIVE].open("r+b") as file:
            file.seek(-100, 2)
            file.write(b"changed")
        return forward()

    cloud.trouble = sometimes(lambda call: call.is_upload, change)
    assert refusal(publish, files) == f"{files[ARCHIVE]} changed while it was being published: run this again"
    assert f"models/{name}/{ARCHIVE}" not in cloud.objects()
    assert f"models/{name}/{VERSION_FILE}" not in cloud.objects()


def test_a_file_that_shrinks_while_it_is_published_is_told_and_not_published(
    copied: Callable[[str], Files], publish: Publish, cloud: Any
) -> None:
    files = copied("large")

    def shrink(_: Any, forward: Callable[[], Any]) -> Any:
        with files[ARCHIVE].open("r+b") as file:
            file.truncate(1000)
        return forward()

    cloud.trouble = sometimes(lambda call: call.is_upload, shrink)
    assert refusal(publish, files) == f"{files[ARCHIVE]} changed while it was being published: run this again"
    assert not any(name.endswith((ARCHIVE, VERSION_FILE)) for name in cloud.objects())


def test_parts_that_may_not_be_deleted_are_told_and_the_version_is_complete(
    publish: Publish, cloud: Any, large: Files
) -> None:
    cloud.refuse(403, DENIED.replace("create", "delete"), lambda call: call.method == "DELETE")
    warnings: list[str] = []
    outcome = publish(large, warn=warnings.append)
    uri, sent = outcome.uri, outcome.sent
    version = Version.of(large)
    assert sent == size(large)
    assert read_version(connect(), uri) == version
    folder = f"gs://{cloud.bucket}/models/.uploads/{version.objects[ARCHIVE].sha256}"
    assert warnings == [
        f"The version is complete, but its upload parts are still at {folder}: permission storage.objects.delete is "
        f"missing on gs://{cloud.bucket}: ask its owner for the role roles/storage.objectUser"
    ]
    parts = [name for name in cloud.objects() if ".uploads/" in name]
    assert len(parts) == 3
    assert all(name.endswith(".part") for name in parts)


def test_a_refusal_half_way_leaves_no_version(publish: Publish, cloud: Any, small: Files) -> None:
    cloud.refuse(403, DENIED, lambda call: call.is_upload and VERSION_FILE.encode() in call.body)
    assert refusal(publish, small) == (
        f"permission storage.objects.create is missing on gs://{cloud.bucket}: "
        "ask its owner for the role roles/storage.objectUser"
    )
    with pytest.raises(PipelineError, match="publishing did not finish"):
        read_version(connect(), StorageUri(cloud.bucket, f"models/{Version.of(small).name}"))


def test_parts_that_vanish_are_told_with_what_to_do(publish: Publish, cloud: Any, large: Files) -> None:
    """The bucket's lifecycle rule for them comes in between, or somebody tidies up."""

    def vanish(_: Any, forward: Callable[[], Any]) -> Any:
        for name in cloud.objects():
            if ".uploads/" in name:
                cloud.delete(name)
        return forward()

    cloud.trouble = sometimes(CALLS["compose"], vanish)
    sentence = refusal(publish, large)
    assert "there is no bucket" not in sentence
    assert "run this again" in sentence
    uri = publish(large).uri
    assert is_whole(cloud, uri, large)


def test_a_line_that_breaks_when_the_version_is_complete_does_not_make_it_a_failure(
    publish: Publish, cloud: Any, large: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DEFAULT_RETRY, "_timeout", 0.1)  # two minutes, else
    cloud.trouble = lambda call, forward: None if CALLS["delete"](call) else forward()
    warnings: list[str] = []
    uri = publish(large, warn=warnings.append).uri
    assert read_version(connect(), uri) == Version.of(large)
    assert len(warnings) == 1
    assert warnings[0].startswith("The version is complete, but its upload parts are still at ")


def test_a_retention_policy_keeps_the_parts_and_is_told_as_such(publish: Publish, cloud: Any, large: Files) -> None:
    kept = "Object 'x' is subject to bucket's retention policy and cannot be deleted until 2027-01-01"
    cloud.refuse(403, kept, CALLS["delete"])
    warnings: list[str] = []
    uri = publish(large, warn=warnings.append).uri
    assert read_version(connect(), uri) == Version.of(large)
    assert warnings[0].endswith(f": gs://{cloud.bucket}: Cloud Storage refuses (403): {kept}")


@pytest.mark.parametrize("beneath", ["", "/config", "/more/and/more"])
def test_nothing_is_published_into_a_version(beneath: str, publish: Publish, cloud: Any, small: Files) -> None:
    """A storageUri is soon pasted in the place of a prefix."""
    uri = publish(small).uri
    before = cloud.objects()
    prefix = StorageUri(cloud.bucket, f"{uri.path}{beneath}")
    with pytest.raises(PipelineError, match="is a version, or is inside one"):
        publish_version(connect(), prefix, Version.of(small), small, lambda *_: None, pytest.fail)
    assert cloud.objects() == before


@pytest.mark.parametrize("what", ["list", "the config", "a part", "compose"])
@pytest.mark.parametrize("status", [200, 403, 407, 511])
def test_the_page_of_somebody_in_between_is_told_in_one_line(
    what: str, status: int, publish: Publish, cloud: Any, large: Files
) -> None:
    page = cloud.page(status, b"<html>\n<body>Log in to the hotel's network\n</html>")
    hit = CALLS.get(what, lambda call: call.method == "GET")
    cloud.trouble = lambda call, forward: page if hit(call) else forward()
    refusal(publish, large)
    assert not any(name.endswith(VERSION_FILE) for name in cloud.objects())
