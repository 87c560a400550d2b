"""gs:// URIs: which are well formed, and what lies beneath them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.shared.errors import MalformedUri, PipelineError

SCHEME = "gs://"

# https://cloud.google.com/storage/docs/buckets#naming
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")

# What gcloud and gsutil take for wildcards and generations cannot be typed back, and the rest ends lines or folders.
UNFIT = re.compile(r"[\s#?*\[\]{}\\]|[^\x20-\x7e]")

LONGEST_PATH = 800  # names have 1024 bytes at most, those beneath take some: https://cloud.google.com/storage/quotas


@dataclass(frozen=True)
class StorageUri:
    """`gs://BUCKET/PATH`; the path has no slash at its ends, and may be empty."""

    bucket: str
    path: str

    @classmethod
    def parse(cls, text: str) -> StorageUri:
        """Raises PipelineError that says what is wrong with it. A trailing slash makes no difference."""
        if not text.startswith(SCHEME):
            raise PipelineError(f"{text!r} is not in Cloud Storage: expected gs://BUCKET or gs://BUCKET/PREFIX")
        bucket, _, path = text.removeprefix(SCHEME).partition("/")
        if not BUCKET.fullmatch(bucket) or any(len(part) > 63 for part in bucket.split(".")):
            raise MalformedUri(
                text,
                f"{bucket!r} cannot be the name of a bucket (3 to 63 of a-z 0-9 . _ -, a letter or digit at both "
                "ends): terraform -chdir=terraform/cluster output shows the one that Terraform made",
            )
        for part in path.removesuffix("/").split("/") if path else []:
            if part in ("", ".", "..") or UNFIT.search(part):
                raise MalformedUri(text, f"{part!r} cannot be a part of a prefix: use letters, digits and . _ - =")
        if len(path) > LONGEST_PATH:
            raise MalformedUri(text, f"names in Cloud Storage are bounded, use {LONGEST_PATH} characters at most")
        return cls(bucket, path.removesuffix("/"))

    @property
    def parent(self) -> StorageUri:
        return StorageUri(self.bucket, self.path.rpartition("/")[0])

    def __truediv__(self, name: str) -> StorageUri:
        return StorageUri(self.bucket, f"{self.path}/{name}" if self.path else name)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.path}".removesuffix("/")
