"""Which precision a server computes in: the quicker one, and the same for all of its workers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

from tests.support import int8_network
from vision.image.preprocessing import Preprocessing
from vision.model import classifier, int8, quicker
from vision.model.classifier import Classifier
from vision.model.devices import CPU_INFO
from vision.model.explanation import Explainer
from vision.model.facts import Facts
from vision.model.quicker import CHOSEN, Measured, measured
from vision.worker.integrity import SUMS_FILE, check_files
from vision.worker.settings import Settings

x86 = pytest.mark.skipif(int8.refusal() is not None, reason=f"{int8.refusal()}")


# --- One decision -----------------------------------------------------------------------------------------------------


class Clock:
    """Networks that run in turn, and how often they did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, usual: float, other: float) -> None:
        self.takes, self.asked = {"usual": usual, "other": other}, 0
        monkeypatch.setattr(quicker, "_seconds", self._spent)

    def _spent(self, compute: Callable[[], object]) -> float:
        self.asked += 1
        return self.takes[str(compute())]

    def measured(self, folder: Path, networks: str = "bfloat16 1") -> Measured | None:
        return measured(folder, networks, lambda: "usual", lambda: "other", images=4)


@pytest.mark.parametrize(("other", "taken"), [(1.0, True), (3.6, True), (3.7, False), (4.0, False), (9.0, False)])
def test_the_other_network_has_to_be_quicker_by_a_margin(
    other: float, taken: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = Clock(monkeypatch, 4.0, other).measured(tmp_path)
    assert found == Measured(1.0, other / 4)
    assert found.other_is_quicker is taken


def test_workers_that_start_later_do_as_the_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = Clock(monkeypatch, 4.0, 1.0).measured(tmp_path)
    busy = Clock(monkeypatch, 1.0, 4.0)
    assert busy.measured(tmp_path) == first
    assert busy.asked == 0


def test_of_workers_that_start_together_one_measures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, together = Clock(monkeypatch, 4.0, 1.0), Barrier(8)

    def started(_: int) -> Measured | None:
        together.wait(30)
        return clock.measured(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(started, range(8)))
    assert set(found) == {Measured(1.0, 0.25)}
    assert clock.asked == 2 * quicker.RUNS


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}", b'{"here": 1}', b"[" * 100_000])
def test_what_is_no_measurement_is_measured_again(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / CHOSEN).write_bytes(content)
    clock = Clock(monkeypatch, 4.0, 1.0)
    assert clock.measured(tmp_path) == Measured(1.0, 0.25)
    assert clock.asked


def test_other_networks_and_other_instructions_are_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Clock(monkeypatch, 4.0, 1.0).measured(tmp_path)
    assert Clock(monkeypatch, 1.0, 4.0).measured(tmp_path, "float32 1") == Measured(0.25, 1.0)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert Clock(monkeypatch, 2.0, 4.0).measured(tmp_path, "float32 1") == Measured(0.5, 1.0)


def test_where_nothing_can_be_written_workers_agree_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / f".{CHOSEN}").mkdir()
    assert Clock(monkeypatch, 4.0, 1.0).measured(tmp_path) is None


def test_where_nothing_can_be_locked_workers_agree_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert Clock(monkeypatch, 4.0, 1.0).measured(tmp_path) is None


def test_it_may_lie_in_the_unpacked_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed = tmp_path / "classes.json"
    packed.write_text("[]")
    (tmp_path / SUMS_FILE).write_text(f"{hashlib.sha256(packed.read_bytes()).hexdigest()}  {packed.name}\n")
    Clock(monkeypatch, 4.0, 1.0).measured(tmp_path)
    (tmp_path / f".{CHOSEN}").write_text("another worker, at it")
    check_files(tmp_path)


# --- In a worker ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    int8_network.write(tmp_path)
    return tmp_path


SEEN = Preprocessing(int8_network.SIDE, int8_network.SIDE, int8_network.MEAN, int8_network.STD, "bilinear")
FACTS = Facts("small", "classes.json", SEEN, bfloat16=True, int8=True)
PIXELS = [int8_network.drawn((16, 16, 3), seed).numpy() for seed in range(5)]


@pytest.fixture
def load(folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Classifier]:
    monkeypatch.setattr("vision.model.devices._processor_multiplies_bfloat16", lambda: False)
    return lambda precision, facts=FACTS: Classifier(folder, facts, replace(settings, precision=precision), None, 4)


@x86
@pytest.mark.parametrize(("seconds", "precision"), [((4.0, 1.0), "int8"), ((1.0, 1.0), "float32")])
def test_auto_takes_the_quicker_one(
    seconds: tuple[float, float],
    precision: str,
    load: Callable[..., Classifier],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual, other = load("float32"), load("int8")
    rows = dict(zip(("float32", "int8"), (each.logits(PIXELS) for each in (usual, other)), strict=True))
    monkeypatch.setattr(classifier, "measured", lambda *_: Measured(*seconds))
    made = load("auto")
    assert made.precision == precision
    assert made.description.startswith(f"precision={precision} ")
    assert f" measured=float32:{seconds[0] * 1000:.1f}ms,int8:{seconds[1] * 1000:.1f}ms " in made.description
    assert torch.equal(made.logits(PIXELS), rows[precision])
    assert not torch.equal(*rows.values())


@x86
def test_a_real_measurement_is_written_down_and_obeyed(load: Callable[..., Classifier], folder: Path) -> None:
    first = load("auto")
    said = json.loads((folder / CHOSEN).read_text())
    assert (first.precision == "int8") == Measured(said["usual"], said["other"]).other_is_quicker
    taken = "float32" if first.precision == "int8" else "int8"
    (folder / CHOSEN).write_text(json.dumps({**said, "usual": said["other"], "other": said["usual"] / 4}))
    if taken == "int8":
        assert load("auto").precision == "int8"


@x86
def test_answers_of_8_bits_do_not_depend_on_their_company(load: Callable[..., Classifier]) -> None:
    made = load("int8")
    together = made.logits(PIXELS)
    for index, image in enumerate(PIXELS):
        assert torch.equal(made.logits([image])[0], together[index])
    assert torch.equal(made.logits(PIXELS[::-1]).flip(0), together)


@x86
def test_explanations_are_of_the_network_that_can_be_differentiated(load: Callable[..., Classifier]) -> None:
    usual, made = load("float32"), load("int8")
    expected = Explainer(usual, int8_network.MEAN).heat(PIXELS[0], 1)
    found = Explainer(made, int8_network.MEAN).heat(PIXELS[0], 1)
    assert found.max() > 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("no int8", "this archive has no 8-bit network; package it with --int8 PHOTOGRAPHS, or use auto"),
        ("no file", "int8.safetensors cannot be read: "),
        ("no program", "int8.json does not fit these weights: "),
        ("no x86", "8-bit layers need an x86-64 processor, and this is aarch64"),
        ("other sums", "int8.json does not fit these weights: nodes[1]: int8.conv2d does not accept its input: "),
    ],
)
def test_where_it_cannot_be_auto_goes_on_and_int8_says_why(
    change: str, reason: str, load: Callable[..., Classifier], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = replace(FACTS, int8=change != "no int8")
    if change == "no file":
        (folder / "int8.safetensors").unlink()
    if change == "no program":
        (folder / "int8.json").write_text("{}")
    if change == "no x86":
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
    if change == "other sums":
        exact = int8.Conv2d._exact
        monkeypatch.setattr(int8.Conv2d, "_exact", lambda *given: exact(*given) * 1.1)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refused:
        load("int8", facts)
    assert str(refused.value).startswith(f"model-config.yaml: handler.precision is int8: {reason}")
    made = load("auto", facts)
    assert made.precision == "float32"
    said = re.search(r" int8='([^\n]*)' ", made.description)
    assert (said[1] if said else "").startswith(reason if facts.int8 else "")


def test_a_processor_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = quicker._here("1")
    monkeypatch.setattr(quicker, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("model name: another\nflags: avx2\ncpu MHz: 2000\n")
    there = quicker._here("1")
    (tmp_path / "cpuinfo").write_text("model name: another\nflags: avx2\ncpu MHz: 3000\n")
    assert quicker._here("1") == there
    assert (there != here) or not CPU_INFO.exists()
