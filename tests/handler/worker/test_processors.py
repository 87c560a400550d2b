"""How many threads a worker uses. Two `Processors` represent two workers, because each opens the file separately."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vision.worker import processors
from vision.worker.processors import Processors, available


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with four processors, and a shared file."""
    monkeypatch.setattr(processors, "available", lambda: 4)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    meeting_point = tmp_path / "alexnet.safetensors"
    meeting_point.touch()
    meeting_point.chmod(0o444)
    return meeting_point


def test_a_request_that_is_alone_gets_every_processor(four: Path) -> None:
    with Processors(four, share=1).lend(lone=True) as threads:
        assert threads == 4


def test_a_batch_gets_a_share_since_where_requests_queue_nobody_is_idle(four: Path) -> None:
    with Processors(four, share=1).lend(lone=False) as threads:
        assert threads == 1


@pytest.mark.parametrize("lone", [True, False])
def test_beside_another_worker_each_gets_its_share(four: Path, lone: bool) -> None:
    one, other = Processors(four, share=1), Processors(four, share=1)
    with one.lend(lone), other.lend(lone=True) as threads:
        assert threads == 1


def test_who_came_alone_is_seen_while_it_works_and_no_longer(four: Path) -> None:
    one, other = Processors(four, share=1), Processors(four, share=1)
    with one.lend(lone=True) as threads:
        assert threads == 4
        with other.lend(lone=True) as threads:
            assert threads == 1
    with other.lend(lone=True) as threads:
        assert threads == 4


def test_a_defect_gives_the_processors_back(four: Path) -> None:
    one, other = Processors(four, share=1), Processors(four, share=1)
    with pytest.raises(ZeroDivisionError), one.lend(lone=True):
        raise ZeroDivisionError
    with other.lend(lone=True) as threads:
        assert threads == 4


def test_threads_that_wait_in_a_loop_stay_as_many_as_the_settings_say(
    four: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")
    with Processors(four, share=2).lend(lone=True) as threads:
        assert threads == 2


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)],
)
def test_a_containers_limit_counts(limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(processors, "CPU_MAX", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert available() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3)])
def test_the_limit_of_an_older_kernel_counts(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, content in (("CPU_MAX", None), ("CFS_QUOTA", quota), ("CFS_PERIOD", "100000")):
        monkeypatch.setattr(processors, name, tmp_path / name)
        if content is not None:
            (tmp_path / name).write_text(f"{content}\n")
    assert available() == expected


def test_where_there_is_no_limit_every_processor_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name in ("CPU_MAX", "CFS_QUOTA", "CFS_PERIOD"):
        monkeypatch.setattr(processors, name, tmp_path / name)
    assert available() == 8
