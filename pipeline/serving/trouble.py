"""Why there is no answer: the cause of a network error, and what to do about it."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import closing, suppress
from dataclasses import dataclass

import httpx

from pipeline.shared.http import is_loopback
from pipeline.shared.text import one_line

PROBE_S = 5

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/#error-codes
NOT_YET_VALID, EXPIRED, SELF_SIGNED = 9, 10, 18
UNKNOWN_AUTHORITY = (2, 19, 20, 21)
WRONG_NAME = (62, 64)

NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")
NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH)
TLS_ALERT = r"\x15\x03"  # how httpx shows what a TLS server may answer to HTTP


@dataclass(frozen=True)
class Trouble:
    """what: the cause, as part of a sentence. remedy: for somebody who calls a server of this project.

    nothing_here: simply no server was started on this machine.
    """

    what: str
    remedy: str
    nothing_here: bool = False


def trouble(error: httpx.RequestError, url: httpx.URL, proxy: str | None) -> Trouble:
    """proxy: the one that the request went through, if any."""
    root = _root(error)
    if isinstance(root, ssl.SSLError):
        return _of_tls(root, url)
    if proxy is not None and isinstance(error, httpx.ProxyError | httpx.ConnectError | httpx.ConnectTimeout):
        shown = httpx.URL(proxy).copy_with(userinfo=None)
        said = f"answers {one_line(error)}" if isinstance(error, httpx.ProxyError) else _silence(root)
        return Trouble(f"the proxy {shown} {said}", "correct HTTPS_PROXY and HTTP_PROXY, or name the host in NO_PROXY")
    place = url.netloc.decode()
    if isinstance(root, socket.gaierror):
        later = root.errno == socket.EAI_AGAIN
        what = "cannot be resolved now" if later else "has no address"
        return Trouble(f"the name {url.host} {what} ({root.strerror})", "check the name, and the network")
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        here = is_loopback(url.host) and getattr(root, "errno", None) == errno.ECONNREFUSED
        remedy = (
            "start one with scripts/serve.sh, or give --url" if here else "check the port, and firewalls on the way"
        )
        return Trouble(f"{place} {_silence(root)}", remedy, nothing_here=here)
    if isinstance(error, httpx.TimeoutException):
        return Trouble(f"{place} did not answer in time", "look at the server's log")
    if url.scheme == "http" and proxy is None and (TLS_ALERT in str(error) or _speaks_tls(url)):
        return Trouble(f"{place} speaks HTTPS, not HTTP", "give https://…")
    return Trouble(
        f"the connection to {url.scheme}://{place} broke off ({one_line(error)})", "look at the server's log"
    )


def _of_tls(error: ssl.SSLError, url: httpx.URL) -> Trouble:
    place = url.netloc.decode()
    if isinstance(error, ssl.SSLCertVerificationError):
        certificate = f"the certificate of {place}"
        if error.verify_code == SELF_SIGNED:
            return Trouble(f"{certificate} is self-signed", "if it is yours, give it with --ca FILE")
        if error.verify_code in UNKNOWN_AUTHORITY:
            return Trouble(
                f"{certificate} is from an authority that is not known here", "give its certificate with --ca FILE"
            )
        if error.verify_code == EXPIRED:
            return Trouble(f"{certificate} has expired", "have it renewed")
        if error.verify_code == NOT_YET_VALID:
            return Trouble(f"{certificate} is not valid yet", "check this machine's clock")
        if error.verify_code in WRONG_NAME:
            return Trouble(f"{certificate} is for another name", "give --url with a name that is in it")
        return Trouble(f"{certificate} is not accepted ({one_line(error.verify_message)})", "have it renewed")
    if error.reason in NO_TLS:
        return Trouble(f"{place} does not speak TLS", "give http://…")
    said = (error.reason or str(error)).lower().replace("_", " ")
    return Trouble(f"TLS with {place} failed ({one_line(said)})", "look at the log of what ends TLS there")


def _silence(root: BaseException) -> str:
    """Why no connection was made."""
    number = getattr(root, "errno", None)
    if isinstance(root, socket.gaierror):
        return f"has no address ({root.strerror})"
    if number == errno.ECONNREFUSED:
        return "refuses connections"
    if number in NO_ROUTE:
        return f"cannot be reached ({os.strerror(number)})"
    if isinstance(root, TimeoutError | httpx.TimeoutException):
        return "does not accept the connection"
    return f"cannot be reached ({one_line(root) or type(root).__name__})"


def _speaks_tls(url: httpx.URL) -> bool:
    """Whether a handshake succeeds, whoever is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent, and nothing received is trusted
    with suppress(OSError):
        opened = socket.create_connection((url.host, url.port or 80), timeout=PROBE_S)
        with closing(opened), context.wrap_socket(opened, server_hostname=url.host):
            return True
    return False


def _root(error: BaseException) -> BaseException:
    """The error that the libraries have wrapped."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
