"""Pictures in Cloud Storage."""

from __future__ import annotations

from google.api_core.exceptions import NotFound, RequestRangeNotSatisfiable
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from pipeline.shared.errors import NotClassified
from pipeline.store.explanations import READER, explained
from pipeline.store.storage_uri import SCHEME, StorageUri


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
