"""Images by URL under attack: from the author of the URL, from DNS, and from the host itself."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipeline.shared.ports import free_ports
from tests.support.scripted_host import FOUND, Answer, Host, is_silent, pours, redirects, running_host, says, trickles
from vision.errors import RequestError, TooLarge, UrlFailed, UrlNotAllowed, UrlTimedOut
from vision.fetch import image_url
from vision.fetch.image_url import LARGEST_IMAGES, MAX_REDIRECTS, UrlFetcher
from vision.fetch.public_connection import get, is_public

NAME = "images.example.org"
PLACE = "instances[0].url"
LIMIT = 100_000
IMAGE = bytes(range(256)) * 100
CHUNKED = FOUND + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host(FOUND + b"\r\n" + IMAGE) as running:
        yield running


@pytest.fixture
def other() -> Iterator[Host]:
    with running_host(FOUND + b"\r\n" + IMAGE) as running:
        yield running


def test_a_host_that_is_an_ipv6_address_is_asked_over_the_connection_there_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(FOUND + b"Content-Length: 3\r\n\r\nabc")
        url = urlsplit("https://[2606:4700::abcd]/a.jpg")
        with get(ours, url, time.monotonic() + 30) as response:
            assert response.read() == b"abc"
        assert b"Host: [2606:4700::abcd]\r\n" in theirs.recv(1000)


class Resolver:
    """Answers each query with the next of the given address lists, and repeats the last one."""

    def __init__(self, *answers: list[tuple[str, int]]) -> None:
        self.questions: list[tuple[str, int]] = []
        self._answers = list(answers)

    def __call__(self, name: str, port: int, **_: Any) -> list[Any]:
        self.questions.append((name, port))
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address, _ in found]
        return [(family, socket.SOCK_STREAM, 0, "", address) for family, address in zip(families, found, strict=True)]


def at(host: Host) -> Resolver:
    return Resolver([("127.0.0.1", host.port)])


def nowhere(*_: Any, **__: Any) -> list[Any]:
    raise AssertionError("a name was resolved")


def fetcher(resolve: Any, timeout_s: float = 30, hosts: tuple[str, ...] = (NAME,), check: Any = None) -> UrlFetcher:
    """A fetcher that considers loopback public, because the tests' hosts are there."""
    check = check or (lambda address: address == "127.0.0.1" or is_public(address))
    return UrlFetcher(list(hosts), timeout_s, LIMIT, allow_http=True, resolve=resolve, check=check)


def refusal(fetcher: UrlFetcher, url: str = f"http://{NAME}/cat.jpg") -> RequestError:
    fetches = fetcher.for_request()
    with pytest.raises(RequestError) as caught:
        fetches.start(url, PLACE).result()
    assert str(caught.value).startswith(f"{PLACE}: ")
    assert str(caught.value).isprintable()
    ended(fetches)
    return caught.value


def ended(fetches: image_url.RequestFetches) -> None:
    """Waits until the threads have ended on their own."""
    fetches._pool.shutdown(wait=True)


# By the author of the URL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        f"https://{NAME}@evil.example/",
        f"https://{NAME}:443@evil.example/",
        f"https://evil.example#@{NAME}/",
        f"https://evil.example?@{NAME}/",
        f"https://user:password@{NAME}/",  # pragma: allowlist secret
        f"https://@{NAME}/",
        f"https://{NAME}.evil.example/",
        f"https://evil.example/{NAME}",
        f"https://{NAME}./",
        f"https://{NAME}../",
        f"https://.{NAME}/",
        f"https://{NAME}:/",
        f"https://{NAME}:22/",
        f"https://{NAME}:0443/",
        f"https://{NAME}:99999/",
        f"https://{NAME}%2eevil.example/",
        f"https://{NAME}%00.evil.example/",
        "https://images%2eexample.org/",
        "https://xn--mages-uof.example.org/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::1]/",
        "https://localhost/",
        "https://metadata.google.internal/computeMetadata/v1/",
    ],
)
def test_another_host_is_403(url: str) -> None:
    error = refusal(fetcher(nowhere), url)
    assert isinstance(error, UrlNotAllowed)
    assert str(error) == f"{PLACE}: not fetched: this server does not fetch images from that host"


@pytest.mark.parametrize(
    "url",
    [
        f"https://{NAME}\\@evil.example/",
        f"https://evil.example\\@{NAME}/",
        f"https:\\\\{NAME}/",
        f"https:///{NAME}/",
        f"https:/{NAME}/",
        f"https:{NAME}/",
        f"httpſ://{NAME}/",
        f" https://{NAME}/",
        f"https://{NAME}/ ",
        f"https://{NAME}/a b",
        f"https://{NAME}\t/",
        "https://ima\nges.example.org/",
        "\x00https://images.example.org/",
        f"https://{NAME}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        f"https://{NAME}/\x7f",
        "https://images。example。org/",
        "https://ｉｍａｇｅｓ.example.org/",
        "https://imagеs.example.org/",  # with a Cyrillic е
        f"https://{NAME}:４４３/",
        f"https://{NAME}/ä",
        f"https://[{NAME}/",
        f"file://{NAME}/etc/passwd",
        f"ftp://{NAME}/",
        f"gopher://{NAME}/",
        f"jar:https://{NAME}/!/",
        "data:image/png;base64,AAAA",
        f"https://{NAME}/" + "x" * 8192,
    ],
)
def test_what_programs_read_differently_is_400(url: str) -> None:
    error = refusal(fetcher(nowhere), url)
    assert (error.status, str(error)) == (400, f"{PLACE}: expected an https URL")


def test_the_host_gets_the_url_and_nothing_else(host: Host) -> None:
    url = f"HTTP://{NAME.upper()}/a%0d%0ab/{{}}?q=%0a&x=//y#fragment"
    assert fetcher(at(host)).start(url, PLACE).result() == IMAGE
    first, *headers = host.asked.get().decode().split("\r\n")
    assert first == "GET /a%0d%0ab/{}?q=%0a&x=//y HTTP/1.1"
    assert sorted(headers) == [
        "",
        "",
        "Accept-Encoding: identity",
        "Accept: image/*",
        "Connection: close",
        f"Host: {NAME.upper()}",
        "User-Agent: torchserve-alexnet",
    ]


# By the DNS answers --------------------------------------------------------------------------------------------------

NOT_PUBLIC = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # metadata of Google Cloud, AWS and Azure
    "169.254.170.2",  # credentials of AWS ECS
    "100.64.0.1",
    "100.100.100.200",  # metadata of Alibaba
    "100.127.255.255",
    "168.63.129.16",  # Azure's WireServer
    "192.0.0.192",  # metadata of Oracle
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",  # metadata of AWS
    "fd20:ce::254",  # metadata of Google Cloud
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_inside_is_403(address: str) -> None:
    error = refusal(fetcher(Resolver([(address, 443)]), check=is_public))
    assert isinstance(error, UrlNotAllowed)
    assert str(error) == f"{PLACE}: not fetched: the host has an address that is not public"


@pytest.mark.parametrize("address", ["8.8.8.8", "199.36.153.8", "100.63.255.255", "2001:4860:4860::8888", "2a00::1"])
def test_addresses_on_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "017700000001",
        "0x7f.1",
        "0x7f000001",
        "0",
        "0xa9fea9fe",
        "2852039166",
        "169.254.169.254",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[fd00:ec2::254]",
        "[64:ff9b::a9fe:a9fe]",
    ],
)
def test_other_ways_to_write_an_address_inside_are_403(name: str) -> None:
    """Even if they are listed: this machine's own resolver would read them."""
    listed = fetcher(socket.getaddrinfo, hosts=(name,), check=is_public)
    assert refusal(listed, f"http://{name}/").status == 403


@pytest.mark.parametrize("first", [True, False])
def test_one_address_inside_is_enough(host: Host, first: bool) -> None:
    addresses = [("127.0.0.1", host.port), ("10.0.0.1", 80)]
    assert refusal(fetcher(Resolver(addresses if first else addresses[::-1]))).status == 403
    assert host.asked.empty()


def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(host: Host, other: Host) -> None:
    checked: list[str] = []
    resolver = Resolver([("127.0.0.1", host.port)], [("127.0.0.1", other.port)])

    def check(address: str) -> bool:
        checked.append(address)
        return True

    rebound = fetcher(resolver, check=check)
    assert rebound.start(f"http://{NAME}/cat.jpg", PLACE).result() == IMAGE
    assert resolver.questions == [(NAME, 80)]
    assert checked == ["127.0.0.1"]
    assert (host.asked.qsize(), other.asked.qsize()) == (1, 0)


def test_the_next_address_where_the_first_refuses(host: Host) -> None:
    resolver = Resolver([("127.0.0.1", free_ports(1)[0]), ("127.0.0.1", host.port)])
    assert fetcher(resolver).start(f"http://{NAME}/", PLACE).result() == IMAGE


@pytest.mark.parametrize("problem", [socket.gaierror("unknown"), UnicodeError("label too long")])
def test_a_name_that_does_not_resolve_is_502(problem: Exception) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise problem

    assert str(refusal(fetcher(fails))) == f"{PLACE}: could not be fetched: the host cannot be reached"


def test_a_resolver_that_does_not_answer_is_504() -> None:
    answered = threading.Event()

    def waits(*_: Any, **__: Any) -> list[Any]:
        answered.wait()
        return []

    fetches = fetcher(waits, timeout_s=0.3).for_request()
    try:
        with pytest.raises(UrlTimedOut):
            fetches.start(f"http://{NAME}/", PLACE).result()
    finally:
        answered.set()
        ended(fetches)


def test_no_proxy_is_asked(host: Host, other: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{other.port}")
    assert fetcher(at(host)).start(f"http://{NAME}/", PLACE).result() == IMAGE
    assert other.asked.empty()


# By redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/computeMetadata/v1/",
        "http://metadata.google.internal/",
        "http://127.0.0.1:8081/models",
        "//localhost/",
        f"http://{NAME}@127.0.0.1/",
        f"http://{NAME}:8081/",
        f"http://{NAME}./",
        f"http://{NAME}\\@127.0.0.1/",
        f"\\\\{NAME}/",
        "http://[/",
        "file:///etc/passwd",
        "ftp://images.example.org/",
        "javascript:alert(1)",
        "/ä",
    ],
)
def test_a_redirect_elsewhere_is_403(host: Host, location: str) -> None:
    host.answer = redirects(location)
    resolver = at(host)
    error = refusal(fetcher(resolver))
    assert (error.status, str(error)) == (
        403,
        f"{PLACE}: not fetched: it redirects to a URL that this server may not fetch",
    )
    assert resolver.questions == [(NAME, 80)]


def test_the_address_is_checked_at_each_redirect(host: Host) -> None:
    host.answer = redirects("/")
    resolver = Resolver([("127.0.0.1", host.port)], [("10.0.0.1", 80)])
    assert str(refusal(fetcher(resolver))).endswith("the host has an address that is not public")
    assert resolver.questions == [(NAME, 80)] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_listed_host_is_followed(host: Host, other: Host, status: int) -> None:
    host.answer = redirects("http://b.example.org/cat.jpg", status)
    resolver = Resolver([("127.0.0.1", host.port)], [("127.0.0.1", other.port)])
    both = fetcher(resolver, hosts=(NAME, "b.example.org"))
    assert both.start(f"http://{NAME}/", PLACE).result() == IMAGE
    assert resolver.questions == [(NAME, 80), ("b.example.org", 80)]
    assert b"Host: b.example.org\r\n" in other.asked.get()


def test_a_redirect_loop_is_502(host: Host) -> None:
    host.answer = redirects("/again")
    error = refusal(fetcher(at(host)))
    assert str(error) == f"{PLACE}: could not be fetched: more than {MAX_REDIRECTS} redirects"
    assert host.asked.qsize() == 1 + MAX_REDIRECTS


def test_a_redirect_without_a_location_is_502(host: Host) -> None:
    host.answer = says(b"HTTP/1.1 302 Found\r\n\r\n")
    assert str(refusal(fetcher(at(host)))) == f"{PLACE}: could not be fetched: the host answered 302"


# By the host ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(pours(FOUND + b"\r\n", bytes(65536)), id="endless"),
        pytest.param(pours(CHUNKED, b"10000\r\n" + bytes(65536) + b"\r\n"), id="endless chunks"),
        pytest.param(pours(CHUNKED, b"ffffffffffffffff\r\n" + bytes(65536)), id="one endless chunk"),
        pytest.param(says(FOUND + b"Content-Length: 100001\r\n\r\n"), id="announced"),
        pytest.param(says(FOUND + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"), id="announced, and very large"),
        pytest.param(says(FOUND + b"Content-Length: -1\r\n\r\n" + bytes(LIMIT + 1)), id="a length below zero"),
        pytest.param(says(FOUND + b"\r\n" + bytes(LIMIT + 1)), id="a byte too many"),
    ],
)
def test_too_many_bytes_are_413(host: Host, answer: Answer) -> None:
    host.answer = answer
    error = refusal(fetcher(at(host)))
    assert isinstance(error, TooLarge)
    assert str(error) == f"{PLACE}: more than {LIMIT} bytes"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(is_silent, id="nothing"),
        pytest.param(trickles(b"HTTP/1.1 200 ", b"x"), id="status line"),
        pytest.param(trickles(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="continue"),
        pytest.param(trickles(FOUND + b"X-Name: ", b"x"), id="a header"),
        pytest.param(trickles(FOUND, b"X-Name: x\r\n"), id="headers"),
        pytest.param(trickles(FOUND + b"\r\n", b"x"), id="body"),
        pytest.param(trickles(FOUND + b"Content-Length: 90000\r\n\r\n", b"x"), id="body with a length"),
        pytest.param(trickles(CHUNKED, b"1\r\nx\r\n"), id="chunks"),
        pytest.param(trickles(CHUNKED + b"1;", b"x"), id="a chunk's extension"),
        pytest.param(trickles(CHUNKED + b"0\r\n", b"X-Name: x\r\n"), id="trailers"),
        pytest.param(pours(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), id="continue without end"),
        pytest.param(pours(CHUNKED + b"0\r\n", b"X-Name: x\r\n" * 1000), id="trailers without end"),
    ],
)
def test_too_slow_is_504_and_the_thread_ends(host: Host, answer: Answer) -> None:
    host.answer = answer
    error = refusal(fetcher(at(host), timeout_s=0.5))
    assert isinstance(error, UrlTimedOut)
    assert not host.stopping.is_set()


@pytest.mark.parametrize("answer", [is_silent, trickles(b"\x16\x03\x03\x20\x00", b"\x02")], ids=["silent", "trickling"])
def test_a_slow_tls_handshake_is_504(host: Host, answer: Answer) -> None:
    host.answer = answer
    assert isinstance(refusal(fetcher(at(host), timeout_s=0.5), f"https://{NAME}/"), UrlTimedOut)


BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("Content-Encoding: gzip", "the host compressed its answer"),
        ("Content-Encoding: br", "the host compressed its answer"),
        ("Content-Encoding: identity, gzip", "the host compressed its answer"),
        ("Content-Encoding: identity\r\nContent-Encoding: gzip", "the host compressed its answer"),
        ("Transfer-Encoding: gzip", "the host compressed its answer"),
        ("Transfer-Encoding: gzip, chunked", "the host compressed its answer"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", "the host compressed its answer"),
        ("Content-Type: text/html", "the host's answer is not an image"),
        ("Content-Type: application/json", "the host's answer is not an image"),
        ("Content-Type: text/html; image/png", "the host's answer is not an image"),
        ("Content-Type: multipart/mixed", "the host's answer is not an image"),
    ],
)
def test_what_is_no_plain_image_is_502(host: Host, header: str, sentence: str) -> None:
    host.answer = says(FOUND + header.encode() + b"\r\n\r\n" + BOMB)
    assert str(refusal(fetcher(at(host)))) == f"{PLACE}: could not be fetched: {sentence}"


@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/PNG", "application/octet-stream", "binary/octet-stream"])
def test_what_image_stores_say_is_taken(host: Host, kind: str) -> None:
    host.answer = says(FOUND + f"Content-Type: {kind}\r\n\r\n".encode() + IMAGE)
    assert fetcher(at(host)).start(f"http://{NAME}/", PLACE).result() == IMAGE


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "the host answered 101"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "the host answered 204"),
        (b"HTTP/1.1 206 Partial Content\r\n\r\n" + IMAGE, "the host answered 206"),
        (b"HTTP/1.1 304 Not Modified\r\nLocation: /\r\n\r\n", "the host answered 304"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the host's answer is not HTTP"),
        (b"", "the host's answer is not HTTP"),
        (FOUND + b"X-Name: " + b"x" * 70_000, "the host's answer is not HTTP"),
        (FOUND + b"X-Name: x\r\n" * 200, "the host's answer is not HTTP"),
        (CHUNKED + b"zz\r\n", "the connection was lost"),
        (CHUNKED + b"5\r\nabc", "the connection was lost"),
        (FOUND + b"Content-Length: 1000\r\n\r\nabc", "the connection was lost"),
    ],
)
def test_a_broken_answer_is_502(host: Host, answer: bytes, sentence: str) -> None:
    host.answer = says(answer)
    assert str(refusal(fetcher(at(host)))) == f"{PLACE}: could not be fetched: {sentence}"


# What one request may do to another -----------------------------------------------------------------------------------


def test_a_request_with_slow_urls_holds_up_no_other(host: Host) -> None:
    """Not even one for the same host."""
    host.answer = is_silent
    fetching = fetcher(at(host), timeout_s=60)
    slow, quick = fetching.for_request(), fetching.for_request()
    waiting = [slow.start(f"http://{NAME}/slow", PLACE) for _ in range(64)]
    requests = [host.asked.get() for _ in range(image_url.REQUEST_FETCHES)]  # the most that it may have at a time
    assert all(request.startswith(b"GET /slow ") for request in requests)
    host.answer = says(FOUND + b"\r\n" + IMAGE)
    assert quick.start(f"http://{NAME}/quick", PLACE).result() == IMAGE
    assert host.asked.get().startswith(b"GET /quick ")
    fetching.cancel()
    ended(slow)
    assert waiting[-1]._future.cancelled()
    assert host.asked.empty()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_nobody_waits_for_any_more_is_broken_off(host: Host, scheme: str) -> None:
    host.answer = is_silent
    fetching = fetcher(at(host), timeout_s=600)
    fetches = fetching.for_request()
    fetches.start(f"{scheme}://{NAME}/", PLACE)
    host.asked.get()
    fetching.cancel()
    ended(fetches)
    assert not host.stopping.is_set()


def test_a_host_of_which_too_much_is_unfinished_is_502_and_others_are_fetched(
    host: Host, other: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_url, "HOST_FETCHES", 2)
    host.answer = is_silent
    hosts = {NAME: host, "b.example.org": other}

    def resolve(name: str, port: int, **_: Any) -> list[Any]:
        return at(hosts[name])(name, port)

    fetching = fetcher(resolve, timeout_s=60, hosts=tuple(hosts))
    stuck = [fetching.for_request() for _ in range(2)]
    for fetches in stuck:
        fetches.start(f"http://{NAME}/", PLACE)
    for _ in stuck:
        host.asked.get()
    error = refusal(fetching)
    assert isinstance(error, UrlFailed)
    assert str(error) == f"{PLACE}: could not be fetched: too many fetches from that host are unfinished"
    assert fetching.start("http://b.example.org/", PLACE).result() == IMAGE
    fetching.cancel()
    for fetches in stuck:
        ended(fetches)
    host.answer = says(FOUND + b"\r\n" + IMAGE)
    assert fetching.start(f"http://{NAME}/", PLACE).result() == IMAGE


def test_the_images_of_a_request_are_bounded_together(host: Host) -> None:
    host.answer = says(FOUND + b"\r\n" + bytes(LIMIT))
    fetching = fetcher(at(host))
    for fetches in (fetching.for_request(), fetching.for_request()):  # each has its own bound
        for pending in [fetches.start(f"http://{NAME}/", PLACE) for _ in range(LARGEST_IMAGES)]:
            assert len(pending.result()) == LIMIT
    with pytest.raises(TooLarge, match=rf"^instances: more than {LARGEST_IMAGES * LIMIT} bytes by URL$"):
        fetches.start(f"http://{NAME}/", PLACE).result()
