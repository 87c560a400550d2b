"""A network host that answers byte for byte what a test wants: wrongly, slowly, endlessly, or not at all."""

from __future__ import annotations

import contextlib
import queue
import socketserver
import threading
from collections.abc import Callable, Iterator

from tests.support.in_a_thread import in_a_thread

FOUND = b"HTTP/1.1 200 OK\r\n"
Answer = Callable[["Host", Callable[[bytes], None]], None]


class Host(socketserver.ThreadingTCPServer):
    """A host on loopback that answers every request with `answer`, byte for byte; `asked` has the requests."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.port: int = self.server_address[1]
        self.answer: Answer = says(answer)
        self.asked: queue.Queue[bytes] = queue.Queue()
        self.stopping = threading.Event()


class Asked(socketserver.BaseRequestHandler):
    server: Host

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client may leave at any time
            request, answer = self.request.recv(65536), self.server.answer
            self.server.asked.put(request)
            answer(self.server, self.request.sendall)


def says(answer: bytes) -> Answer:
    return lambda _, send: send(answer)


def trickles(start: bytes, more: bytes) -> Answer:
    """Keeps sending a little more, long before any wait for the next byte times out."""

    def answer(host: Host, send: Callable[[bytes], None]) -> None:
        send(start)
        while not host.stopping.wait(0.02):
            send(more)

    return answer


def pours(start: bytes, more: bytes) -> Answer:
    def answer(host: Host, send: Callable[[bytes], None]) -> None:
        send(start)
        while not host.stopping.is_set():
            send(more)

    return answer


def is_silent(host: Host, _: Callable[[bytes], None]) -> None:
    host.stopping.wait()


def redirects(location: str, status: int = 302) -> Answer:
    return says(f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))


@contextlib.contextmanager
def running_host(answer: bytes) -> Iterator[Host]:
    """A host that gives this answer until a test changes it."""
    with in_a_thread(Host(answer)) as host:
        try:
            yield host
        finally:
            host.stopping.set()
