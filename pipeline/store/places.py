"""Where a version may be: in Cloud Storage or in a registry."""

from __future__ import annotations

from pipeline.shared.errors import PipelineError
from pipeline.store.oci.uri import SCHEMES, OciUri
from pipeline.store.storage_uri import SCHEME, StorageUri

Place = StorageUri | OciUri


def parse_place(text: str) -> Place:
    """Raises PipelineError if it is malformed."""
    if is_in_registry(text):
        return OciUri.parse(text)
    if text.startswith(SCHEME):
        return StorageUri.parse(text)
    raise PipelineError(
        f"{text!r} is neither in Cloud Storage nor in a registry: expected gs://BUCKET/PREFIX or "
        "oci://REGISTRY/REPOSITORY"
    )


def is_place(text: str) -> bool:
    """Whether this names a place, well formed or not."""
    return text.startswith(SCHEME) or is_in_registry(text)


def is_in_registry(text: str) -> bool:
    return SCHEMES.match(text) is not None
