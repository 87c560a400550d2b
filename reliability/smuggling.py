"""Requests that one parser reads as one request and another as two, or none: these must not pass the front door.

Sources: RFC 9112, sections 5, 6 and 7; PortSwigger's write-ups on HTTP desynchronisation (CL.TE, TE.CL, TE.TE, CL.0,
h2 downgrade); and CVE-2021-43797 (Netty 4.1.53: control characters before a header's name).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PATH = "/v1/models/alexnet:predict"
BODY = b'{"instances": []}'
CHUNKED = b"11\r\n" + BODY + b"\r\n0\r\n\r\n"
# The part that an attacker would like to be read as a separate request.
INSIDE = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\nContent-Length: 2\r\n\r\n{{}}".encode()
LENGTH = f"Content-Length: {len(BODY)}"
PASSED, REFUSED, LATE, UNKNOWN = 200, 400, 408, 501


class Case(NamedTuple):
    """sent: on one connection. statuses: of the answers, in order. bodies: what the server behind the door gets."""

    sent: bytes
    statuses: list[int]
    bodies: Sequence[bytes] = ()


def request(*lines: str | bytes, body: bytes = BODY, start: str = f"POST {PATH} HTTP/1.1") -> bytes:
    """A predict call with these lines in its head, whatever they contain."""
    head = [line.encode("latin-1") if isinstance(line, str) else line for line in (start, "Host: x", *lines)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def refused(*lines: str | bytes, body: bytes = BODY, status: int = REFUSED) -> Case:
    """A head after which nothing is read."""
    return Case(request(*lines, body=body) + INSIDE, [status])


def passed(*lines: str | bytes, body: bytes = BODY, seen: bytes = BODY) -> Case:
    return Case(request(*lines, body=body), [PASSED], [seen])


def followed(*lines: str | bytes, body: bytes = BODY) -> Case:
    """One that is accepted, and then the next on the connection, which is a separate request."""
    return Case(request(*lines, body=body) + INSIDE, [PASSED, PASSED], [BODY, b"{}"])


def corpus() -> dict[str, Case]:
    """Name → what is sent, and the required result."""
    return lengths() | codings() | chunks() | line_ends() | targets() | connections()


def lengths() -> dict[str, Case]:
    odd = {
        "plus": "+17",
        "minus": "-1",
        "hexadecimal": "0x11",
        "a point": "17.0",
        "an exponent": "1e1",
        "quoted": '"17"',
        "a list": "17, 17",
        "a list of two": "17, 2",
        "words": "17 17",
        "empty": "",
        "underscore": "1_7",
        "a NUL": "17\0",
        "too long for 64 bits": "18446744073709551633",
        "Arabic digits": "\xd9\xa1\xd9\xa7",
        "a vertical tab": "\x0b17",
    }
    cases = {f"length: {name}": refused(f"Content-Length: {value}") for name, value in odd.items()}
    return cases | {
        "length: leading zeros": Case(request("Content-Length: 00017"), [REFUSED]),
        "length: spaces around it": passed("Content-Length:   17  "),
        "length: a tab before it": passed("Content-Length:\t17"),
        "length: two that are equal": refused(LENGTH, LENGTH),
        "length: two that differ": refused(LENGTH, "Content-Length: 2"),
        "length: two that differ, the other first": refused("Content-Length: 0", LENGTH),
        "length: in another case, twice": refused(LENGTH, "content-length: 2"),
        "length: too short": Case(request("Content-Length: 2") + INSIDE, [PASSED, REFUSED], [BODY[:2]]),
        "length: too long takes what follows": Case(
            request(f"Content-Length: {len(BODY + INSIDE)}") + INSIDE, [PASSED], [BODY + INSIDE]
        ),
        "length: never comes whole": Case(request("Content-Length: 5000") + INSIDE, [LATE]),
        "length: none, and a body": Case(request() + INSIDE, [PASSED, REFUSED], [b""]),
    }


def codings() -> dict[str, Case]:
    odd = {
        "unknown": "xchunked",
        "a list": "gzip, chunked",
        "chunked first": "chunked, gzip",
        "identity": "identity",
        "chunked and identity": "chunked, identity",
        "twice in a line": "chunked, chunked",
        "quoted": '"chunked"',
        "a parameter": "chunked;q=1",
        "a semicolon": "chunked;",
        "a comma": ",chunked",
        "empty": "",
        "a NUL": "chunked\0",
        "a word before": "x chunked",
        "non-breaking space": "\xa0chunked",
    }
    cases = {}
    for name, value in odd.items():
        status = REFUSED if "\0" in value else UNKNOWN
        cases[f"coding: {name}"] = refused(f"Transfer-Encoding: {value}", body=CHUNKED, status=status)
        cases[f"coding and length: {name}"] = refused(f"Transfer-Encoding: {value}", LENGTH, body=CHUNKED)
    for name, value in {"vertical tab": "\x0bchunked", "form feed": "\x0cchunked", "after it": "chunked\x0b"}.items():
        cases[f"coding: {name}"] = refused(f"Transfer-Encoding: {value}", body=CHUNKED)
    whole = "Transfer-Encoding: chunked"
    return cases | {
        "coding: as it should be": passed(whole, body=CHUNKED),
        "coding: in another case": passed("Transfer-Encoding: Chunked", body=CHUNKED),
        "coding: tabs around it": passed("Transfer-Encoding:\tchunked\t", body=CHUNKED),
        "coding and length": refused(whole, LENGTH, body=CHUNKED),
        "length and coding": refused(LENGTH, whole, body=CHUNKED),
        "coding and a length of 0": refused(whole, "Content-Length: 0", body=CHUNKED),
        "coding: two lines": refused(whole, whole, body=CHUNKED, status=UNKNOWN),
        "coding: two lines that differ": refused(whole, "Transfer-Encoding: x", body=CHUNKED, status=UNKNOWN),
        "coding: a space before the colon": refused("Transfer-Encoding : chunked", body=CHUNKED),
        "coding: a tab before the colon": refused("Transfer-Encoding\t: chunked", body=CHUNKED),
        "coding: a control character before the name": refused("\x0bTransfer-Encoding: chunked", body=CHUNKED),
        "coding: a file separator before the name": refused("\x1cTransfer-Encoding: chunked", LENGTH, body=CHUNKED),
        "coding: a NUL in the name": refused("Transfer\0-Encoding: chunked", body=CHUNKED),
        "coding: an underscore in the name": passed("Transfer_Encoding: chunked", LENGTH),
        # A folded line counts as a space (RFC 9112, 5.2); the server behind the door gets it unfolded.
        "coding: obsolete folding": followed("Transfer-Encoding:\r\n chunked", body=CHUNKED),
        "coding: folded after a length": Case(
            request(LENGTH, "X: y\r\n Transfer-Encoding: chunked", body=BODY + CHUNKED), [PASSED, REFUSED], [BODY]
        ),
        "coding: on the first line": refused(" Transfer-Encoding: chunked", LENGTH, body=CHUNKED),
        # It is answered, and the connection closed: nothing after it is read.
        "coding: in HTTP/1.0": Case(
            request(whole, body=CHUNKED, start=f"POST {PATH} HTTP/1.0") + INSIDE, [PASSED], [BODY]
        ),
    }


def chunks() -> dict[str, Case]:
    def chunked(body: bytes, status: int, seen: bytes | None = None) -> Case:
        return Case(request("Transfer-Encoding: chunked", body=body), [status], [] if seen is None else [seen])

    bad = {
        "a sign": b"+2\r\n{}\r\n0\r\n\r\n",
        "0x": b"0x2\r\n{}\r\n0\r\n\r\n",
        "a space before": b" 2\r\n{}\r\n0\r\n\r\n",
        "not hexadecimal": b"g\r\n{}\r\n0\r\n\r\n",
        "negative": b"-1\r\n{}\r\n0\r\n\r\n",
        "empty": b"\r\n{}\r\n0\r\n\r\n",
        "more than 64 bits": b"10000000000000002\r\n{}\r\n0\r\n\r\n",
        "an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
        "bare CR after the size": b"2\r{}\r\n0\r\n\r\n",
        "a NUL in the size": b"2\0\r\n{}\r\n0\r\n\r\n",
        "a bare LF in an extension": b"2;a\n{}\r\n0\r\n\r\n",
        "a bare CR in an extension": b"2;a\rb\r\n{}\r\n0\r\n\r\n",
    }
    cases = {f"chunk: {name}": chunked(body + INSIDE, REFUSED) for name, body in bad.items()}
    return cases | {
        "chunk: an extension": chunked(b"2;a=b\r\n{}\r\n0\r\n\r\n", PASSED, seen=b"{}"),
        "chunk: an extension that is quoted": chunked(b'2;a="\\"b"\r\n{}\r\n0;c\r\n\r\n', PASSED, seen=b"{}"),
        "chunk: leading zeros": chunked(b"0002\r\n{}\r\n000\r\n\r\n", PASSED, seen=b"{}"),
        "chunk: in capitals": chunked(b"A\r\n0123456789\r\n0\r\n\r\n", PASSED, seen=b"0123456789"),
        "chunk: trailers": chunked(b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n", PASSED, seen=b"{}"),
        "chunk: a coding as trailer": chunked(
            b"2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", PASSED, seen=b"{}"
        ),
        # Envoy continues to the line's end; it counts what it passes on itself.
        "chunk: shorter than its content": chunked(b"1\r\n{}\r\n0\r\n\r\n", PASSED, seen=b"{"),
        "chunk: bare LF after the content": chunked(b"2\r\n{}\n0\r\n\r\n", PASSED, seen=b"{}"),
        "chunk: never the last": chunked(b"2\r\n{}\r\n", LATE),
    }


def line_ends() -> dict[str, Case]:
    return {
        # A line may end like this (RFC 9112, 2.2).
        "line: bare LF": Case(request(LENGTH).replace(b"\r\n", b"\n") + INSIDE, [PASSED, PASSED], [BODY, b"{}"]),
        "line: bare LF after a header": followed("X: y\n" + LENGTH),
        # It is part of the value, which is not passed on.
        "line: bare CR in a value": followed("X: y\rTransfer-Encoding: chunked", LENGTH),
        "line: bare CR in the content type": followed("Content-Type: image/png\rTransfer-Encoding: chunked", LENGTH),
        "line: bare CR in the trace": followed("Traceparent: 00-a\rTransfer-Encoding: chunked", LENGTH),
        "line: bare CR in the id": followed("X-Request-Id: a\rTransfer-Encoding: chunked", LENGTH),
        "line: escape sequences in the content type": refused("Content-Type: \x1b[31m", LENGTH),
        "line: bytes above ASCII in the content type": followed("Content-Type: \xff\x80", LENGTH),
        "line: bare CR in a name": refused("X\rTransfer-Encoding: chunked", LENGTH),
        "line: NUL in a value": refused("X: y\0z", LENGTH),
        "line: no colon": refused("Transfer-Encoding", LENGTH),
        "line: no name": refused(": y", LENGTH),
        "line: a name in brackets": refused("X(y): z", LENGTH),
        "line: folded": followed("X: y\r\n z", LENGTH),
        "line: a folded content type": followed("Content-Type: a\r\n b\r\n\tc", LENGTH),
        "line: a CR before the end": followed(LENGTH + "\r"),
    }


def targets() -> dict[str, Case]:
    def started(line: str, *lines: str, status: int = REFUSED) -> Case:
        return Case(request(LENGTH, *lines, start=line), [status], [BODY] if status == PASSED else [])

    return {
        "target: absolute": started(f"POST http://x{PATH} HTTP/1.1", status=PASSED),
        "target: absolute, of another host": started(f"POST http://other{PATH} HTTP/1.1", status=PASSED),
        "target: absolute, with a user": started(f"POST http://u:p@other{PATH} HTTP/1.1", status=PASSED),
        "target: another scheme": started(f"POST ftp://x{PATH} HTTP/1.1"),
        "target: a space": started(f"POST {PATH} x HTTP/1.1"),
        "target: a tab": started(f"POST {PATH}\tx HTTP/1.1"),
        "target: two spaces before the version": started(f"POST {PATH}  HTTP/1.1", status=PASSED),
        "target: a NUL": started(f"POST {PATH}\0 HTTP/1.1"),
        "target: a line break in percents": started(f"POST {PATH}%0d%0aX: HTTP/1.1", status=404),
        "target: a query": started(f"POST {PATH}?a=b%0d%0aX:y HTTP/1.1", status=PASSED),
        "target: a fragment": started(f"POST {PATH}#a HTTP/1.1"),
        "target: another version": started(f"POST {PATH} HTTP/3.1", status=PASSED),
        "target: a word after the version": started(f"POST {PATH} HTTP/1.1 x"),
        "host: two": started(f"POST {PATH} HTTP/1.1", "Host: other", status=PASSED),  # neither is passed on
        "host: a space": Case(request(LENGTH).replace(b"Host: x", b"Host: x y"), [REFUSED]),
        "method: a tab": started(f"POST\t{PATH} HTTP/1.1", status=PASSED),
        "method: a line break before": Case(b"\r\n" + request(LENGTH), [PASSED], [BODY]),
        "method: a space before": Case(b" " + request(LENGTH), [REFUSED]),
    }


def connections() -> dict[str, Case]:
    """Headers that a proxy removes, or answers itself, so that the server behind it misses or misreads them."""
    return {
        "connection: names the length": passed("Connection: Content-Length", LENGTH),
        "connection: names the coding": passed(
            "Connection: Transfer-Encoding", "Transfer-Encoding: chunked", body=CHUNKED
        ),
        "connection: names our own headers": passed("Connection: x-client-content-type, x-request-start", LENGTH),
        "connection: an upgrade with a body": passed("Connection: Upgrade", "Upgrade: websocket", LENGTH),
        "connection: h2c": passed(
            "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", LENGTH
        ),
        "connection: expects 100": passed("Expect: 100-continue", LENGTH),
        "connection: of HTTP/1.0, keep alive": Case(
            request("Connection: keep-alive", LENGTH, start=f"POST {PATH} HTTP/1.0"), [PASSED], [BODY]
        ),
        "own headers: forged": passed(
            "X-Client-Content-Type: image/png\r\nX-Request-Start: t=1\r\nX-Stages: a\r\nX-Upstream: torchserve", LENGTH
        ),
        "two in one": Case(request(LENGTH) * 2, [PASSED, PASSED], [BODY, BODY]),
    }


# --- HTTP/2, which becomes HTTP/1.1 behind the door -------------------------------------------------------------------


class Http2Case(NamedTuple):
    """fields: in a predict call's head, added to or replacing the usual ones. bodies: as above; none: it is refused."""

    fields: dict[bytes, bytes | None]
    body: bytes = BODY
    bodies: Sequence[bytes] = ()


def http2_corpus() -> dict[str, Http2Case]:
    """Name → what is sent, and the permitted result."""
    bad: dict[str, dict[bytes, bytes | None]] = {
        "a length that is too long": {b"content-length": b"99"},
        "a length that is too short": {b"content-length": b"1"},
        "a length of 0": {b"content-length": b"0"},
        "a length with a sign": {b"content-length": b"+17"},
        "a length that is a list": {b"content-length": b"17, 17"},
        "a length with leading zeros": {b"content-length": b"0017"},
        "a coding": {b"transfer-encoding": b"chunked"},
        "a coding that is none": {b"transfer-encoding": b"identity"},
        "a connection header": {b"connection": b"content-length"},
        "keep-alive": {b"keep-alive": b"5"},
        "an upgrade": {b"upgrade": b"h2c"},
        "te that is not trailers": {b"te": b"gzip"},
        "CR LF in a value": {b"content-type": b"a\r\ntransfer-encoding: chunked"},
        "LF in a value": {b"content-type": b"a\ntransfer-encoding: chunked"},
        "CR in a value": {b"content-type": b"a\rtransfer-encoding: chunked"},
        "NUL in a value": {b"content-type": b"a\0b"},
        "CR LF in a name": {b"x\r\ntransfer-encoding: chunked\r\ny": b"1"},
        "a colon in a name": {b"transfer-encoding: chunked": b"1"},
        "a space in a name": {b"content-length ": b"1"},
        "capitals in a name": {b"Content-Length": b"17"},
        "an empty name": {b"": b"1"},
        "an unknown pseudo-header": {b":protocol": b"websocket"},
        "a status": {b":status": b"200"},
        "a space in the path": {b":path": PATH.encode() + b" HTTP/1.1"},
        "CR LF in the path": {b":path": PATH.encode() + b" HTTP/1.1\r\nx: y"},
        "no slash in the path": {b":path": PATH.encode()[1:]},
        "an empty path": {b":path": b""},
        "no path": {b":path": None},
        "a fragment in the path": {b":path": PATH.encode() + b"#a"},
        "CR LF in the method": {b":method": b"POST / HTTP/1.1\r\nx: y\r\n\r\nGET"},
        "a space in the method": {b":method": b"POST /x HTTP/1.1"},
        "no method": {b":method": None},
        "CR LF in the authority": {b":authority": b"x\r\ntransfer-encoding: chunked"},
        "a user in the authority": {b":authority": b"u:p@x"},
        "a space in the authority": {b":authority": b"x y"},
        "CR LF in the scheme": {b":scheme": b"http\r\nx: y"},
    }
    good: dict[str, dict[bytes, bytes | None]] = {
        "no length": {},
        "its length": {b"content-length": b"17"},
        "a host beside the authority": {b"host": b"other"},
        "a query": {b":path": PATH.encode() + b"?a=b%0d%0ax"},
        "our own headers": {b"x-client-content-type": b"a", b"x-upstream": b"torchserve", b"x-stages": b"a"},
    }
    return {name: Http2Case(fields) for name, fields in bad.items()} | {
        name: Http2Case(fields, bodies=[BODY]) for name, fields in good.items()
    }
