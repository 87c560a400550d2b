"""Downloads a published version, checks it, and keeps it in a cache.

KServe's own storage initializer downloads from Cloud Storage, pipeline/store/oci/fetching.py from a registry.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.artefact.version import VERSION_FILE, Version
from pipeline.shared.errors import PipelineError, naming
from pipeline.shared.progress import Progress
from pipeline.store.bucket import connect
from pipeline.store.explanations import READER, explained
from pipeline.store.oci.fetching import fetch
from pipeline.store.oci.layout import artefact_of
from pipeline.store.oci.reading import read_artefact, version_tag
from pipeline.store.oci.registry import Registry
from pipeline.store.oci.uri import OciUri
from pipeline.store.places import Place
from pipeline.store.registry import read_version, version_name
from pipeline.store.storage_uri import StorageUri

WATCH_S = 0.1


def pull_version(uri: Place, cache: Path, progress: Progress, note: Callable[[str], None]) -> Path:
    """A storageUri → the folder in the cache that holds its version, laid out as KServe's /mnt/models.

    An undamaged copy in the cache is used without any request. `progress` is called with the bytes so far and the
    total, from another thread; `note` with a sentence for the user.
    Raises PipelineError if there is no such version, or the download is not what was published.
    """
    directory = cache / (version_tag(uri) if isinstance(uri, OciUri) else version_name(uri))
    with _locked(directory, note):
        damage = _damage(directory) or _another(directory, uri)
        if damage and os.path.lexists(directory):
            note(f"The copy in {directory} is damaged ({damage}): it is downloaded again.")
        if damage:
            _replace(directory, uri, progress)
    return directory


def cache_directory() -> Path:
    """Raises PipelineError if the user has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torchserve-alexnet"
    except RuntimeError:
        raise PipelineError("this user has no home to cache in: set XDG_CACHE_HOME to a folder") from None


@contextmanager
def _locked(directory: Path, note: Callable[[str], None]) -> Iterator[None]:
    """One process at a time: the next one finds what this one has downloaded."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = directory.with_name(f".{directory.name}.lock").open("w")
    except OSError as error:
        raise PipelineError(
            f"the cache {directory.parent} cannot be used ({error.strerror}): "
            "set XDG_CACHE_HOME to a folder that you may write to"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"Another process is at work on {directory}: waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _damage(directory: Path) -> str | None:
    """What is wrong with a folder of the cache; None if it is the version in its name."""
    file = directory / VERSION_FILE
    try:
        version = Version.from_json(file.read_bytes(), str(file))
    except FileNotFoundError:
        return f"{VERSION_FILE} is missing"
    except OSError as error:
        return f"{VERSION_FILE} cannot be read ({error.strerror})"
    except PipelineError:
        return f"{VERSION_FILE} is not what was published"
    return version.damage_in(directory) if version.name == directory.name else f"{VERSION_FILE} is of another version"


def _another(directory: Path, uri: Place) -> str | None:
    """How an undamaged folder of the cache differs from the digest in a URI; None if it does not, or there is none.

    The name in the cache is only the first 48 bits of a hash: whoever makes two versions can make their names equal.
    """
    if not isinstance(uri, OciUri) or not uri.digest:
        return None
    version = Version.from_json((directory / VERSION_FILE).read_bytes(), VERSION_FILE)
    artefact = artefact_of(version, {name: directory / name for name in version.objects})
    return None if artefact.digest == uri.digest else "its digest is not the one in the URI"


def _replace(directory: Path, uri: Place, progress: Progress) -> None:
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
    try:
        version = _download(uri, part, progress)
        if damage := version.damage_in(part):
            raise PipelineError(f"what arrived from {uri} is damaged ({damage}): publish it again")
        if directory.is_symlink() or directory.is_file():
            directory.unlink()
        shutil.rmtree(directory, ignore_errors=True)
        part.rename(directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _download(uri: Place, part: Path, progress: Progress) -> Version:
    """Downloads a version's files into `part`, and returns the version."""
    if isinstance(uri, OciUri):
        with Registry(uri) as registry:
            artefact = read_artefact(registry, uri)
            with naming(part), _watched(part, artefact.version.size, progress):
                fetch(registry, artefact, part)
        return artefact.version
    version = read_version(connect(), uri)
    with naming(part), _watched(part, version.size, progress):
        _download_as_kserve_does(uri, part)
    return version


def _download_as_kserve_does(uri: StorageUri, directory: Path) -> None:
    """What the init container of an InferenceService does with storageUri."""
    from kserve_storage import Storage

    logging.getLogger("storage.initializer").setLevel(logging.CRITICAL)  # the exception has the error
    with explained(uri, READER), _any_project():
        try:
            Storage.download(str(uri), str(directory))
        except RuntimeError as error:  # caused by an error of Google's libraries, which says more
            raise error.__cause__ or PipelineError(f"{uri}: {error}") from None


@contextmanager
def _any_project() -> Iterator[None]:
    """KServe's client requires a project, but does not use it; a laptop's credentials may have none."""
    if "GOOGLE_CLOUD_PROJECT" in os.environ:
        yield
        return
    os.environ["GOOGLE_CLOUD_PROJECT"] = "none"
    try:
        yield
    finally:
        del os.environ["GOOGLE_CLOUD_PROJECT"]


@contextmanager
def _watched(directory: Path, total: int, progress: Progress) -> Iterator[None]:
    """Reports how many bytes are in the folder, as KServe's downloader does not report progress."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_S):
            progress(min(total, sum(_size(file) for file in directory.rglob("*"))), total)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0
