"""The golden set: pictures that a new version has to answer as the live one does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.serving.comparing import Picture
from pipeline.serving.picture_files import picture_files, read
from pipeline.shared.errors import PipelineError
from pipeline.store.storage_uri import SCHEME, StorageUri

# They are kept in memory, and each is sent four times, through the API server.
MOST_PICTURES = 1000
MOST_BYTES_OF_ONE = 10 * 1024 * 1024  # handler/model-config.yaml, max_image_bytes
MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Golden:
    """place: where they are from, for messages. required: see `Comparison.shortfall`."""

    place: str
    pictures: list[Picture]
    required: float | None


def read_golden(place: str, required: float | None) -> Golden:
    """place: a folder, or gs://BUCKET/PREFIX. Raises PipelineError: there are none, too many, or one is unreadable."""
    return Golden(
        place, _bounded(place, _in_bucket(place) if place.startswith(SCHEME) else _in_folder(place)), required
    )


def _in_folder(place: str) -> Iterable[Picture]:
    files = picture_files([place])
    _check_count(place, len(files))
    return read(files)


def _in_bucket(place: str) -> Iterable[Picture]:
    from pipeline.store.bucket import connect  # Google's libraries take 0.2 s
    from pipeline.store.pictures import pictures_under, read_object

    client, uri = connect(), StorageUri.parse(place)
    names = pictures_under(client, uri, MOST_PICTURES + 1)
    _check_count(place, len(names))
    for name in names:
        yield Picture(name, read_object(client, name, MOST_BYTES_OF_ONE))


def _check_count(place: str, count: int) -> None:
    if count > MOST_PICTURES:
        raise PipelineError(f"{place} has too many pictures: choose at most {MOST_PICTURES} of them")


def _bounded(place: str, pictures: Iterable[Picture]) -> list[Picture]:
    kept: list[Picture] = []
    size = 0
    for picture in pictures:
        if len(picture.content) > MOST_BYTES_OF_ONE:
            raise PipelineError(f"{picture.name} has more than {MOST_BYTES_OF_ONE} bytes, which the model refuses")
        size += len(picture.content)
        if size > MOST_BYTES:
            raise PipelineError(f"the pictures of {place} have more than {MOST_BYTES} bytes: choose fewer of them")
        kept.append(picture)
    return kept
