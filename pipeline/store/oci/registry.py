"""A registry: the calls of the distribution specification that are needed, each with its bounds.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import httpx

from pipeline.shared.errors import PipelineError
from pipeline.shared.http import http_client, is_loopback, trusted
from pipeline.store.oci.authorization import Authorization
from pipeline.store.oci.layout import INDEX_TYPE, MANIFEST_TYPE, Blob
from pipeline.store.oci.refusals import NETWORK, refusal, strange, unreachable
from pipeline.store.oci.uri import OciUri

TIMEOUT = httpx.Timeout(60, connect=10)  # seconds, for each step of a transfer
INSECURE = "KSERVE_OCI_INSECURE_REGISTRY"  # KServe's storage initializer reads the same variable
MOST_MANIFEST_BYTES = 4_000_000  # the most that registries accept
MOST_TAGS_BYTES = 4_000_000
MOST_PAGES = 100
MOST_ERROR_BYTES = 10_000
BLOCK_BYTES = 1024 * 1024

ACCEPTED = ", ".join([MANIFEST_TYPE, INDEX_TYPE])  # an index too, so that it is not reported as missing


class BlobMissing(PipelineError):
    def __init__(self, uri: OciUri, blob: Blob) -> None:
        super().__init__(f"{uri}: {blob.digest} is missing: publish the same archive again to restore it")


class BlobOfAnotherSize(PipelineError):
    pass


class Registry:
    """A repository in a registry. A context manager; every method raises PipelineError.

    Uses TLS, except on loopback or if KSERVE_OCI_INSECURE_REGISTRY is set. Credentials are docker's.
    """

    def __init__(self, uri: OciUri, for_writing: bool = False) -> None:
        self.uri = uri
        self._for_writing = for_writing
        on_loopback = is_loopback(uri.host)
        insecure = on_loopback or os.environ.get(INSECURE, "").lower() in ("1", "true", "yes")
        self._base = httpx.URL(f"{'http' if insecure else 'https'}://{uri.registry}")
        self._http = http_client(
            TIMEOUT,
            verify=trusted(),
            trust_env=not on_loopback,
            max_redirects=5,
            headers={"Accept-Encoding": "identity"},  # decompression would have no bound
            event_hooks={"request": [self._check_target]},
        )
        self._authorization = Authorization(uri, self._http)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    # --- Manifests ----------------------------------------------------------------------------------------------------

    def manifest(self, reference: str) -> bytes | None:
        """The manifest of a tag or a digest, or None if there is none."""
        with self._asked("GET", f"manifests/{reference}", {"Accept": ACCEPTED}) as response:
            if response.status_code == 404:
                return None
            self._check(response)
            return self._body(response, MOST_MANIFEST_BYTES, "manifest")

    def put_manifest(self, tag: str, content: bytes) -> None:
        headers = {"Content-Type": MANIFEST_TYPE, "Content-Length": str(len(content))}
        with self._asked("PUT", f"manifests/{tag}", headers, lambda: iter([content])) as done:
            self._check(done)

    def tags(self) -> list[str]:
        """All tags of the repository; empty if it does not exist."""
        found: list[str] = []
        target: httpx.URL | str = "tags/list?n=1000"
        for _ in range(MOST_PAGES):
            with self._asked("GET", target) as response:
                if response.status_code == 404:
                    return []
                self._check(response)
                content = self._body(response, MOST_TAGS_BYTES, "list of tags")
                found += _tags(content, self.uri)
                following = response.links.get("next", {}).get("url")
                if not following:
                    break
                target = self._own(response.url.join(following))
        return found

    # --- Blobs --------------------------------------------------------------------------------------------------------

    def has(self, blob: Blob) -> bool:
        with self._asked("HEAD", f"blobs/{blob.digest}") as response:
            if response.status_code == 404:
                return False
            self._check(response)
            return True

    @contextmanager
    def blob(self, blob: Blob) -> Iterator[Iterator[bytes]]:
        """Its content, in blocks. Raises PipelineError before it yields more than `blob.size` bytes."""
        with self._asked("GET", f"blobs/{blob.digest}") as response:
            if response.status_code == 404:
                raise BlobMissing(self.uri, blob)
            self._check(response)
            yield self._blocks(response, blob)

    def upload(self, blob: Blob, content: Callable[[], Iterator[bytes]]) -> None:
        """content: called for each attempt; it reports its own progress."""
        with self._asked("POST", "blobs/uploads/", {"Content-Length": "0"}) as response:
            self._check(response)
            location = response.headers.get("Location")
        if not location:
            raise strange(self.uri, "it does not say where to upload to")
        target = self._own(response.url.join(location)).copy_merge_params({"digest": blob.digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        with self._asked("PUT", target, headers, content) as done:
            self._check(done)

    # --- Calls --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _asked(
        self,
        method: str,
        target: httpx.URL | str,
        headers: dict[str, str] | None = None,
        content: Callable[[], Iterator[bytes]] | None = None,
    ) -> Iterator[httpx.Response]:
        """The response, with its body unread. Credentials are sent if the registry wants them."""
        url = self._base.join(f"/v2/{self.uri.repository}/{target}") if isinstance(target, str) else target
        try:
            for attempt in (1, 2):
                sent = (headers or {}) | self._authorization.header
                body = content() if content else None
                # Content on another server is fetched from there, without the credentials.
                with self._http.stream(
                    method, url, headers=sent, content=body, follow_redirects=method in ("GET", "HEAD")
                ) as response:
                    # Only the registry itself may say where its credentials go, not a server that it redirects to.
                    wanted = response.status_code == 401 and not response.history
                    if attempt == 1 and wanted and self._authorization.renewed(response):
                        continue
                    yield response
                return
        except NETWORK as error:
            raise unreachable(self.uri, error) from None

    def _own(self, url: httpx.URL) -> httpx.URL:
        """A URL that the registry gave. Credentials are sent to it, so it must be the registry's."""
        if (url.scheme, url.host, url.port) != (self._base.scheme, self._base.host, self._base.port):
            raise strange(self.uri, "it points to another server")
        return url

    def _check_target(self, request: httpx.Request) -> None:
        if self._base.scheme == "https" and request.url.scheme != "https":
            raise strange(self.uri, "it redirects from https to http")

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        body = next(response.iter_raw(MOST_ERROR_BYTES), b"")
        raise refusal(self.uri, response.status_code, body, self._for_writing, self._authorization.user)

    def _body(self, response: httpx.Response, most: int, what: str) -> bytes:
        body = bytearray()
        for block in response.iter_raw(BLOCK_BYTES):
            body += block
            if len(body) > most:
                raise PipelineError(f"{self.uri}: its {what} has more than {most} bytes, too many for a version")
        return bytes(body)

    def _blocks(self, response: httpx.Response, blob: Blob) -> Iterator[bytes]:
        size = 0
        for block in response.iter_raw(BLOCK_BYTES):
            size += len(block)
            if size > blob.size:
                break
            yield block
        if size != blob.size:
            what = "more" if size > blob.size else "fewer"
            raise BlobOfAnotherSize(
                f"{self.uri}: {blob.digest} has {what} bytes than its size, {blob.size}: publish it again"
            )


def _tags(content: bytes, uri: OciUri) -> list[str]:
    try:
        return [str(tag) for tag in json.loads(content)["tags"] or []]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise strange(uri, "its list of tags is not valid") from None
