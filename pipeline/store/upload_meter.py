"""How far an upload is, byte by byte: google-cloud-storage only tells when a request of 8 MiB is over."""

from __future__ import annotations

import io
import threading
from typing import Any

from requests import PreparedRequest, Response, Session
from requests.adapters import BaseAdapter

from pipeline.shared.progress import Progress


class UploadMeter:
    """Counts what the requests of a session send, from any thread.

    total: bytes to be sent in all. progress: called with the bytes sent so far, and the total.
    """

    def __init__(self, total: int, progress: Progress) -> None:
        self.spared = 0
        self._total = total
        self._progress = progress
        self._so_far = 0
        self._lock = threading.Lock()

    def watch(self, session: Session) -> None:
        for prefix, adapter in list(session.adapters.items()):
            session.mount(prefix, _Watched(adapter, self))

    def spare(self, size: int) -> None:
        """Called for bytes that need not be sent: they are there."""
        with self._lock:
            self.spared += size
        self.count(size)

    def count(self, size: int) -> None:
        """A negative size is for what has to be sent again."""
        with self._lock:
            self._so_far += size
            self._progress(min(self._so_far, self._total), self._total)  # requests have more in them than the files


class _Watched(BaseAdapter):
    """Around the adapter that a session has, which may be one with a client certificate."""

    def __init__(self, adapter: BaseAdapter, meter: UploadMeter) -> None:
        super().__init__()
        self._adapter = adapter
        self._meter = meter

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        if not isinstance(request.body, bytes):
            return self._adapter.send(request, *arguments, **options)
        body = _Counted(request.body, self._meter)
        request.body = body  # read in blocks: each of them has the time-out to itself
        try:
            response = self._adapter.send(request, *arguments, **options)
        except BaseException:
            self._meter.count(-body.tell())
            raise
        if not response.ok:
            self._meter.count(-body.tell())
        return response

    def close(self) -> None:
        self._adapter.close()


class _Counted(io.BytesIO):
    def __init__(self, content: bytes, meter: UploadMeter) -> None:
        super().__init__(content)
        self._meter = meter

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        self._meter.count(len(block))
        return block
