"""HTTP clients, through the proxy that the environment names."""

from __future__ import annotations

import httpx

from pipeline.shared.errors import ProxyUnusable


def http_client(timeout: httpx.Timeout, trust_env: bool = True) -> httpx.Client:
    """Raises ProxyUnusable, where httpx raises whatever it stumbles over: a wrong URL or scheme, or SOCKS."""
    try:
        return httpx.Client(timeout=timeout, trust_env=trust_env)
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        raise ProxyUnusable(str(error).partition(". ")[0]) from None
