"""The model, as its clients find it: whether it answers."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

# A PNG of one black pixel: the smallest question that only a loaded model can answer.
QUESTION = Path(__file__).with_name("question.json").read_bytes()
ASK_EVERY_S = 5
ASK_AGAIN_S = 0.1  # where it did not answer: it is being loaded, or its queue is full, and few questions get in

# A question waits behind the requests before it: under load an answer that takes long is no illness. TorchServe itself
# replaces a worker that is silent for responseTimeout (120 s, model-config.yaml), and then answers what it was asked.
ANSWER_TIMEOUT_S = 150


class Model:
    """Asks it, one question at a time, and remembers when it answered last.

    It is asked behind the front door, where no client can take its place.
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
