"""scripts/package.sh as a user runs it."""

from __future__ import annotations

import filecmp
import os
import signal
import subprocess
from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.artefact.version import Version
from pipeline.artefact.weights import Weights
from pipeline.commands.files import version_files

pytestmark = pytest.mark.slow

Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The archive of an earlier build."""
    archive = tmp_path / "store" / "alexnet.mar"
    archive.parent.mkdir()
    archive.write_bytes(b"the archive before")
    return archive


def untouched(previous: Path) -> bool:
    return previous.read_bytes() == b"the archive before" and os.listdir(previous.parent) == [previous.name]


def test_it_prints_what_it_made_and_makes_the_same_each_time(script: Script, directory: Path, tmp_path: Path) -> None:
    done = script("package", "--weights", "untrained", "--output", "made/alexnet.mar")  # beside where it is run
    made = tmp_path / "made" / "alexnet.mar"
    assert done.returncode == 0
    assert done.stderr == "The weights are untrained: what this archive predicts is meaningless.\n"
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(told) == ["archive", "version", "weights", "size", "sha256"]
    with made.open("rb") as written:
        assert told["sha256"] == file_digest(written, "sha256").hexdigest()
    assert told["archive"] == "made/alexnet.mar"
    assert told["version"] == Version.of(version_files(made)).name
    assert told["weights"] == "untrained"
    assert told["size"].split()[:2] == [str(made.stat().st_size), "bytes"]
    assert filecmp.cmp(made, directory / "model-store" / "alexnet.mar", shallow=False)  # of another process


def test_nothing_but_a_file_is_replaced(script: Script, only_error: OnlyError, tmp_path: Path) -> None:
    """With the rights for it, a file would come in the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        said = only_error(script("package", "--weights", "untrained", "--output", name))
        assert said == f"{name} is there already, and is no file: give --output the name of one"
    assert (tmp_path / "pipe").is_fifo()


def test_empty_weights_are_no_folder(script: Script, only_error: OnlyError) -> None:
    said = only_error(script("package", "--weights", ""))
    assert said == "--weights is empty: give it imagenet, untrained, or the path of a file"


def test_of_several_state_dicts_it_says_which_it_took(script: Script, untrained: Weights, tmp_path: Path) -> None:
    state = {name: torch.from_numpy(value) for name, value in untrained.state.items()}
    torch.save({"model": state, "model_ema": state | {"classifier.6.bias": torch.ones(1000)}}, tmp_path / "a.pth")
    done = script("package", "--weights", tmp_path / "a.pth", "--output", tmp_path / "a.mar")
    assert done.returncode == 0
    assert "\nweights  file a.pth (model_ema)\n" in done.stdout
    assert done.stderr == "The file has other weights too, which were not taken: model.\n"


def test_without_a_network_it_says_what_to_do(
    script: Script, only_error: OnlyError, previous: Path, tmp_path: Path, free_port: int
) -> None:
    nowhere = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port}", "TORCH_HOME": str(tmp_path / "torch")}
    sentence = only_error(script("package", "--output", previous, environment=nowhere))
    assert sentence.startswith("the weights could not be downloaded from https://")
    assert "--weights untrained" in sentence
    assert untouched(previous)
    assert [file for file in (tmp_path / "torch").rglob("*") if file.is_file()] == []


def test_a_cache_that_cannot_be_made_is_named(script: Script, only_error: OnlyError, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    environment = {"TORCH_HOME": str(tmp_path / "file")}
    sentence = only_error(script("package", "--output", tmp_path / "alexnet.mar", environment=environment))
    assert f"({tmp_path / 'file'}" in sentence


def test_a_file_that_holds_no_weights_is_named(script: Script, only_error: OnlyError, previous: Path) -> None:
    sentence = only_error(script("package", "--weights", previous, "--output", previous))
    assert sentence == f"{previous} is text, which begins with 'the archive before': look into it"
    assert untouched(previous)


def test_a_misspelt_origin_of_weights_is_told_with_the_choices(
    script: Script, only_error: OnlyError, previous: Path
) -> None:
    sentence = only_error(script("package", "--weights", "imagnet", "--output", previous))
    assert sentence.startswith("no weights at imagnet: ")
    for choice in (".pth", ".safetensors", "imagenet", "untrained"):
        assert choice in sentence


@pytest.mark.parametrize("arguments", [["--weights"], ["--weight", "untrained"], ["untrained"]])
def test_wrong_usage_has_exit_status_2(script: Script, arguments: list[str]) -> None:
    done = script("package", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_made_is_named(script: Script, only_error: OnlyError, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sentence = only_error(script("package", "--weights", "untrained", "--output", tmp_path / "file" / "alexnet.mar"))
    assert sentence.startswith(f"{tmp_path / 'file'}: ")


def test_a_full_disk_leaves_the_archive_that_was_there_and_is_named(
    script: Script, only_error: OnlyError, previous: Path
) -> None:
    limits = "ulimit -f 1000"
    sentence = only_error(script("package", "--weights", "untrained", "--output", previous, limits=limits))
    assert sentence.startswith(f"{previous}: ")
    assert untouched(previous)


def test_a_signal_while_it_is_written_leaves_the_archive_that_was_there(
    checkout: Path, previous: Path, user_environment: None, eventually: Callable[[Callable[[], Any]], Any]
) -> None:
    command = [str(checkout / "scripts" / "package.sh"), "--weights", "untrained", "--output", str(previous)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as packaging:
        eventually(lambda: len(os.listdir(previous.parent)) > 1)
        packaging.send_signal(signal.SIGTERM)
        said, _ = packaging.communicate(timeout=60)
    assert (packaging.returncode, said) == (128 + signal.SIGTERM, "")
    assert untouched(previous)


def test_nohup_is_heeded(checkout: Path, tmp_path: Path, eventually: Callable[[Callable[[], Any]], Any]) -> None:
    """A terminal that closes sends SIGHUP; who ignores it wants the command to go on."""
    output = tmp_path / "alexnet.mar"
    command = ["sh", "-c", 'trap "" HUP; exec "$0" "$@"', str(checkout / "scripts" / "package.sh")]
    command += ["--weights", "untrained", "--output", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as packing:
        eventually(lambda: any(tmp_path.glob(".alexnet.mar.*")))
        packing.send_signal(signal.SIGHUP)
        packing.communicate(timeout=60)
    assert packing.returncode == 0
    assert output.is_file()
