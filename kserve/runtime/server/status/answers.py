"""Path → answer. Statements about the model are based on its latest answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from server.health import LIVE_WITHIN_S, READY_WITHIN_S
from server.model import ASK_EVERY_S, Model
from server.status.documents import Documents

# In KServe v2's terms. The tensors are those of vision/protocol/{input_tensor,outputs}.py; pixels are accepted too.
PLATFORM = "pytorch"
EXTENSIONS = ["binary_tensor_data"]
INPUTS = [("images", "BYTES", [-1])]
OUTPUTS = [("label", "BYTES", [-1, -1]), ("index", "INT64", [-1, -1]), ("probability", "FP32", [-1, -1])]
METHODS = "GET, HEAD"
EVERYWHERE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def error(status: int, place: str, problem: str, headers: Mapping[str, str] | None = None) -> Answer:
    """`{"error": "place: problem"}`."""
    return _json({"error": f"{place}: {problem}"}, status, headers)


def _json(value: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Answer:
    return _content("application/json", json.dumps(value).encode(), status, headers)


def _content(
    media_type: str, body: bytes, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Answer:
    return Answer(status, {"Content-Type": media_type, **EVERYWHERE, **(headers or {})}, body)


class Answers:
    """KServe's v1 and v2 paths, as KServe's own server answers them and its clients (InferenceRESTClient) read them.

    GET / has status 200, and says in its body whether the service is alive; elsewhere, not live or not ready is 503.
    """

    def __init__(
        self, name: str, version: str, model: Model, stopping: threading.Event, documents: Documents, image: str = ""
    ) -> None:
        self._name, self._version, self._image = name, version, image
        self._model, self._stopping, self._documents = model, stopping, documents
        self._began = time.monotonic()
        self._paths: Mapping[str, Callable[[], Answer]] = {
            "/": self._service,
            "/v1/models": lambda: _json({"models": [name]}),
            f"/v1/models/{name}": self._model_ready,
            "/v2": lambda: _json(
                {"name": name, "version": version, "extensions": [] if documents.v1_alone else EXTENSIONS}
            ),
            "/v2/health/live": self._server_live,
            "/v2/health/ready": self._server_ready,
            f"/v2/models/{name}": self._model_metadata,
            f"/v2/models/{name}/ready": self._model_ready,
            "/openapi.json": lambda: _content("application/json", documents.openapi),
            "/docs": self._page,
        }

    def get(self, target: str) -> Answer:
        """target: a path, and perhaps a query, which is ignored."""
        answer = self._paths.get(_path(target))
        return answer() if answer else error(HTTPStatus.NOT_FOUND, "path", "there is nothing here, see /docs")

    def another_method(self, target: str) -> Answer:
        """For methods other than GET and HEAD."""
        if _path(target) not in self._paths:
            return self.get(target)
        return error(HTTPStatus.METHOD_NOT_ALLOWED, "method", "only GET and HEAD are allowed", {"Allow": METHODS})

    @property
    def _ready(self) -> bool:
        return self._model.answered_within(READY_WITHIN_S) and not self._stopping.is_set()

    @property
    def _live(self) -> bool:
        """While loading, a model has as long for its first answer as for each later one."""
        if self._model.started:
            return self._model.answered_within(LIVE_WITHIN_S)
        return time.monotonic() - self._began < LIVE_WITHIN_S

    def _service(self) -> Answer:
        return _json(
            {
                "name": self._name,
                "version": self._version,
                **({"image": self._image} if self._image else {}),
                "status": "alive" if self._live else "dead",  # what KServe's client reads
                "ready": self._ready,
                "links": {
                    "predict": f"/v1/models/{self._name}:predict",
                    **({} if self._documents.v1_alone else self._newer_links()),
                    "models": "/v1/models",
                    "openapi": "/openapi.json",
                    "docs": "/docs",
                },
            }
        )

    def _newer_links(self) -> dict[str, str]:
        return {"explain": f"/v1/models/{self._name}:explain", "infer": f"/v2/models/{self._name}/infer"}

    def _server_live(self) -> Answer:
        return _json({"live": True}) if self._live else _unavailable("server", "not live: the model does not answer")

    def _server_ready(self) -> Answer:
        return _json({"ready": True}) if self._ready else self._not_ready("server")

    def _model_ready(self) -> Answer:
        return _json({"name": self._name, "ready": True}) if self._ready else self._not_ready("model")

    def _not_ready(self, place: str) -> Answer:
        if self._stopping.is_set():
            return _unavailable(place, "not ready: the server is shutting down")
        return _unavailable(
            place, "not ready: the model does not answer" if self._model.started else "not ready: it is still loading"
        )

    def _model_metadata(self) -> Answer:
        v1_alone = self._documents.v1_alone  # an older archive
        return _json(
            {
                "name": self._name,
                "versions": [self._version] if self._version else [],
                "platform": PLATFORM,
                "inputs": [] if v1_alone else _tensors(INPUTS),
                "outputs": [] if v1_alone else _tensors(OUTPUTS),
            }
        )

    def _page(self) -> Answer:
        return _content(
            "text/html; charset=utf-8",
            self._documents.page,
            headers={"Content-Security-Policy": self._documents.page_policy, "Referrer-Policy": "no-referrer"},
        )


def _tensors(tensors: list[tuple[str, str, list[int]]]) -> list[dict[str, object]]:
    return [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in tensors]


def _path(target: str) -> str:
    return target.partition("?")[0]


def _unavailable(place: str, problem: str) -> Answer:
    """The model is queried at intervals, so there is nothing new to learn earlier."""
    return error(HTTPStatus.SERVICE_UNAVAILABLE, place, problem, {"Retry-After": str(ASK_EVERY_S)})
