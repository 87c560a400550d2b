"""Spinners and bars in a terminal, one at a time; and text that a terminal shows but does not interpret."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.spinner import Spinner
from rich.table import Table

from pipeline.shared import terminal
from pipeline.shared.errors import ServerFailed
from pipeline.shared.terminal import PlainConsole, complain, spinner, transfer_bar
from pipeline.shared.text import printable


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What has been written to a terminal of 80 columns, with its control sequences."""
    console = PlainConsole(file=io.StringIO(), force_terminal=True, width=80, stderr=True)
    monkeypatch.setattr(terminal, "err", console)

    def written() -> str:
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        console.file.seek(0)
        console.file.truncate()
        return text

    return written


def moving() -> list[str]:
    """The spinner's text or the bar that is shown now, from the terminal's output."""
    shown = [live.get_renderable() for live in terminal.err._live_stack]
    return [str(one.text) if isinstance(one, Spinner) else "bar" for one in shown]


def test_one_moves_at_a_time_and_the_outer_one_comes_back(screen: Callable[[], str]) -> None:
    with spinner("pull …"):
        assert moving() == ["pull …"]
        with spinner("looking …") as say, transfer_bar("downloading") as progress:
            assert moving() == ["looking …"]
            say("found [red] …")
            assert moving() == ["found [red] …"]
            progress(1, 2)
            assert moving() == ["bar"]
            progress(2, 2)
            assert moving() == ["bar"]
        assert moving() == ["pull …"]
        with transfer_bar("nothing comes"):
            assert moving() == ["pull …"]
    assert moving() == []


def test_an_error_within_leaves_nothing_that_moves(screen: Callable[[], str]) -> None:
    def fail() -> None:
        with spinner("a"), transfer_bar("b") as progress:
            progress(1, 2)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert moving() == []


def test_a_bar_fits_into_a_narrow_terminal(screen: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal.err, "width", 40)
    with transfer_bar("ImageNet weights") as progress:
        progress(123_000_000, 244_000_000)
    assert "123.0/244.0 MB" in screen()


def test_without_a_terminal_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    console = PlainConsole(file=io.StringIO(), width=80)
    monkeypatch.setattr(terminal, "err", console)
    with spinner("a") as say, transfer_bar("b") as progress:
        say("c")
        progress(1, 2)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with umlauts: äöü, 三毛猫, 🐈", "plain, with umlauts: äöü, 三毛猫, 🐈"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwritten\x08\x7f", "over\\rwritten\\x08\\x7f"),
        ("a\nerror: forged\r\n", "a\\nerror: forged\\r\\n"),
        ("\x9b2J\x00", "\\x9b2J\\x00"),
        ("gpj.\u202etac", "gpj.\\u202etac"),
        ("one\u2028two", "one\\u2028two"),
        (b"\xff.jpg".decode("utf-8", "surrogateescape"), "\\udcff.jpg"),
    ],
)
def test_text_is_shown_and_not_obeyed(text: str, shown: str, screen: Callable[[], str]) -> None:
    assert printable(text) == shown
    complain(text)
    assert f"error: {shown}" in screen()


def test_tabs_stay() -> None:
    assert printable("a\tb") == "a\tb"


def test_the_last_words_of_a_server_have_lines_of_their_own(screen: Callable[[], str]) -> None:
    complain(ServerFailed("TorchServe did not start", "one\x1b[2J\ntwo"))
    assert "error: TorchServe did not start; its last words:\none\\x1b[2J\ntwo\n" in re.sub(r"\x1b\[\d*m", "", screen())


def test_what_a_table_holds_is_a_line_too(screen: Callable[[], str]) -> None:
    table = Table(box=None, show_header=False)
    table.add_row("a\nerror: forged\x1b[2J")
    terminal.err.print(table)
    assert "a\\nerror: forged\\x1b[2J" in screen()


def test_a_spinner_shows_text_and_does_not_obey_it(screen: Callable[[], str]) -> None:
    with spinner("looking for [red]\x1b[2J …") as say:
        assert moving() == ["looking for [red]\\x1b[2J …"]
        say("at [red]\x1b[2J …")
        assert moving() == ["at [red]\\x1b[2J …"]
