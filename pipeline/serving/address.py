"""What a user gives as --url: the server's address, and the model to ask."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx

from pipeline.serving.route import MODELS_ROUTE
from pipeline.shared.errors import NoUrl

# HOST, HOST:PORT or [ADDRESS]:PORT, which browsers and curl accept without a scheme.
WITHOUT_SCHEME = re.compile(r"(?![0-9]+(/|$))([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?([/?].*)?")

# The paths that the server answers (kserve/runtime/envoy.yaml). A copied URL may end in one.
OURS = re.compile(
    r"/(v1|v2)?/?$|/(docs|openapi\.json)$|/v2/health/(live|ready)$"
    r"|/v1/models/?$|/v1/models/(?P<v1>[\w.-]+)(:predict|:explain|%3A(predict|explain))?/?$"
    r"|/v2/models/?$|/v2/models/(?P<v2>[\w.-]+)(/versions/[\w.-]+)?(/infer|/explain|/ready)?/?$",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Address:
    """The address of a model. Keeps the query, and any path before the protocol's, which an ingress may need."""

    server: httpx.URL
    model: str
    is_named: bool = False  # whether the URL names the model

    @classmethod
    def parse(cls, text: str, model: str) -> Address:
        """A URL with any of the server's paths, or HOST:PORT. model: used if the path names none. Raises NoUrl."""
        said = f"http://{text}" if WITHOUT_SCHEME.fullmatch(text) else text
        try:
            url = httpx.URL(said)
            url.host.encode("idna")  # connecting would do this too, with a less helpful error
        except (httpx.InvalidURL, UnicodeError) as error:
            # The error may quote part of a password.
            raise NoUrl(text, None if "@" in text else str(error).rstrip(".")) from None
        if url.scheme not in ("http", "https") or not url.host:
            raise NoUrl(text)
        if url.port is not None and not 0 < url.port < 65536:
            raise NoUrl(text, f"{url.port} is not a port")
        if "top_k" in url.params:  # each call has its own
            raise NoUrl(text, "use --top-k to choose how many classes, not the URL")
        found = OURS.search(url.path)
        named = (found["v1"] or found["v2"]) if found else None
        path = url.path[: found.start()] if found else url.path.rstrip("/")
        return cls(url.copy_with(path=path or "/", fragment=None), named or model, named is not None)

    @property
    def models(self) -> httpx.URL:
        """Where a server of KServe's protocol lists its models."""
        return self.at(MODELS_ROUTE)

    def at(self, route: str) -> httpx.URL:
        """The URL of one of the protocol's paths."""
        return self.server.copy_with(path=self.server.path.rstrip("/") + route)

    def __str__(self) -> str:
        """For messages: without the password and the query, which may be secret."""
        return str(self.server.copy_with(userinfo=None, query=None)).rstrip("/")
