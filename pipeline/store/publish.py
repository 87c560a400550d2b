"""Publishes a version to Cloud Storage: in parts, never overwriting, resuming after an interruption."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud import storage

from pipeline.artefact.version import NAME, VERSION_FILE, Checksums, Version, crc32c_in_base64
from pipeline.shared.errors import ConflictingObject, PipelineError, StrayObject
from pipeline.shared.progress import Progress
from pipeline.store.bucket import CONNECTIONS, is_as_told, objects_under
from pipeline.store.explanations import GOOGLES, NETWORKS, WRITER, explained, explanation
from pipeline.store.registry import read_description
from pipeline.store.storage_uri import StorageUri
from pipeline.store.upload_meter import UploadMeter

PART_BYTES = 8 * 2**20  # the most that google-cloud-storage sends in one request
MOST_PARTS = 32  # of one object: https://cloud.google.com/storage/docs/composite-objects

# Parts are next to the versions, not in them, as KServe downloads everything in one. A lifecycle rule uses the suffix.
PARTS_FOLDER = ".uploads"
PART_SUFFIX = ".part"

NEW = 0  # the generation of an object that does not exist: https://cloud.google.com/storage/docs/request-preconditions


def publish_version(
    client: storage.Client,
    prefix: StorageUri,
    version: Version,
    files: Mapping[str, Path],
    progress: Progress,
    warn: Callable[[str], None],
) -> Outcome:
    """Sends the missing files of a version into a folder with its name under `prefix`.

    files: object names → the files that `version` describes.
    progress: called with the bytes sent so far and the number that were missing; from other threads.
    warn: called with a sentence if the version is complete, but something else went wrong.

    Raises PipelineError if Cloud Storage refuses, or has something else of the same name. Called again after an
    interruption, it resumes there.
    """
    if any(part == PARTS_FOLDER or NAME.fullmatch(part) for part in prefix.path.split("/")):
        raise PipelineError(f"{prefix} is a version, or is inside one, and versions never change: publish next to it")
    with explained(prefix, WRITER):
        return _Publishing(client, prefix, version, files, warn).run(progress)


@dataclass(frozen=True)
class Outcome:
    """`sent`: bytes of files. `new`: whether the version was not complete before."""

    uri: StorageUri
    sent: int
    new: bool


class _Publishing:
    def __init__(
        self,
        client: storage.Client,
        prefix: StorageUri,
        version: Version,
        files: Mapping[str, Path],
        warn: Callable[[str], None],
    ) -> None:
        self.uri = prefix / version.name
        self._client = client
        self._bucket = client.bucket(prefix.bucket)
        self._prefix = prefix
        self._version = version
        self._files = files
        self._warn = warn

    def run(self, progress: Progress) -> Outcome:
        there = objects_under(self._client, self.uri)
        self._check(there)
        missing = {name: sums for name, sums in self._version.objects.items() if name not in there}
        total = sum(checksums.size for checksums in missing.values())
        self._meter = UploadMeter(total, progress)
        self._meter.watch(self._client._http)
        for name, checksums in missing.items():
            if checksums.size > PART_BYTES:
                self._send_in_parts(name, checksums)
            else:
                self._send_whole(name, checksums)
        if VERSION_FILE not in there:
            self._complete()
        self._remove_parts()
        return Outcome(self.uri, total - self._meter.spared, new=VERSION_FILE not in there)

    def _check(self, there: Mapping[str, storage.Blob]) -> None:
        """Raises PipelineError if something is in the way, before anything is sent."""
        for name, blob in there.items():
            if name == VERSION_FILE:
                self._check_description(blob)
            elif name not in self._version.objects:
                raise StrayObject(self.uri / name)
            elif not is_as_told(blob, self._version.objects[name]):
                raise ConflictingObject(self.uri / name)

    def _check_description(self, blob: storage.Blob) -> None:
        with suppress(PipelineError):
            if read_description(blob, self.uri).objects == self._version.objects:
                return
        raise ConflictingObject(self.uri / VERSION_FILE)

    # --- Objects ------------------------------------------------------------------------------------------------------

    def _blob(self, uri: StorageUri) -> storage.Blob:
        return self._bucket.blob(uri.path)

    def _send_whole(self, name: str, checksums: Checksums) -> None:
        blob = self._blob(self.uri / name)
        content = self._files[name].read_bytes()
        self._place(
            name, checksums, blob, lambda: blob.upload_from_string(content, checksum="crc32c", if_generation_match=NEW)
        )

    def _send_in_parts(self, name: str, checksums: Checksums) -> None:
        """Parts that an earlier attempt or another publisher left are not sent again."""
        blob = self._blob(self.uri / name)
        blob.content_type = "application/octet-stream"
        folder = self._parts_folder(checksums)
        there = objects_under(self._client, folder)
        length = max(PART_BYTES, -(-checksums.size // MOST_PARTS))

        def part(offset: int) -> storage.Blob:
            part_name = f"{offset:012}-{length}{PART_SUFFIX}"
            content = os.pread(file.fileno(), length, offset)
            return self._send_part(folder / part_name, content, there.get(part_name))

        try:
            with open(self._files[name], "rb") as file, ThreadPoolExecutor(CONNECTIONS) as pool:
                parts = list(pool.map(part, range(0, checksums.size, length)))
            generations = [sent.generation for sent in parts]
            self._place(
                name,
                checksums,
                blob,
                lambda: blob.compose(parts, if_generation_match=NEW, if_source_generation_match=generations),
            )
        except NotFound:  # another publisher was faster, and has removed the parts
            try:
                blob.reload()
            except NotFound:
                raise PipelineError(f"a part of {self.uri / name} was removed meanwhile: run this again") from None
            if not is_as_told(blob, checksums):
                raise ConflictingObject(self.uri / name) from None

    def _send_part(self, uri: StorageUri, content: bytes, there: storage.Blob | None) -> storage.Blob:
        crc32c = crc32c_in_base64(google_crc32c.value(content))
        if there is not None and there.crc32c == crc32c:
            self._meter.spare(len(content))
            return there
        blob = self._blob(uri)
        blob.storage_class = "STANDARD"  # colder classes bill early deletion
        replaced = NEW if there is None else there.generation
        try:
            blob.upload_from_file(
                io.BytesIO(content), size=len(content), checksum="crc32c", if_generation_match=replaced
            )
        except PreconditionFailed:  # it came from another publisher, or in an attempt whose answer was lost
            blob.reload()
            if blob.crc32c != crc32c:
                raise
        return blob

    def _place(self, name: str, checksums: Checksums, blob: storage.Blob, make: Callable[[], None]) -> None:
        """Makes an object unless it exists, and checks that it is the right one."""
        try:
            make()
        except PreconditionFailed:  # as above
            blob.reload()
            if not is_as_told(blob, checksums):
                raise ConflictingObject(self.uri / name) from None
        if not is_as_told(blob, checksums):
            blob.delete(if_generation_match=blob.generation)
            raise PipelineError(f"{self._files[name]} changed while it was being published: run this again")

    def _complete(self) -> None:
        blob = self._blob(self.uri / VERSION_FILE)
        try:
            blob.upload_from_string(
                self._version.to_json(), content_type="application/json", checksum="crc32c", if_generation_match=NEW
            )
        except PreconditionFailed:
            blob.reload()
            self._check_description(blob)

    # --- Parts --------------------------------------------------------------------------------------------------------

    def _parts_folder(self, checksums: Checksums) -> StorageUri:
        return self._prefix / PARTS_FOLDER / checksums.sha256

    def _remove_parts(self) -> None:
        for checksums in self._version.objects.values():
            if checksums.size > PART_BYTES:
                folder = self._parts_folder(checksums)
                try:
                    with ThreadPoolExecutor(CONNECTIONS) as pool:
                        list(pool.map(_remove, objects_under(self._client, folder).values()))
                except (*GOOGLES, *NETWORKS) as error:
                    self._warn(
                        f"The version is complete, but its upload parts are still at {folder}: "
                        f"{explanation(error, folder, WRITER)}"
                    )


def _remove(part: storage.Blob) -> None:
    with suppress(NotFound):
        part.delete(if_generation_match=part.generation)
