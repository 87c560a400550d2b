"""Whether the model answers, as its clients see it."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

# A PNG of one black pixel: the smallest request that only a loaded model can answer.
QUESTION = Path(__file__).with_name("question.json").read_bytes()
ASK_EVERY_S = 5
ASK_AGAIN_S = 0.1  # after no answer: it is loading, or its queue is full and few requests get in

# The question waits in the queue like any request, so a slow answer under load is normal. TorchServe itself replaces a
# worker that is silent for responseTimeout (120 s, model-config.yaml), and then answers.
ANSWER_TIMEOUT_S = 150


class Model:
    """Sends one question at a time, and remembers when the model last answered.

    The question bypasses the front door, so clients cannot crowd it out.
    """

    def __init__(self, port: int, route: str) -> None:
        self._port = port
        self._route = route
        self._answered_at: float | None = None  # time.monotonic()

    def ask_now_and_then(self) -> None:
        while True:
            answered = self._ask() == http.client.OK
            if answered:
                self._answered_at = time.monotonic()
            time.sleep(ASK_EVERY_S if answered else ASK_AGAIN_S)

    @property
    def started(self) -> bool:
        return self._answered_at is not None

    def answered_within(self, seconds: float) -> bool:
        return self._answered_at is not None and time.monotonic() - self._answered_at < seconds

    def _ask(self) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request("POST", self._route, QUESTION, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
