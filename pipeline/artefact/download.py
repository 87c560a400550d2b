"""Downloads published weights into a cache."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from pipeline.artefact.model import Published
from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import DownloadFailed, DownloadUnderWay, ProxyUnusable, naming, told
from pipeline.shared.http import http_client
from pipeline.shared.progress import Progress

CHUNK_BYTES = 1024 * 1024
TIMEOUT = httpx.Timeout(30, connect=10)  # seconds for each step of a download


def downloaded(published: Published, progress: Progress, cache: Path | None = None) -> Path:
    """Published weights in the cache, downloaded first if they are missing or damaged.

    Raises WeightsUnavailable if they cannot be downloaded, are not what was published, or cannot be stored.
    """
    url = published.url
    file = (cache or cache_directory()) / url.rsplit("/", 1)[1]
    try:
        if file.is_file() and sha256_of(file).startswith(published.sha256):
            return file
        file.parent.mkdir(parents=True, exist_ok=True)
        with http_client(TIMEOUT) as client, naming(file), _part_file(file) as part:
            _download(client, url, part, progress)
            if not sha256_of(Path(part.name)).startswith(published.sha256):
                raise DownloadFailed(url, file, "it did not send the published file; a proxy may have changed it")
            os.replace(part.name, file)
    except httpx.HTTPStatusError as error:
        raise DownloadFailed(url, file, f"the server answered {error.response.status_code}") from None
    except (httpx.HTTPError, ProxyUnusable) as error:
        raise DownloadFailed(url, file, str(error) or type(error).__name__) from None
    except OSError as error:
        raise DownloadFailed(url, file, told(error)) from None
    return file


def cache_directory() -> Path:
    """torch.hub's cache, which other tools share; see torch.hub.get_dir."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    torch_home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(torch_home).expanduser() / "hub" / "checkpoints"


@contextmanager
def _part_file(file: Path) -> Iterator[IO[bytes]]:
    """A file next to `file` to download into, for one process at a time; removed afterwards in any case."""
    with open(file.with_name(file.name + ".part"), "ab") as part:  # "wb" would empty it before the lock is held
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadUnderWay(file) from None
        if not _has_its_name(part):  # another process renamed it before it released the lock: it is the weights now
            raise DownloadUnderWay(file)
        part.seek(0)
        part.truncate()
        try:
            yield part
        finally:
            if _has_its_name(part):
                os.unlink(part.name)


def _has_its_name(opened: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), os.stat(opened.name))
    except FileNotFoundError:
        return False


def _download(client: httpx.Client, url: str, part: IO[bytes], progress: Progress) -> None:
    with client.stream("GET", url, follow_redirects=True) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0))
        so_far = 0
        for chunk in response.iter_bytes(CHUNK_BYTES):
            part.write(chunk)
            so_far += len(chunk)
            progress(so_far, total)
    part.flush()
