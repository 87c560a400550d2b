"""Parses what a load generator needs of an answer: its status, and where it ends."""

from __future__ import annotations

END_OF_HEAD = b"\r\n\r\n"


class Answer:
    """One HTTP/1.1 answer, fed as it arrives. The attributes are valid once `feed` has returned True.

    status: three digits. close: whether the server will close the connection. retry_after: whether it says when to
    retry.
    """

    def __init__(self) -> None:
        self.status = ""
        self.close = self.retry_after = False
        self._chunked = False
        self._received = bytearray()
        self._end: int | None = None  # in bytes; None until the head is complete

    def feed(self, data: bytes) -> bool:
        """Whether the answer is complete."""
        self._received += data
        if self._end is None:
            self._read_head()
        if self._end is None:
            return False
        if self._chunked:
            return self._received.endswith(b"0" + END_OF_HEAD)
        return len(self._received) >= self._end

    def _read_head(self) -> None:
        end = self._received.find(END_OF_HEAD)
        if end < 0:
            return
        head = self._received[:end].decode("latin-1").lower().split("\r\n")
        version, self.status = head[0].split(" ", 2)[:2]
        headers = dict(line.partition(":")[::2] for line in head[1:])
        self._chunked = "chunked" in headers.get("transfer-encoding", "")
        keep_alive = headers.get("connection", "keep-alive" if version == "http/1.1" else "close")
        self.close = "close" in keep_alive
        self.retry_after = "retry-after" in headers
        self._end = end + len(END_OF_HEAD) + int(headers.get("content-length", 0))
