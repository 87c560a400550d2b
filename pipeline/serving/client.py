"""KServe v1 predict calls, and how their answers are shown."""

from __future__ import annotations

import base64
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import httpx
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table

from pipeline.serving.route import predict_route
from pipeline.shared.errors import NoServer, NotClassified, PipelineError
from pipeline.shared.http import http_client
from pipeline.shared.text import one_line

TIMEOUT = httpx.Timeout(60, connect=5)  # seconds
CALLS_AT_ONCE = 8  # enough for the server to form batches
BAR_WIDTH = 32  # characters


class Class(TypedDict):
    """As this model's answers have it. Only `label` and `probability` are checked: nothing else is relied on."""

    index: int
    wnid: str
    label: str
    probability: float


class Client:
    """Asks a model of the server under `url` to classify images. A context manager.

    Proxies are for hosts other than loopback.
    """

    def __init__(self, url: str, model: str) -> None:
        try:
            parsed = httpx.URL(url)
            host = parsed.host
            host.encode("idna")  # which connecting would do, with a less helpful error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise PipelineError(f"{url} is not a URL: {error}") from None
        if parsed.scheme not in ("http", "https") or not host:
            raise PipelineError(f"{url} is not a URL of a server: expected http://HOST:PORT")
        local = host in ("127.0.0.1", "localhost", "::1")
        self._address = str(parsed).rstrip("/")
        self._route = predict_route(model)
        self._http = http_client(TIMEOUT, trust_env=not local)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.close()

    def predict_all(self, images: list[str], top_k: int) -> Iterator[list[Class] | NotClassified]:
        """For each image, in order: what `predict` returns, or the NotClassified it raises. NoServer ends it all."""

        def attempt(image: str) -> list[Class] | NotClassified:
            try:
                return self.predict(image, top_k)
            except NotClassified as error:
                return error

        pool = ThreadPoolExecutor(CALLS_AT_ONCE)
        try:
            yield from pool.map(attempt, images)
        finally:
            pool.shutdown(cancel_futures=True)

    def predict(self, image: str, top_k: int) -> list[Class]:
        """One KServe v1 call for an image file or an https URL → its classes, most probable first.

        Raises NoServer, or NotClassified: the image cannot be read, or the server refuses it.
        """
        body = {"instances": [instance(image)], "parameters": {"top_k": top_k}}
        try:
            response = self._http.post(self._address + self._route, json=body)
        except httpx.ConnectError:
            raise NoServer(self._address) from None
        except httpx.TimeoutException:
            raise NotClassified(image, f"no answer from {self._address} within {TIMEOUT.read:g} s") from None
        except httpx.HTTPError as error:
            raise NotClassified(image, f"the connection to {self._address} broke off ({error})") from None
        if not response.is_success:
            raise NotClassified(image, _refusal(response))
        try:
            return _classes(response)
        except (ValueError, LookupError, TypeError):
            strange = f"{self._address} does not answer as this model does: is it another server?"
            raise NotClassified(image, strange) from None


def instance(image: str) -> dict[str, str]:
    """An image file or an https URL → a KServe v1 instance. Raises NotClassified where it cannot be read."""
    if image.startswith("https://"):
        return {"url": image}
    if image.startswith("http://"):
        raise NotClassified(image, "images are fetched over https only")
    try:
        return {"b64": base64.b64encode(Path(image).read_bytes()).decode()}
    except OSError as error:
        raise NotClassified(image, os.strerror(error.errno or errno.EIO)) from None


def _classes(response: httpx.Response) -> list[Class]:
    """Raises ValueError, LookupError or TypeError where the body is not an answer of this model's."""
    classes = response.json()["predictions"][0]["classes"]
    for entry in classes:
        if not isinstance(entry["label"], str) or not isinstance(entry["probability"], float | int):
            raise TypeError
    return list(classes)


def _refusal(response: httpx.Response) -> str:
    """The server's own sentence: the model's {"error": …}, TorchServe's {"message": …}, or none at all (413)."""
    try:
        body = response.json()
        sentence = body.get("error") or body.get("message")
    except (ValueError, AttributeError):
        sentence = None
    return f"{response.status_code}: {one_line(sentence or response.reason_phrase, None)}"


def show(title: str, classes: list[Class], console: Console) -> None:
    """The classes of one image as a table with bars."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in ("label", "bar", "probability"):
        table.add_column(no_wrap=True)
    for entry in classes:
        bar = ProgressBar(total=1, completed=entry["probability"], width=BAR_WIDTH)
        table.add_row(entry["label"], bar, f"{entry['probability']:6.2%}")
    console.print(title, style="bold")
    console.print(table, soft_wrap=False)
