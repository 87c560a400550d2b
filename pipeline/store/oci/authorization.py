"""Credentials for a registry: exchanged for a token, or sent with every call, as the registry asks.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import json
import re

import httpx

from pipeline.store.oci.docker_config import Credentials, credentials_for
from pipeline.store.oci.refusals import refusal, strange
from pipeline.store.oci.uri import OciUri

PARAMETER = re.compile(r'(\w+)="([^"]*)"')
MOST_TOKEN_BYTES = 100_000


class Authorization:
    """`header` is sent with each call. `user`: whose credentials were sent; None if there are none."""

    def __init__(self, uri: OciUri, http: httpx.Client) -> None:
        self.header: dict[str, str] = {}
        self.user: str | None = None
        self._uri = uri
        self._http = http
        self._credentials: Credentials | None = None
        self._asked = False

    def renewed(self, response: httpx.Response) -> bool:
        """Called with a 401 response: whether to try once more, with a new header.

        Raises PipelineError if the stored credentials cannot be used, or the server is not a registry.
        """
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        if not self._asked:  # a helper may take a second
            self._asked = True
            self._credentials = credentials_for(self._uri.registry)
            self.user = self._credentials.user if self._credentials else None
        before = self.header
        if scheme.lower() == "basic":
            self.header = self._basic()
        elif scheme.lower() == "bearer":  # another scheme may follow: of each parameter, the first one counts
            self.header = {"Authorization": f"Bearer {self._token(dict(reversed(PARAMETER.findall(rest))))}"}
        return self.header != before

    def _basic(self) -> dict[str, str]:
        if self._credentials is None:
            return {}
        encoded = base64.b64encode(":".join(self._credentials).encode()).decode()
        return {"Authorization": f"Basic {encoded}"}

    def _token(self, challenge: dict[str, str]) -> str:
        asked: dict[str, str] = {name: challenge[name] for name in ("service", "scope") if name in challenge}
        try:
            realm = httpx.URL(challenge.get("realm", ""))
        except httpx.InvalidURL:
            realm = httpx.URL("")
        if realm.scheme not in ("http", "https") or not realm.host:
            raise strange(self._uri, "it does not say where to get a token")
        with self._http.stream("GET", realm.copy_merge_params(asked), headers=self._basic()) as response:
            answer = next(response.iter_raw(MOST_TOKEN_BYTES), b"")
        if not response.is_success:
            raise refusal(self._uri, response.status_code, answer, False, self.user)
        try:
            content = json.loads(answer)
            token = content.get("token") or content["access_token"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise strange(self._uri, "its token is not valid")
        return token
