"""oci:// URIs: well-formed ones are parsed and printed without loss, others are refused with a reason."""

from __future__ import annotations

import pytest

from pipeline.shared.errors import PipelineError
from pipeline.store.oci.uri import OciUri
from pipeline.store.places import is_place, parse_place

DIGEST = f"sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("oci://a.example/b", OciUri("a.example", "b")),
        ("oci://a.example/b/", OciUri("a.example", "b")),
        ("oci://127.0.0.1:5000/a/b-c/d__e:0123456789ab", OciUri("127.0.0.1:5000", "a/b-c/d__e", "0123456789ab")),
        (f"oci://a.example/b@{DIGEST}", OciUri("a.example", "b", "", DIGEST)),
        (f"oci://a.example/b:c@{DIGEST}", OciUri("a.example", "b", "c", DIGEST)),
        ("oci://localhost:5000/a", OciUri("localhost:5000", "a")),
    ],
)
def test_what_is_well_formed_is_read_without_loss(text: str, uri: OciUri) -> None:
    assert OciUri.parse(text) == uri
    assert str(uri) == text.removesuffix("/")


@pytest.mark.parametrize("scheme", ["oci+fetch://", "oci+native://"])
def test_how_kserve_brings_it_into_the_pod_is_not_where_it_lies(scheme: str) -> None:
    assert parse_place(f"{scheme}a.example/b:c") == OciUri("a.example", "b", "c")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("oci://", "'' cannot be a registry"),
        ("oci://b/c", "'b' cannot be a registry"),  # KServe's library takes it for a folder of Docker Hub
        ("oci://A.example/c", "'A.example' cannot be a registry"),
        ("oci://a..example/c", "'a..example' cannot be a registry"),
        ("oci://a.example:65536/c", "'a.example:65536' cannot be a registry"),
        ("oci://a.example:0/c", "'a.example:0' cannot be a registry"),
        ("oci://[::1]:5000/c", "'[::1]:5000' cannot be a registry"),
        ("oci://a.example", "'' cannot be a repository"),
        ("oci://a.example/B", "'B' cannot be a repository"),
        ("oci://a.example/b//c", "'b//c' cannot be a repository"),
        ("oci://a.example/../c", "'../c' cannot be a repository"),
        ("oci://a.example/b?x", "'b?x' cannot be a repository"),
        (f"oci://a.example/{'b' * 250}", "cannot be a repository"),
        ("oci://a.example/b:", "'' cannot be a tag"),
        ("oci://a.example/b:c/d", "'c/d' cannot be a tag"),
        ("oci://a.example/b:\x1b", "'\\x1b' cannot be a tag"),
        ("oci://a.example/b@sha256:0a", "'sha256:0a' is not a digest"),
        ("oci://a.example/b@", "'' is not a digest"),
        ("oci+modelcar://a.example/b", "is neither in Cloud Storage nor in a registry"),
        ("oci:/a.example/b", "is neither in Cloud Storage nor in a registry"),
        ("s3://a/b", "is neither in Cloud Storage nor in a registry"),
    ],
)
def test_malformed_uris_are_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(PipelineError) as refused:
        parse_place(text)
    assert str(refused.value).startswith(repr(text))
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(PipelineError) as refused:
        parse_place("oci://me:secret@a.example/c")  # pragma: allowlist secret
    assert "it must not contain credentials" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_name_in_another_form_is_none() -> None:
    assert is_place("gs://b/c")
    assert is_place("oci://b/c")
    assert not is_place("oci")
    assert not is_place("127.0.0.1:5000/b")
