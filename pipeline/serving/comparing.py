"""Asking two servers, A and B, the same pictures by turns."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pipeline.serving.client import Class
from pipeline.serving.comparison import Answer, Outcome
from pipeline.shared.errors import GaveUp, NotClassified

MOST_CLASSES = 1000
WARM_UPS = 3  # calls to each before any is timed: the first ones of a server take longer
SILENT = 20  # pictures in a row without an answer: there will be none to the others either

# What the model says where its setting max_top_k is lower (handler/vision/protocol/top_k.py).
FEWER = re.compile(r"top_k: expected an integer from 1 to (\d+)")


@dataclass(frozen=True)
class Picture:
    """name: for sentences. content: the bytes of an image file."""

    name: str
    content: bytes


Ask = Callable[[Picture, int], list[Class]]  # so many classes of a picture; it raises NotClassified


def warm_up(ask: Ask, picture: Picture) -> int:
    """How many classes this server can be asked for. Its first calls are over then."""
    classes = MOST_CLASSES
    for _ in range(WARM_UPS):
        try:
            ask(picture, classes)
        except NotClassified as error:
            if fewer := FEWER.search(str(error)):
                classes = int(fewer[1])
    return classes


def ask_both(a: Ask, b: Ask, pictures: Iterable[Picture], classes: int) -> Iterator[Outcome]:
    """An outcome for each picture, which A, B, B and A are asked: what drifts, drifts for both.

    Raises GaveUp where one has stopped answering, AnotherModel, and what asking raises but for NotClassified.
    """
    silent = {"A": 0, "B": 0}
    for picture in pictures:
        answers = [_timed(ask, picture, classes) for ask in (a, b, b, a)]
        outcome = Outcome.of(picture.name, (answers[0], answers[3]), (answers[1], answers[2]))
        yield outcome
        for name, side in (("A", outcome.a), ("B", outcome.b)):
            silent[name] = 0 if side.first else silent[name] + 1
            if silent[name] == SILENT:
                raise GaveUp(name, SILENT, side.problems[-1])


def _timed(ask: Ask, picture: Picture, classes: int) -> Answer:
    began = time.perf_counter()
    try:
        found = ask(picture, classes)
    except NotClassified as error:
        return Answer(time.perf_counter() - began, problem=str(error))
    return Answer(time.perf_counter() - began, found)
