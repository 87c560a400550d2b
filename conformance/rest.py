"""What v1 and v2 have in common, over HTTP."""

from __future__ import annotations

import gzip
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from conformance import sources
from conformance.checking import Checks, Failed, must, not_applicable, should
from conformance.http import Http, Reply
from conformance.questions import Given
from conformance.tensors import alike

NOT_JSON = b'{"instances": [, "inputs": ['
UNKNOWN = "no-such-model"
NO_QUESTION = "this needs a request that the model answers: give --input"
NO_SECOND = "this needs two requests with different answers: give --input twice"
AT_ONCE = 8
PIECE = b" " * 65536


@dataclass
class RestCase(ABC):
    """A server's model, and how to ask it. too_large: bytes of a body that should be refused for its size.

    questions: up to two that it answers, with different answers. tried: the answers to all that were tried.
    was_awaited: it was polled from before it was ready, and asked as soon as it said that it was.
    too_early: its answer then to a request that it answered properly later.
    """

    http: Http
    model: str
    too_large: int
    questions: list[Any] = field(default_factory=list)
    tried: list[object] = field(default_factory=list)
    was_awaited: bool = False
    too_early: object = None

    @abstractmethod
    def path(self, model: str) -> str:
        """The path for calls to a model."""

    @abstractmethod
    def body(self, *questions: Any) -> dict[str, Any]:
        """One request with these."""

    @abstractmethod
    def wrong_body(self) -> dict[str, Any]:
        """A request with valid JSON, but with contents of a type that no model accepts."""

    @abstractmethod
    def look(self, given: Sequence[Given]) -> None:
        """Looks for requests that it answers, made from `given`. Raises BadInput."""

    @abstractmethod
    def rows(self, reply: Reply) -> list[Any]:
        """The answer to each question in a request. Raises Failed if it violates the protocol."""

    def ask(self, body: object, headers: Mapping[str, str] | None = None) -> Reply:
        """body: JSON, or bytes as they are."""
        return self.http.post(self.path(self.model), encoded(body), headers)

    def answer(self, *questions: Any) -> list[Any]:
        """Raises Failed if they are not answered."""
        return self.read(self.ask(self.body(*questions)))

    def read(self, reply: Reply) -> list[Any]:
        must(reply.status == 200, "200 for a good question", reply)
        return self.rows(reply)

    def find_questions(self, candidates: Iterable[list[Any]]) -> None:
        """Keeps the first that the model answers, and a second one of the same kind if its answer differs."""
        self.tried = []
        for candidate in candidates:
            first = self._tried(candidate[0])
            if first is None:
                continue
            self.questions = candidate[:1]
            for other in candidate[1:]:
                reply = self._tried(other)
                if reply is not None and not alike(json_or_bytes(first), json_or_bytes(reply)):
                    self.questions.append(other)
                    break
            return

    def _tried(self, question: Any) -> Reply | None:
        """→ None if it is not answered with 200."""
        try:
            reply = self.ask(self.body(question))
        except Failed as error:
            self.tried.append(error)
            return None
        self.tried.append(reply)
        return reply if reply.status == 200 else None

    def described(self) -> dict[str, Any]:
        """V2's metadata of the model, {} if the server has none."""
        with suppress(Failed):
            reply = self.http.get(f"/v2/models/{self.model}")
            if reply.status == 200:
                return reply.object
        return {}

    @property
    def question(self) -> Any:
        if not self.questions:
            not_applicable(NO_QUESTION)
        return self.questions[0]

    @property
    def two(self) -> tuple[Any, Any]:
        first = self.question
        if len(self.questions) < 2:
            not_applicable(NO_SECOND)
        return first, self.questions[1]

    def several_at_once(self, bodies: list[bytes]) -> list[Reply]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.ask, bodies))


def encoded(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def json_or_bytes(reply: Reply) -> Any:
    try:
        value = json.loads(reply.body)
    except ValueError:
        return reply.body
    return {k: v for k, v in value.items() if k != "id"} if isinstance(value, dict) else value


def refused(reply: Reply) -> None:
    """Raises Failed if a request that cannot be right is not refused, or the server blames itself for it."""
    must(400 <= reply.status < 500, "a status from 400 to 499: the client's fault", reply)


def not_blamed_on_the_server(reply: Reply) -> None:
    """The same, if the protocol lets a server do its best."""
    must(reply.status < 500, "no status of 500 or more for a client's fault", reply)
    should(400 <= reply.status < 500, "a status from 400 to 499", reply)


def shape_of_errors(replies: Iterable[tuple[str, Reply]]) -> None:
    """Raises Failed if a refusal lacks {"error": "…"}. If nothing is refused, other checks report it."""
    for what, reply in replies:
        if reply.status >= 400:
            value = json_or_bytes(reply)
            fine = isinstance(value, dict) and isinstance(value.get("error"), str) and value["error"]
            must(bool(fine), f'{{"error": "…"}} for {what}', reply)


CHECKS: Checks[RestCase] = Checks()


@CHECKS.by(sources.HEALTH)
def ready_means_that_the_model_answers(case: RestCase) -> None:
    """As soon as a server says it is ready, its model answers."""
    if not case.was_awaited:
        not_applicable("it was ready already: with --loading, start this before the server")
    must(case.too_early is None, "an answer, as it says that it is ready", case.too_early)
    for each in case.tried if not case.questions else []:
        a_refusal = isinstance(each, Reply) and 400 <= each.status < 500  # the question may not suit this model
        must(a_refusal, "an answer, as it says that it is ready", each)
    case.question  # noqa: B018 - not applicable if there is none


@CHECKS.by(sources.CLIENT_ERROR)
def a_body_that_is_not_json_is_refused(case: RestCase) -> None:
    """A body that is not JSON is refused, with a 4xx."""
    refused(case.ask(NOT_JSON))


@CHECKS.by(sources.CLIENT_ERROR)
def a_body_that_is_no_text_is_refused(case: RestCase) -> None:
    """A body that is not UTF-8, such as an image sent as JSON, is refused, with a 4xx."""
    refused(case.ask(b'{"inputs": [\xff\xd8\xff\xe0]}'))


@CHECKS.by(sources.CLIENT_ERROR)
def a_body_that_is_no_object_is_refused(case: RestCase) -> None:
    """JSON that is not an object is refused, with a 4xx."""
    for body in (b"[]", b"17", b'"text"'):
        refused(case.ask(body))


@CHECKS.by(sources.CLIENT_ERROR)
def deep_json_is_no_defect(case: RestCase) -> None:
    """JSON nested 100,000 deep kills no worker: it is refused, and the next question is answered."""
    refused(case.ask(b"[" * 100_000))
    case.answer(case.question)


@CHECKS.by(sources.CLIENT_ERROR)
def contents_of_a_wrong_type_are_no_defect(case: RestCase) -> None:
    """Contents of a type that the model does not accept are the client's fault, not the server's."""
    not_blamed_on_the_server(case.ask(case.wrong_body()))


@CHECKS.by(sources.NOT_FOUND)
def an_unknown_model_is_not_found(case: RestCase) -> None:
    """An unknown model is refused, with 404."""
    body = case.body(*case.questions[:1]) if case.questions else {}
    reply = case.http.post(case.path(UNKNOWN), encoded(body))
    refused(reply)
    should(reply.status == 404, "404", reply)


@CHECKS.by(sources.METHOD_NOT_ALLOWED)
def another_method_is_not_allowed(case: RestCase) -> None:
    """GET instead of POST is refused, with 405."""
    reply = case.http.get(case.path(case.model))
    refused(reply)
    must(reply.status != 405 or "allow" in reply.headers, "a header Allow with 405", "none")
    should(reply.status == 405, "405", reply)


@CHECKS.by(sources.TOO_LARGE)
def too_large_is_said(case: RestCase) -> None:
    """A body beyond the server's limit is refused with 413, and is neither a hang nor a 5xx."""
    body = encoded(case.body(case.question))
    reply = case.http.long_body(case.path(case.model), padded(body, case.too_large), case.too_large)
    size = f"{case.too_large >> 20} MiB"
    should(reply is not None, "an answer before the connection is closed", "none")
    assert reply is not None
    if reply.status == 200:
        not_applicable(f"{size} are accepted: the limit is higher, or there is none (--too-large sends more)")
    must(reply.status < 500, f"413 for {size}", reply)
    should(reply.status == 413, f"413 for {size}", reply)


@CHECKS.by(sources.CODING)
def a_gzip_body_is_read_or_refused(case: RestCase) -> None:
    """A body compressed with gzip is read like any other, or refused with 415."""
    alone = case.answer(case.question)
    packed = gzip.compress(encoded(case.body(case.question)))
    reply = case.ask(packed, {"Content-Type": "application/json", "Content-Encoding": "gzip"})
    if reply.status == 415:
        not_applicable("the server does not accept gzip, and says so")
    must(reply.status < 500, "200, or 415", reply)
    should(reply.status == 200, "200, or 415", reply)
    must(alike(case.rows(reply), alone), "the same answer as without gzip", reply)


@CHECKS.by(sources.PERSISTENCE)
def a_refusal_keeps_the_connection(case: RestCase) -> None:
    """After a refusal, the connection still answers the next question."""
    good = encoded(case.body(case.question))
    alone = case.answer(case.question)
    replies = case.http.one_after_the_other(case.path(case.model), [good, encoded(case.wrong_body()), good])
    should(len(replies) == 3, "three answers on one connection", f"{len(replies)}, then it was closed")
    must(alike(case.read(replies[2]), alone), "the same answer as before the refusal", replies[2])


@CHECKS.by(sources.PIPELINING)
def pipelined_answers_keep_their_order(case: RestCase) -> None:
    """Questions sent on one connection without waiting are answered in order."""
    bodies = [encoded(case.body(question)) for question in case.two * 4]
    alone = [case.answer(question) for question in case.two]
    replies = case.http.pipelined(case.path(case.model), bodies)
    if len(replies) < 2:
        not_applicable("the server answers one question per connection if several are sent at once")
    for number, reply in enumerate(replies):
        must(alike(case.read(reply), alone[number % 2]), f"answer {number + 1} to question {number + 1}", reply)


@CHECKS.by(sources.CLIENT_ERROR)
def each_gets_its_own_answer(case: RestCase) -> None:
    """When many clients ask at once, each gets its own answer."""
    bodies = [encoded(case.body(question)) for question in case.two] * (2 * AT_ONCE)
    alone = [case.answer(question) for question in case.two]
    for number, reply in enumerate(case.several_at_once(bodies)):
        must(alike(case.read(reply), alone[number % 2]), "the answer that the same question has alone", reply)


@CHECKS.by(sources.CLIENT_ERROR)
def a_bad_request_harms_no_other(case: RestCase) -> None:
    """Good requests at the same time as bad ones get the same answers as alone."""
    good = encoded(case.body(case.question))
    alone = case.answer(case.question)
    mixed = [good, encoded(case.wrong_body()), good, NOT_JSON] * AT_ONCE
    for body, reply in zip(mixed, case.several_at_once(mixed), strict=True):
        if body is good:
            must(reply.status == 200 and alike(case.rows(reply), alone), "the answer that it has alone", reply)


def predictions_keep_their_order(case: RestCase) -> None:
    """For v1 and v2, which each define a batch."""
    first, second = case.two
    alone = [*case.answer(first), *case.answer(second)]
    must(len(alone) == 2, "one prediction for one question", f"{len(alone)} for two")
    for questions, expected in (((first, second), alone), ((second, first, second), [alone[1], alone[0], alone[1]])):
        rows = case.answer(*questions)
        must(len(rows) == len(questions), f"{len(questions)} predictions", len(rows))
        must(alike(rows, expected), "each prediction where its question was", rows)


def padded(body: bytes, size: int) -> Iterator[bytes]:
    """White space, which JSON permits, before a good question, up to this many bytes."""
    rest = size - len(body)
    while rest > 0:
        yield PIECE[:rest]
        rest -= len(PIECE)
    yield body
