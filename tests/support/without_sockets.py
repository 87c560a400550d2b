"""Deployments in the API server of the tests without sockets, threads or time: quick, and each run is like the last.

The real code runs down to urllib3, whose place is taken here. Whoever waits moves a clock of the tests' own.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.message import Message
from typing import Any
from unittest import mock

import urllib3

from pipeline.deployment.cluster import Cluster
from tests.support.api_server import ApiServer


class Connection:
    """In the place of urllib3's PoolManager. before, after: called with method and path; what they raise ends the call.

    What is raised after it is of a call that has come through, and whose answer nobody has seen.
    """

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self.before: Callable[[str, str], None] = lambda *_: None
        self.after: Callable[[str, str], None] = lambda *_: None

    def request(
        self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None, **_: Any
    ) -> urllib3.HTTPResponse:
        sent = body.encode() if isinstance(body, str) else body or b""
        message = Message()
        for name, value in (headers or {}).items():
            message[name] = value
        target = url.removeprefix(self._api.url)
        self.before(method, target)
        status, kind, content = self._api.respond(method, target, message, sent)
        self.after(method, target)
        return urllib3.HTTPResponse(io.BytesIO(content), {"Content-Type": kind}, status=status, preload_content=False)

    def clear(self) -> None:
        """Nothing to close."""


def connect(cluster: Cluster, api: ApiServer) -> Connection:
    """From now on, all calls to this cluster go this way."""
    connection = Connection(api)
    cluster._api.rest_client.pool_manager = connection  # type: ignore[assignment]
    return connection


class Clock:
    """Replaces the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextmanager
def timeless() -> Iterator[Clock]:
    """Within this, nothing in pipeline.deployment waits."""
    clock = Clock()
    with ExitStack() as stack:
        for name, module in sorted(sys.modules.items()):
            if name.startswith("pipeline.deployment.") and getattr(module, "time", None) is time:
                stack.enter_context(mock.patch.object(module, "time", clock))
        yield clock
