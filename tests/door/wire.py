"""HTTP as an attacker writes it: raw bytes on a socket, and HTTP/2 frames that no library would send."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

from hpack import Decoder

PATIENCE_S = 30  # no answer by then counts as a hang
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4


@dataclass(frozen=True)
class Answer:
    """status 0: the connection ended before an answer arrived."""

    status: int
    headers: dict[str, str]
    body: bytes


NONE = Answer(0, {}, b"")


class Wire:
    """A connection on which anything can be sent, and answers are read one by one. A context manager."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, content: bytes) -> bool:
        """Whether all of it was accepted: a refused client may be cut off earlier."""
        try:
            self.socket.sendall(content)
        except ConnectionError:
            return False
        return True

    def answer(self) -> Answer:
        """The next answer. Raises TimeoutError if none comes."""
        try:
            line = self._file.readline()
            if not line:
                return NONE
            status, headers = int(line.split()[1]), {}
            while (line := self._file.readline().strip()) != b"":
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if status == 100:
                return self.answer()
            if headers.get("transfer-encoding") == "chunked":
                return Answer(status, headers, self._chunks())
            return Answer(status, headers, self._file.read(int(headers.get("content-length", 0))))
        except ConnectionError:
            return NONE

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return body

    def ended(self) -> bool:
        """Waits until the other side has closed; returns whether it sent nothing more."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True


def asked(port: int, request: bytes) -> Answer:
    """The answer to bytes sent on a new connection."""
    with Wire(port) as wire:
        wire.send(request)
        return wire.answer()


def post(body: bytes = b"{}", *lines: str, path: str = "/v1/models/alexnet:predict") -> bytes:
    """A predict call. lines: headers in addition to Host and Content-Length."""
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


# --- HTTP/2 -----------------------------------------------------------------------------------------------------------

Fields = list[tuple[bytes, bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def head(*more: tuple[bytes, bytes], **pseudo: bytes) -> Fields:
    """The headers of a predict call. pseudo: overrides the method, scheme, path or authority."""
    usual = {"method": b"POST", "scheme": b"http", "path": b"/v1/models/alexnet:predict", "authority": b"x"} | pseudo
    return [(b":" + name.encode(), value) for name, value in usual.items()] + list(more)


def packed(fields: Fields) -> bytes:
    """Encoded as literals without Huffman coding: sends bytes that a library would refuse."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(text: bytes) -> bytes:
    return _number(len(text)) + text


def _number(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    encoded, number = [127], number - 127
    while number >= 128:
        encoded.append(number % 128 | 128)
        number //= 128
    return bytes([*encoded, number])


@dataclass
class Http2:
    """A connection with its preface sent and maximum windows. A context manager."""

    port: int
    settings: bytes = b""
    room: int = 65_535  # of the connection, until the server grants more
    reset: set[int] = field(default_factory=set)  # streams
    answered: dict[int, bytes] = field(default_factory=dict)  # stream → the bytes of its answer's body, so far
    heads: dict[int, dict[str, str]] = field(default_factory=dict)  # stream → the fields of its answer, trailers too
    whole: set[int] = field(default_factory=set)
    gone: bool = False

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        self._left = b""
        self._decoder = Decoder()
        self.send(PREFACE + frame(SETTINGS, 0, 0, self.settings) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30)))

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, content: bytes) -> None:
        try:
            self.socket.sendall(content)
        except ConnectionError:
            self.gone = True

    def open(self, stream: int, fields: Fields, end: bool = False) -> None:
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, packed(fields)))

    def data(self, stream: int, body: bytes, end: bool = True) -> None:
        """Respects the server's window for the connection, and waits for updates."""
        parts = [body[start : start + 16_384] for start in range(0, len(body), 16_384)] or [b""]
        for number, part in enumerate(parts):
            while self.room < len(part) and not self.gone and stream not in self.reset:
                self.read()
            if self.gone or stream in self.reset:
                return
            self.room -= len(part)
            self.send(frame(DATA, END_STREAM if end and number == len(parts) - 1 else 0, stream, part))

    def ends(self, stream: int) -> bytes | None:
        """Waits for a stream's end: the body of its answer, or None if the stream or connection was refused."""
        while not (self.gone or stream in self.reset or stream in self.whole):
            self.read()
        return self.answered.get(stream, b"") if stream in self.whole else None

    def read(self) -> None:
        """One frame. Raises TimeoutError if none comes."""
        start = self._take(9)
        payload = self._take(int.from_bytes(start[:3], "big"))
        if self.gone:
            return
        kind, flags, stream = start[3], start[4], int.from_bytes(start[5:], "big") & 0x7FFFFFFF
        if kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == WINDOW_UPDATE and stream == 0:
            self.room += int.from_bytes(payload, "big")
        elif kind == RST_STREAM:
            self.reset.add(stream)
        elif kind == DATA:
            self.answered[stream] = self.answered.get(stream, b"") + payload
        elif kind == HEADERS:
            self.heads[stream] = self.heads.get(stream, {}) | {
                str(name): str(value) for name, value in self._decoder.decode(payload)
            }
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.whole.add(stream)

    def _take(self, count: int) -> bytes:
        while len(self._left) < count and not self.gone:
            try:
                more = self.socket.recv(65_536)
            except ConnectionError:
                more = b""
            self.gone = not more
            self._left += more
        taken, self._left = self._left[:count], self._left[count:]
        return taken
