"""Answers in terminals of any width."""

from __future__ import annotations

import io
import json

import pytest

from pipeline.serving.bars import BAR_WIDTH, show
from pipeline.serving.protocol import Class, classes_in
from pipeline.shared.terminal import PlainConsole

LABELS = ["tabby", "black-and-tan coonhound", "an unusually long label that somebody gave to a class of theirs"]


def shown(width: int, *labels: str, probability: float = 0.12345) -> list[str]:
    console = PlainConsole(file=io.StringIO(), width=width)
    show("a.jpg", [Class(index=0, wnid="n0", label=label, probability=probability) for label in labels], console)
    assert isinstance(console.file, io.StringIO)
    title, *rows = console.file.getvalue().splitlines()
    assert title == "a.jpg"
    return rows


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("label", LABELS)
def test_the_label_and_the_probability_are_always_whole(width: int, label: str) -> None:
    rows = shown(width, label)
    assert all(len(row.rstrip()) <= width for row in rows)
    text = "".join(rows).replace("━", "").replace("╸", "")
    assert text.count("12.35%") == 1
    assert "".join(text.replace("12.35%", "").split()) == label.replace(" ", "")
    assert "…" not in text


@pytest.mark.parametrize(("width", "bar"), [(40, 0), (50, 16), (60, 26), (80, BAR_WIDTH), (120, BAR_WIDTH)])
def test_a_bar_is_as_long_as_there_is_room_or_left_out(width: int, bar: int) -> None:
    """Next to a label of 23 characters."""
    (row,) = shown(width, LABELS[1], probability=1)
    assert row.count("━") == bar
    assert row.rstrip().endswith("100.00%")


def test_wide_characters_are_counted_as_they_are_shown() -> None:
    (row,) = shown(40, "三毛猫" * 4)
    assert row.rstrip().endswith("12.35%")


def test_a_label_that_is_an_escape_sequence_is_shown_and_not_obeyed() -> None:
    (row,) = shown(80, "\x1b]0;title\x07\x1b[2Jtabby\u202e\x9b")
    assert row.startswith("\\x1b]0;title\\x07\\x1b[2Jtabby\\u202e\\x9b  ")


def test_a_label_is_one_line_whatever_ends_of_lines_it_has() -> None:
    (row,) = shown(80, "tabby\nerror: forged\r\n")
    assert row.startswith("tabby error: forged  ")


@pytest.mark.parametrize("label", ["猫", "🐈‍⬛", 'a "quoted" <cat> & \\', "e\u0301"])
def test_a_class_needs_no_wordnet_id_and_its_label_is_any_text(label: str) -> None:
    answer = json.dumps({"predictions": [{"classes": [{"index": 0, "label": label, "probability": 1.0}]}]})
    classes = classes_in(json.loads(answer))
    console = PlainConsole(file=io.StringIO(), width=80)
    show("a.jpg", classes, console)
    assert isinstance(console.file, io.StringIO)
    assert label in console.file.getvalue()
