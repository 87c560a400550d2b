"""Sends the same pictures to two servers, A and B, in turn."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.serving.comparison import Answer, Outcome
from pipeline.serving.protocol import Class
from pipeline.shared.errors import GaveUp, NoCommonClass, NotClassified, TooManyCalls

MOST_CLASSES = 1000  # a model's default limit; one with fewer classes gives all
WARM_UPS = 3  # calls to each before any is timed: a server's first calls take longer
PATIENCE = 60.0  # seconds for a server with a rate limit; kserve/components/rate-limit counts calls per minute
PAUSE = 1.0
SILENT = 20  # pictures in a row without an answer: the others will get none either

# The model's error if its setting max_top_k is lower (handler/vision/protocol/top_k.py).
FEWER = re.compile(r"top_k: expected an integer from 1 to (\d+)")


@dataclass(frozen=True)
class Picture:
    """name: for messages. content: the bytes of an image file."""

    name: str
    content: bytes


Ask = Callable[[Picture, int], list[Class]]  # a picture and a number of classes → its classes; raises NotClassified


def warm_up(ask: Ask, picture: Picture) -> int:
    """Makes a server's first calls, and returns how many classes it can be asked for."""
    classes = MOST_CLASSES
    for _ in range(WARM_UPS):
        try:
            ask(picture, classes)
        except NotClassified as error:
            if fewer := FEWER.search(str(error)):
                classes = int(fewer[1])
    return classes


def ask_both(a: Ask, b: Ask, pictures: Iterable[Picture], classes: int) -> Iterator[Outcome]:
    """An outcome for each picture. It goes to A, B, B and A, so that a drift affects both equally.

    Raises GaveUp if one has stopped answering, AnotherModel, NoCommonClass, and what asking raises except
    NotClassified.
    """
    silent = {"A": 0, "B": 0}
    one, other = _Patient(a), _Patient(b)
    for picture in pictures:
        answers = [server.ask(picture, classes) for server in (one, other, other, one)]
        _require_common_classes(answers[0].classes, answers[1].classes, classes)
        outcome = Outcome.of(picture.name, (answers[0], answers[3]), (answers[1], answers[2]))
        yield outcome
        for name, side in (("A", outcome.a), ("B", outcome.b)):
            silent[name] = 0 if side.first else silent[name] + 1
            if silent[name] == SILENT:
                raise GaveUp(name, SILENT, side.problems[-1])


def _require_common_classes(a: Sequence[Class], b: Sequence[Class], asked: int) -> None:
    """Raises NoCommonClass if both answered with all of their classes, and have none in common."""
    are_all = 0 < len(a) < asked and 0 < len(b) < asked
    if are_all and {found["label"] for found in a}.isdisjoint(found["label"] for found in b):
        raise NoCommonClass(a[0]["label"], b[0]["label"])


class _Patient:
    """Asks again after too many calls. The wait does not count as latency. After one wait in vain, it waits no more."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._patience = PATIENCE

    def ask(self, picture: Picture, classes: int) -> Answer:
        deadline = time.monotonic() + self._patience
        while True:
            began = time.perf_counter()
            try:
                found = self._ask(picture, classes)
            except NotClassified as error:
                answer = Answer(time.perf_counter() - began, problem=str(error))
                if not isinstance(error, TooManyCalls):
                    return answer
                if time.monotonic() >= deadline:
                    self._patience = 0
                    return answer
            else:
                return Answer(time.perf_counter() - began, found)
            time.sleep(PAUSE)
