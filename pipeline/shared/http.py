"""HTTP clients: the proxy that the environment names, and the certificates that they trust."""

from __future__ import annotations

import ipaddress
import os
import ssl
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from pipeline.shared.errors import CertificatesUnusable, ProxyUnusable


def http_client(timeout: httpx.Timeout, **options: Any) -> httpx.Client:
    """Raises ProxyUnusable for every proxy that httpx cannot use: a wrong URL or scheme, or SOCKS."""
    try:
        return httpx.Client(timeout=timeout, **options)
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        raise ProxyUnusable(str(error).partition(". ")[0]) from None


def proxy_of(url: httpx.URL) -> str | None:
    """The proxy that the environment (or macOS's settings) names for a URL; none for loopback.

    Networks in NO_PROXY (10.0.0.0/8) count, as they do for curl.
    """
    if is_loopback(url.host) or urllib.request.proxy_bypass(url.netloc.decode()) or _in_network_without_proxy(url.host):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"


def is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def trusted(authorities: Path | None = None) -> ssl.SSLContext:
    """The authorities whose certificates are accepted: only those in this file (PEM), as with curl's --cacert; without
    one, those of SSL_CERT_FILE or SSL_CERT_DIR; without these, this machine's and Mozilla's.

    Raises CertificatesUnusable.
    """
    if authorities is None and os.environ.get("SSL_CERT_FILE"):
        authorities = Path(os.environ["SSL_CERT_FILE"])
    if authorities is None:
        context = httpx.create_ssl_context()  # those of SSL_CERT_DIR, or Mozilla's
        if not os.environ.get("SSL_CERT_DIR"):
            context.load_default_certs()
        return context
    try:
        return ssl.create_default_context(cafile=authorities)
    except ssl.SSLError:
        raise CertificatesUnusable(authorities, "has no certificate in PEM (-----BEGIN CERTIFICATE-----)") from None
    except OSError as error:
        raise CertificatesUnusable(authorities, f"cannot be read ({error.strerror})") from None


def _in_network_without_proxy(host: str) -> bool:
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        for entry in urllib.request.getproxies_environment().get("no", "").split(","):
            with suppress(ValueError):
                if "/" in entry and address in ipaddress.ip_network(entry.strip(), strict=False):
                    return True
    return False
