"""Pictures in Cloud Storage."""

from __future__ import annotations

from itertools import islice

from google.api_core.exceptions import NotFound, RequestRangeNotSatisfiable
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from pipeline.serving.picture_files import is_picture
from pipeline.shared.errors import NoPictures, NotClassified
from pipeline.store.bucket import blobs_under
from pipeline.store.explanations import READER, explained
from pipeline.store.storage_uri import SCHEME, StorageUri

MOST_LISTED = 100_000  # objects that are looked at; listing so many takes a minute


def pictures_under(client: storage.Client, uri: StorageUri, most: int) -> list[str]:
    """The pictures beneath a URI, the first so many, as gs://BUCKET/NAME in order.

    Raises NoPictures, or what makes the bucket unreadable: PipelineError.
    """
    with explained(uri, READER):
        blobs = islice(blobs_under(client, uri), MOST_LISTED)
        names = [blob.name for blob in blobs if is_picture(blob.name.rpartition("/")[2])][:most]
    if not names:
        raise NoPictures(uri)
    return [f"{SCHEME}{uri.bucket}/{name}" for name in names]


def read_object(client: storage.Client, image: str, most: int) -> bytes:
    """The first bytes of an object, `most` and one at most, so that the caller sees what is larger.

    image: gs://BUCKET/NAME, whose name may have any character. Raises NotClassified, or what makes the whole bucket
    unreadable: PipelineError.
    """
    bucket, _, name = image[len(SCHEME) :].partition("/")
    uri = StorageUri.parse(SCHEME + bucket)
    if not name:
        raise NotClassified(image, "it names no object: expected gs://BUCKET/NAME")
    with explained(uri, READER):
        try:
            blob = client.bucket(bucket).blob(name)
            # As it was stored: what is unpacked on its way has no bound.
            content = blob.download_as_bytes(
                end=most, raw_download=True, timeout=(5, 20), retry=DEFAULT_RETRY.with_timeout(20)
            )
            return bytes(content)
        except NotFound:
            raise NotClassified(image, "there is no such object") from None
        except RequestRangeNotSatisfiable:  # of an empty one
            return b""
