"""What the server writes to its log: lines that nobody can forge, with a bounded length and number."""

from __future__ import annotations

import io
import json
import queue
from typing import Any

import pytest

from server import log


@pytest.fixture
def passed_on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Text that a process prints → log entries."""
    lines: queue.Queue[str] = queue.Queue(10_000)
    monkeypatch.setattr(log, "LINES", lines)
    monkeypatch.setattr(log, "ROOM", log.Room())

    def forwarded(text: str) -> list[dict[str, Any]]:
        log.forward(io.StringIO(text), "torchserve")
        said = [lines.get() for _ in range(lines.qsize())]
        assert all(line.endswith("\n") and line.count("\n") == 1 for line in said)
        return [json.loads(line) for line in said]

    return forwarded


def test_other_lines_become_json(passed_on: Any) -> None:
    (entry,) = passed_on("WARNING: of the JVM\n\n")
    assert (entry["severity"], entry["logger"], entry["message"]) == ("INFO", "torchserve", "WARNING: of the JVM")
    assert [one["message"] for one in passed_on("[1]\n5\n{\n" + "[" * 5000 + "\n")][:3] == ["[1]", "5", "{"]


def test_control_characters_are_removed_except_in_stack_traces(passed_on: Any) -> None:
    (entry,) = passed_on(json.dumps({"message": "a\x1b[31m\r\tb\x00\x9b\u2028c\n at d"}) + "\n")
    assert entry["message"] == "a�[31m��b���c\n at d"
    (entry,) = passed_on("\x1b[2Jforged\n")
    assert entry["message"] == "�[2Jforged"


def test_a_long_line_is_cut(passed_on: Any) -> None:
    (entry,) = passed_on(json.dumps({"message": "x" * 10_000}) + "\n")
    assert entry["message"] == "x" * 4096 + "…"
    cut, after = passed_on('{"message": "' + "y" * 1_000_000 + '"}\nafter\n')
    assert len(cut["message"]) == 4097
    assert after["message"] == "after"


def test_refusals_do_not_fill_the_disk(passed_on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("server.log.time.monotonic", lambda: now)
    monkeypatch.setattr(log, "ROOM", log.Room())
    refusal = json.dumps({"severity": "WARNING", "logger": "door", "message": "404 " + "x" * 400}) + "\n"
    flood = passed_on(refusal * 5000)
    assert sum(len(json.dumps(entry)) + 1 for entry in flood) <= log.MOST_BYTES
    assert len(flood) == log.MOST_BYTES // len(refusal)
    good = json.dumps({"severity": "INFO", "logger": "door", "message": "200"}) + "\n"
    other = json.dumps({"severity": "WARNING", "logger": "MODEL_LOG", "message": "a defect"}) + "\n"
    assert [entry["message"] for entry in passed_on(good + other)] == ["200", "a defect"]
    now += 1
    left_out, again, *_ = passed_on(refusal)
    assert left_out["message"] == f"{5000 - len(flood)} lines about refused requests were left out"
    assert again["message"].startswith("404")
