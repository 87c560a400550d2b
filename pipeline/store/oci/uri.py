"""oci:// URIs, and which of them are well formed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.shared.errors import MalformedUri, PipelineError
from pipeline.shared.text import without_secrets

SCHEME = "oci://"

# In KServe, the scheme says how a version gets into the pod; all of them name the same place.
SCHEMES = re.compile(r"oci(\+fetch|\+native)?://")

# https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

# Without a dot or a port, KServe's library takes the first part for a folder of Docker Hub.
LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
REGISTRY = re.compile(rf"(?=[^/]*[.:]){LABEL}(\.{LABEL})*(:(?P<port>[0-9]{{1,5}}))?")
HIGHEST_PORT = 65535

LONGEST_NAME = 255  # of registry and repository together, for container runtimes


@dataclass(frozen=True)
class OciUri:
    """`oci://REGISTRY/REPOSITORY[:TAG][@DIGEST]`; tag and digest are empty if missing."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> OciUri:
        """Raises PipelineError if it is malformed. KServe's oci+fetch:// and oci+native:// are oci://."""
        scheme = SCHEMES.match(text)
        if scheme is None:
            raise PipelineError(f"{text!r} is not in a registry: expected oci://REGISTRY/REPOSITORY")
        if "@" in text[scheme.end() :].partition("/")[0]:
            raise MalformedUri(without_secrets(text), "it must not contain credentials: use docker login")
        rest, at, digest = text[scheme.end() :].removesuffix("/").partition("@")
        if at and not DIGEST.fullmatch(digest):
            raise MalformedUri(text, f"{digest!r} is not a digest: expected sha256: and 64 hexadecimal digits")
        registry, _, path = rest.partition("/")
        repository, colon, tag = path.partition(":")
        is_registry = REGISTRY.fullmatch(registry)
        if not is_registry or not 0 < int(is_registry["port"] or 443) <= HIGHEST_PORT:
            raise MalformedUri(
                text,
                f"{registry!r} cannot be a registry: expected HOST with a dot, or HOST:PORT, in lower case, such as "
                "europe-west1-docker.pkg.dev",
            )
        if not REPOSITORY.fullmatch(repository) or len(registry) + len(repository) >= LONGEST_NAME:
            raise MalformedUri(
                text,
                f"{repository!r} cannot be a repository: use lower-case letters, digits, single . _ - between them, "
                f"and / between its parts, {LONGEST_NAME} characters at most",
            )
        if colon and not TAG.fullmatch(tag):
            raise MalformedUri(text, f"{tag!r} cannot be a tag")
        return cls(registry, repository, tag, digest)

    @property
    def parent(self) -> OciUri:
        """The repository without tag or digest."""
        return OciUri(self.registry, self.repository)

    @property
    def host(self) -> str:
        return self.registry.partition(":")[0]

    @property
    def reference(self) -> str:
        """What a registry looks it up by."""
        return self.digest or self.tag

    def at(self, tag: str, digest: str = "") -> OciUri:
        return OciUri(self.registry, self.repository, tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{SCHEME}{self.registry}/{self.repository}{tag}{digest}"
