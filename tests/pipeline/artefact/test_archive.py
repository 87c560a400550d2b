"""The archive: the same bytes from the same inputs, in torch-model-archiver's layout, or no archive at all."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artefact.archive import CONFIG_FILE, HANDLER, NOTICE_FILE, Archive, build_archive
from pipeline.artefact.contents import (
    CLASSES_FILE,
    MODEL_FILE,
    PROGRAM_FILE,
    PROOF_FILE,
    WEIGHTS_FILE,
    write_weights,
)
from pipeline.artefact.model import MODEL_NAME

MANIFEST = "MAR-INF/MANIFEST.json"
SUMS = "SHA256SUMS"
CONTENTS = (CLASSES_FILE, MODEL_FILE, PROGRAM_FILE, PROOF_FILE, WEIGHTS_FILE)


@pytest.fixture
def packed(tiny: Path, tmp_path: Path) -> Path:
    """An archive's files other than the handler, which a test may change."""
    return Path(shutil.copytree(tiny, tmp_path / "contents"))


@pytest.fixture
def build(handler_directory: Path, packed: Path, tmp_path: Path) -> Callable[[], Archive]:
    return lambda: build_archive(handler_directory, packed, MODEL_NAME, tmp_path / "made" / "alexnet.mar")


def held_by(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def manifest(archive: Path) -> dict[str, Any]:
    return dict(json.loads(held_by(archive)[MANIFEST]))


# --- What is in it ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_builds_in_different_folders_are_identical(
    handler_directory: Path, contents: Path, directory: Path, tmp_path: Path
) -> None:
    again = build_archive(handler_directory, contents, MODEL_NAME, tmp_path / "elsewhere" / "another.mar")
    assert filecmp.cmp(again.path, directory / "model-store" / "alexnet.mar", shallow=False)


def test_what_is_told_about_the_archive_is_true(build: Callable[[], Archive], tmp_path: Path) -> None:
    archive = build()
    written = archive.path.read_bytes()
    assert archive.path == tmp_path / "made" / "alexnet.mar"
    assert archive.size == len(written)
    assert archive.sha256 == sha256(written).hexdigest()
    assert archive.version == manifest(archive.path)["model"]["modelVersion"]
    assert os.listdir(archive.path.parent) == ["alexnet.mar"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_it_is_for_the_users_umask_to_say(build: Callable[[], Archive], mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        archive = build()
    finally:
        os.umask(before)
    assert archive.path.stat().st_mode & 0o777 == mode


def test_it_holds_the_handler_the_settings_and_the_network(
    build: Callable[[], Archive], handler_directory: Path, checkout: Path, packed: Path
) -> None:
    held = held_by(build().path)
    modules = [file.relative_to(handler_directory).as_posix() for file in handler_directory.rglob("*.py")]
    assert held.keys() == {*modules, CONFIG_FILE, *CONTENTS, NOTICE_FILE, MANIFEST, SUMS}
    assert HANDLER in modules
    for name in CONTENTS:
        assert held.pop(name) == (packed / name).read_bytes()
    assert held.pop(NOTICE_FILE) == (checkout / NOTICE_FILE).read_bytes()
    del held[MANIFEST], held[SUMS]
    for name, content in held.items():
        assert content == (handler_directory / name).read_bytes()


def test_entries_are_stored_sorted_dated_1980_and_readable_by_all(build: Callable[[], Archive]) -> None:
    with zipfile.ZipFile(build().path) as opened:
        entries = opened.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        assert entry.external_attr >> 16 == 0o100644


@pytest.mark.parametrize(
    "leftover",
    [
        "vision/__pycache__/errors.cpython-311.pyc",
        "vision/.errors.py.swp",
        "entry.py~",
        "vision/#errors.py#",
        "vision/errors.py.orig",
        "vision/.DS_Store",
        "vision/.ipynb_checkpoints/errors.py",
        "vision/._errors.py",  # macOS, on other systems' file systems
    ],
)
def test_leftovers_do_not_go_into_it(build: Callable[[], Archive], handler_directory: Path, leftover: str) -> None:
    clean = build().sha256
    (handler_directory / leftover).parent.mkdir(parents=True, exist_ok=True)
    (handler_directory / leftover).write_bytes(b"\0left over")
    assert build().sha256 == clean


def test_it_can_be_built_while_emacs_edits_a_file(build: Callable[[], Archive], handler_directory: Path) -> None:
    clean = build().sha256
    (handler_directory / "vision" / ".#errors.py").symlink_to("user@host.1234:1700000000")  # a lock: a link to nowhere
    assert build().sha256 == clean


def test_the_sums_are_those_of_all_other_entries(build: Callable[[], Archive]) -> None:
    held = held_by(build().path)
    lines = held.pop(SUMS).decode().splitlines()
    assert lines == [f"{sha256(held[name]).hexdigest()}  {name}" for name in sorted(held)]


# --- The manifest and the version -------------------------------------------------------------------------------------


def test_the_manifest_names_what_torchserve_needs(build: Callable[[], Archive]) -> None:
    archive = build()
    assert manifest(archive.path) == manifest(archive.path) | {
        "createdOn": "01/01/1980 00:00:00",
        "runtime": "python",
        "model": {
            "modelName": MODEL_NAME,
            "modelVersion": archive.version,
            "handler": HANDLER,
            "serializedFile": WEIGHTS_FILE,
            "configFile": CONFIG_FILE,
        },
    }


def test_files_and_manifest_are_those_of_torch_model_archiver(
    build: Callable[[], Archive], handler_directory: Path, packed: Path, tmp_path: Path, checkout: Path
) -> None:
    archive = build()
    others = tmp_path / "others"  # given a folder, it takes the files in it
    shutil.copytree(packed, others, ignore=shutil.ignore_patterns(WEIGHTS_FILE))
    shutil.copytree(handler_directory / "vision", others / "vision")
    shutil.copy(checkout / NOTICE_FILE, others)
    subprocess.run(
        [
            *(Path(sys.executable).with_name("torch-model-archiver"), "--archive-format", "no-archive"),
            *("--model-name", MODEL_NAME, "--version", archive.version, "--export-path", tmp_path),
            *("--handler", handler_directory / HANDLER, "--serialized-file", packed / WEIGHTS_FILE),
            *("--config-file", handler_directory / CONFIG_FILE, "--extra-files", others),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    theirs = tmp_path / MODEL_NAME
    files = {str(file.relative_to(theirs)): file.read_bytes() for file in theirs.rglob("*") if file.is_file()}
    expected = json.loads(files.pop(MANIFEST))
    ours = held_by(archive.path)
    del ours[MANIFEST], ours[SUMS]
    assert ours == files
    assert manifest(archive.path) == expected | {"createdOn": "01/01/1980 00:00:00"}


@pytest.mark.parametrize("name", [HANDLER, "vision/errors.py", CONFIG_FILE])
def test_the_version_changes_with_any_file(build: Callable[[], Archive], handler_directory: Path, name: str) -> None:
    before = build().version
    with (handler_directory / name).open("a") as file:
        file.write("\n")
    assert build().version != before


@pytest.mark.parametrize("name", CONTENTS)
def test_the_version_changes_with_the_network(build: Callable[[], Archive], packed: Path, name: str) -> None:
    before = build().version
    with (packed / name).open("a") as file:
        file.write("\n")
    assert build().version != before


def test_the_version_changes_with_a_name(build: Callable[[], Archive], handler_directory: Path) -> None:
    before = build().version
    (handler_directory / "vision" / "errors.py").rename(handler_directory / "vision" / "mistakes.py")
    assert build().version != before


def test_the_version_changes_with_the_weights_and_with_their_origin(build: Callable[[], Archive], packed: Path) -> None:
    def version(origin: str, value: float) -> str:
        write_weights({"a": np.full(3, value, np.float32)}, origin, packed / WEIGHTS_FILE)
        return build().version

    assert len({version("mine", 1), version("mine", 2), version("yours", 1)}) == 3


def test_times_and_modes_of_the_files_change_nothing(build: Callable[[], Archive], handler_directory: Path) -> None:
    before = build()
    for number, file in enumerate(handler_directory.iterdir()):
        os.utime(file, (1e9 + number, 1e9 + number))
        file.chmod(0o700)
    assert build() == before


# --- When it cannot be written ----------------------------------------------------------------------------------------

BUILD_IN_LITTLE_SPACE = """
import resource, sys
from pathlib import Path
from pipeline.artefact.archive import build_archive

handler, contents, output = map(Path, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    build_archive(handler, contents, "alexnet", output)
except OSError as error:
    sys.exit(f"OSError: {error}")
"""


def test_a_build_that_runs_out_of_space_leaves_the_archive_that_was_there(
    handler_directory: Path, tiny: Path, tmp_path: Path, importable: dict[str, str]
) -> None:
    output = tmp_path / "made" / "alexnet.mar"
    output.parent.mkdir()
    output.write_bytes(b"the archive before")
    command = [sys.executable, "-P", "-c", BUILD_IN_LITTLE_SPACE, *map(str, (handler_directory, tiny, output))]
    done = subprocess.run(command, env=importable, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("OSError: ")
    assert output.read_bytes() == b"the archive before"
    assert os.listdir(output.parent) == ["alexnet.mar"]


def test_a_folder_that_cannot_be_made_is_named(handler_directory: Path, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError) as refusal:  # noqa: PT011
        build_archive(handler_directory, tiny, MODEL_NAME, tmp_path / "file" / "alexnet.mar")
    assert refusal.value.filename == str(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_in_the_place_of_the_archive_is_named_and_stays(
    handler_directory: Path, tiny: Path, tmp_path: Path
) -> None:
    output = tmp_path / "made" / "alexnet.mar"
    output.mkdir(parents=True)
    with pytest.raises(OSError) as refusal:  # noqa: PT011
        build_archive(handler_directory, tiny, MODEL_NAME, output)
    assert refusal.value.filename == str(output)
    assert os.listdir(output.parent) == ["alexnet.mar"]
    assert output.is_dir()


def test_an_archive_replaces_the_one_before_it(build: Callable[[], Archive], handler_directory: Path) -> None:
    before = build()
    with before.path.open("rb") as reader:  # a server that has it open keeps reading the old file
        (handler_directory / "vision" / "errors.py").write_text("# another\n")
        after = build()
        assert after.path == before.path
        assert sha256(reader.read()).hexdigest() == before.sha256 != after.sha256
