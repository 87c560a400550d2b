"""A server of KServe's v1 protocol on loopback that answers as a test says: `predict` gets the bytes of each image.

Test modules import this and name it as a plugin, for its fixture: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.in_a_thread import in_a_thread

# Bytes of an image, and how many classes are asked for → the HTTP status and the body.
Predict = Callable[[bytes, int], tuple[int, Any]]
ModelHosts = Callable[[Predict], "ModelHost"]


class ModelHost(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, predict: Predict) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.predict = predict
        self.headers: list[Message] = []  # of all calls


class _Visit(BaseHTTPRequestHandler):
    server: ModelHost

    def do_POST(self) -> None:
        self.server.headers.append(self.headers)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        image = base64.b64decode(asked["instances"][0]["b64"])
        status, body = self.server.predict(image, asked["parameters"]["top_k"])
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def prediction(*probabilities: float, labels: str = "abcdefgh", shift: int = 0) -> dict[str, Any]:
    """An answer with these probabilities for the classes 0, 1, …. shift: added to the labels."""
    classes = [
        {"index": index, "wnid": f"n{index}", "label": labels[index + shift], "probability": probability}
        for index, probability in enumerate(probabilities)
    ]
    return {"predictions": [{"classes": sorted(classes, key=lambda found: -float(str(found["probability"])))}]}


@pytest.fixture
def model_host() -> Iterator[ModelHosts]:
    """Starts one."""
    with ExitStack() as stack:
        yield lambda predict: stack.enter_context(in_a_thread(ModelHost(predict)))
