"""Signals that are noted while something must not be interrupted."""

from __future__ import annotations

import signal

import pytest

from pipeline.shared.signals import NotedSignals, Terminated


def test_one_that_comes_is_noted_and_obeyed_later() -> None:
    with NotedSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Terminated):
        signals.obey()


def test_where_they_are_heeded_the_first_raises_and_the_next_is_noted() -> None:
    done = []
    with NotedSignals() as signals:
        try:
            with signals.heeded():
                signal.raise_signal(signal.SIGTERM)
                done.append("went on")
        except Terminated:
            signal.raise_signal(signal.SIGINT)
            done.append("cleaned up")
    assert done == ["cleaned up"]
    with pytest.raises(Terminated) as raised:
        signals.obey()
    assert raised.value.code == 128 + signal.SIGINT


def test_one_that_came_before_raises_as_soon_as_they_are_heeded() -> None:
    with NotedSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated), signals.heeded():
            pytest.fail("went on")


def test_behind_that_they_are_noted_again() -> None:
    with NotedSignals() as signals:
        with signals.heeded():
            pass
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Terminated):
        signals.obey()
