"""bfloat16 weights: one file, which the first worker writes and all map; if that is impossible, each has its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vision.model import as_run, weights
from vision.model.classifier import Classifier
from vision.model.devices import BFLOAT16, FLOAT32
from vision.model.facts import Facts
from vision.model.network import Network
from vision.model.program import Node, Program, Weight
from vision.model.weights import PROGRAM, WEIGHTS, load, rewrite
from vision.worker.integrity import MADE_HERE, SUMS_FILE, check_files
from vision.worker.settings import Settings

ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what a process has mapped")
CPU = torch.device("cpu")
SHARED = "weights.bfloat16.safetensors"

# A worker that prints what it maps: the inode of the file, once for each mapping.
WORKER = """
import sys
from pathlib import Path
from vision.model.weights import load
_, weights, _ = load(Path(sys.argv[1]), "bfloat16")
maps = Path("/proc/self/maps").read_text().splitlines()
maps = [line.split() for line in maps if "/weights.bfloat16.safetensors" in line]
print(*{words[4] for words in maps}, *sorted({str(tensor.dtype) for tensor in weights.values()}))
"""


@pytest.fixture
def archive(model_dir: Path, tmp_path: Path) -> Path:
    """An unpacked archive, as workers find it: it has MAR-INF."""
    for file in model_dir.iterdir():
        if file.name not in MADE_HERE:
            (tmp_path / file.name).symlink_to(file)
    return tmp_path


def network(folder: Path, precision: str) -> Network:
    program, tensors, _ = load(folder, precision)
    return Network(program, tensors, precision, CPU)


def made_in(archive: Path) -> list[str]:
    return sorted(file.name for file in archive.iterdir() if file.name in MADE_HERE)


def read(file: Path) -> dict[str, torch.Tensor]:
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def logits(made: Network, side: int = 224) -> torch.Tensor:
    noise = torch.randn(5, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return made(noise.to(made.dtype).to(memory_format=torch.channels_last))


@pytest.fixture
def alone(model_dir: Path, tmp_path: Path) -> Path:
    """The same network in a folder that is not an unpacked archive."""
    folder = tmp_path / "alone"
    folder.mkdir()
    for name in (PROGRAM, WEIGHTS):
        (folder / name).symlink_to(model_dir / name)
    return folder


# --- One file for all -------------------------------------------------------------------------------------------------


@ON_LINUX
def test_the_first_worker_writes_it_and_nothing_of_it_is_copied(archive: Path) -> None:
    program, tensors, _ = load(archive, BFLOAT16)
    assert (archive / SHARED).stat().st_size < 0.54 * (archive / WEIGHTS).stat().st_size
    made = Network(program, tensors, BFLOAT16, CPU)
    assert str(archive / SHARED) in Path("/proc/self/maps").read_text()
    for name, tensor in (*made._weights.items(), *made._head_weights.items()):
        bias_of_head = name in made._head_weights and tensor.dim() == 1  # 4 kB; each worker has a copy
        assert bias_of_head or tensor.data_ptr() == tensors[name].data_ptr(), name


def test_answers_are_those_of_weights_that_each_worker_has_for_itself(archive: Path, alone: Path) -> None:
    assert torch.equal(logits(network(archive, BFLOAT16)), logits(network(alone, BFLOAT16)))
    assert not (alone / SHARED).exists()


@ON_LINUX
def test_workers_that_come_together_map_one_file(archive: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-P", "-c", WORKER, str(archive)]
    workers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {worker.communicate(timeout=120)[0] for worker in workers}
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    (answer,) = answers
    assert answer.split()[0] == str((archive / SHARED).stat().st_ino)
    assert made_in(archive) == [SHARED]


def test_every_tensor_begins_where_a_line_of_the_cache_does(archive: Path) -> None:
    _, tensors, _ = load(archive, BFLOAT16)
    assert {tensor.data_ptr() % 64 for tensor in tensors.values()} == {0}


def test_the_check_of_the_archive_knows_it(model_dir: Path) -> None:
    load(model_dir, BFLOAT16)
    check_files(model_dir)
    assert (model_dir / SHARED).exists()
    assert SHARED not in (model_dir / SUMS_FILE).read_text()


def test_float32_takes_the_archives_own(archive: Path) -> None:
    _, tensors, _ = load(archive, FLOAT32)
    assert not (archive / SHARED).exists()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


# --- When something is wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["a byte", "the end", "no such file", "of another"])
def test_a_file_that_is_damaged_or_of_other_weights_is_written_again(damage: str, archive: Path) -> None:
    expected = logits(network(archive, BFLOAT16))
    shared = archive / SHARED
    before = shared.read_bytes()
    shared.unlink()
    if damage == "a byte":
        shared.write_bytes(before[:-100_000] + bytes([before[-100_000] ^ 1]) + before[-99_999:])
    elif damage == "the end":
        shared.write_bytes(before[: len(before) // 2])
    elif damage == "no such file":
        shared.write_bytes(b"")
    else:
        stored = {"features.0.weight": torch.zeros(3)}
        as_run.write(stored, {weights.OF: "others", weights.SHA256: as_run.digest(stored)}, shared)
    assert torch.equal(logits(network(archive, BFLOAT16)), expected)
    assert shared.read_bytes() == before


@contextmanager
def no_file_larger_than(most: int) -> Iterator[None]:
    """As on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_each_worker_has_its_own(archive: Path, alone: Path) -> None:
    with no_file_larger_than(1_000_000):
        made = network(archive, BFLOAT16)
    assert made_in(archive) == []
    assert torch.equal(logits(made), logits(network(alone, BFLOAT16)))


def test_where_nothing_may_be_written_each_worker_has_its_own(archive: Path, alone: Path) -> None:
    (archive / SHARED).mkdir()
    assert torch.equal(logits(network(archive, BFLOAT16)), logits(network(alone, BFLOAT16)))


def test_what_would_fill_a_pods_tmp_is_not_written(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MOST_SHARED_BYTES", (archive / WEIGHTS).stat().st_size - 1)
    _, tensors, _ = load(archive, BFLOAT16)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert not (archive / SHARED).exists()


# --- An archive that holds bfloat16 -----------------------------------------------------------------------------------


@pytest.fixture
def halved(model_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "halved"
    folder.mkdir()
    for name in (PROGRAM, WEIGHTS):
        (folder / name).hardlink_to(model_dir / name)
    rewrite(folder)
    return folder


def test_an_archive_of_bfloat16_answers_with_the_same_bits_and_half_the_size(halved: Path, alone: Path) -> None:
    assert (halved / WEIGHTS).stat().st_size < 0.54 * (alone / WEIGHTS).stat().st_size
    assert torch.equal(logits(network(halved, BFLOAT16)), logits(network(alone, BFLOAT16)))


def test_float32_widens_it(halved: Path, alone: Path, facts: Facts, settings: Settings) -> None:
    program, tensors, origin = load(halved, FLOAT32)
    made = Network(program, tensors, FLOAT32, CPU)
    assert {tensor.dtype for tensor in made._weights.values()} == {torch.float32}
    assert origin["weights"] == "untrained"
    torch.testing.assert_close(
        logits(made), logits(network(alone, FLOAT32)), atol=0.3, rtol=0.05
    )  # for logits that are 3 apart
    classifier = Classifier(halved, facts, replace(settings, precision=FLOAT32, device="cpu"), gpu_id=None)
    assert classifier.probabilities([np.zeros((224, 224, 3), np.uint8)]).shape == (1, 1000)


@ON_LINUX
def test_workers_map_it_as_it_is(halved: Path) -> None:
    (halved / "MAR-INF").mkdir()
    program, tensors, _ = load(halved, BFLOAT16)
    made = Network(program, tensors, BFLOAT16, CPU)
    assert not (halved / SHARED).exists()
    for name, tensor in made._weights.items():
        assert tensor.data_ptr() == tensors[name].data_ptr(), name


def test_it_is_the_same_file_whenever_it_is_written(halved: Path, model_dir: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    for name in (PROGRAM, WEIGHTS):
        (again / name).hardlink_to(model_dir / name)
    rewrite(again)
    assert (again / WEIGHTS).read_bytes() == (halved / WEIGHTS).read_bytes()


# --- The file itself --------------------------------------------------------------------------------------------------


def taking(*head: str, exact: str = "") -> Program:
    """A program with these weights in its last layer, and one in an 8-bit operator."""
    nodes = [
        Node("int8.linear", torch.relu, [Weight(exact)], {}),
        Node("linear", torch.relu, [Weight(name) for name in head], {}),
    ]
    return Program(1, nodes, 1)


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (8, 1, 3, 3), (8, 4, 1, 1), (1, 4, 3, 3), (8, 1, 1, 1)])
def test_a_convolutions_weight_comes_back_as_the_network_would_make_it(shape: tuple[int, ...], tmp_path: Path) -> None:
    weight = torch.randn(shape)
    as_run.write(as_run.to_store({"w": weight}, taking()), {}, tmp_path / "file")
    made = as_run.from_store(read(tmp_path / "file"))["w"]
    expected = weight.bfloat16().to(memory_format=torch.channels_last)
    assert torch.equal(made, expected)
    assert made.stride() == expected.stride()


def test_kinds_of_tensors_are_kept(tmp_path: Path) -> None:
    held = {
        "a": torch.arange(6).reshape(2, 3),
        "b": torch.tensor([True, False]),
        "c": torch.randn(3),
        "d": torch.tensor(2.5),
        "head": torch.randn(4, 3),
        "bias": torch.randn(4),
        "ünï": torch.zeros(0),
        "scale": torch.randn(2),
        "int8": torch.tensor([[-128, 127]], dtype=torch.int8),
    }
    stored = as_run.to_store(held, taking("head", "bias", exact="scale"))
    as_run.write(stored, {"b": "2", "a": "1"}, tmp_path / "file")
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert file.metadata() == {"a": "1", "b": "2"}
    found = read(tmp_path / "file")
    assert as_run.digest(found) == as_run.digest(stored)
    back = as_run.from_store(found)
    assert back.keys() == held.keys()
    for name, tensor in held.items():
        float32 = name in ("head", "bias", "scale") or not tensor.is_floating_point()
        assert torch.equal(back[name], tensor if float32 else tensor.bfloat16()), name


@pytest.mark.parametrize("name", ["a|channels_last", "a|transposed"])
def test_a_mark_that_does_not_fit_is_one_clear_sentence(name: str, alone: Path) -> None:
    (alone / WEIGHTS).unlink()
    save_file({name: torch.zeros(3)}, alone / WEIGHTS)
    with pytest.raises(ValueError, match=r"^weights\.safetensors cannot be read: a\|\w+ has 1 dimensions$"):
        load(alone)
