"""gs:// URIs: what is well formed is read and printed without loss, and what is not is refused with its reason."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shared.errors import PipelineError
from pipeline.store.storage_uri import StorageUri


def refusal(text: str) -> str:
    with pytest.raises(PipelineError) as refused:
        StorageUri.parse(text)
    sentence = str(refused.value)
    assert repr(text) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("text", "bucket", "path"),
    [
        ("gs://models", "models", ""),
        ("gs://models/", "models", ""),
        ("gs://models/alexnet", "models", "alexnet"),
        ("gs://models/alexnet/", "models", "alexnet"),
        ("gs://models/a/b=1/c_d-e.f", "models", "a/b=1/c_d-e.f"),
        ("gs://models.example.com/alexnet", "models.example.com", "alexnet"),
        ("gs://123/...", "123", "..."),
    ],
)
def test_bucket_and_path_are_told_apart(text: str, bucket: str, path: str) -> None:
    uri = StorageUri.parse(text)
    assert (uri.bucket, uri.path) == (bucket, path)
    assert str(uri) == text.removesuffix("/")


def test_names_are_put_beneath_it_with_and_without_a_prefix() -> None:
    assert str(StorageUri.parse("gs://models") / "a" / "b") == "gs://models/a/b"
    assert str(StorageUri.parse("gs://models/alexnet/") / "a") == "gs://models/alexnet/a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models",
        "/models/alexnet",
        "s3://models",
        "https://storage.googleapis.com/models",
        "GS://models",
        "gs:/models",
    ],
)
def test_other_schemes_are_refused_with_the_right_one(text: str) -> None:
    assert refusal(text).endswith("expected gs://BUCKET or gs://BUCKET/PREFIX")


@pytest.mark.parametrize("bucket", ["abc", "a" * 63, "1.2_3-4", f"{'a' * 63}.{'b' * 63}"])
def test_names_of_buckets_are_taken_as_cloud_storage_takes_them(bucket: str) -> None:
    assert StorageUri.parse(f"gs://{bucket}/x").bucket == bucket


@pytest.mark.parametrize(
    "bucket",
    [
        "",
        "ab",
        "Models",
        "models_",
        "-models",
        "mo dels",
        "modèles",
        "a" * 64,
        f"{'a' * 64}.b",
        "models\n",
        "a@b",
        ".com",
    ],
)
def test_what_cannot_be_the_name_of_a_bucket_is_refused(bucket: str) -> None:
    for text in (f"gs://{bucket}", f"gs://{bucket}/alexnet"):
        assert "cannot be the name of a bucket" in refusal(text)


@pytest.mark.parametrize(
    "part", ["", ".", "..", "a b", "a\tb", "a\n", "\x7f", "*", "a?", "a#1", "[a]", "a\\b", "é", "\u202e", "\ud800"]
)
def test_what_cannot_be_a_part_of_a_prefix_is_refused(part: str) -> None:
    for text in (f"gs://models/{part}/b", f"gs://models/a/{part}/b", f"gs://models/a/{part}/", f"gs://models/{part}/"):
        assert "cannot be a part of a prefix" in refusal(text)


letters = st.text(string.ascii_lowercase + string.digits + "._-=/?* \nÄ", max_size=12)


@given(st.one_of(st.text(), st.builds("gs://{}/{}".format, letters, letters)))
def test_whatever_is_taken_prints_as_what_is_taken_for_the_same(text: str) -> None:
    try:
        uri = StorageUri.parse(text)
    except PipelineError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert StorageUri.parse(str(uri)) == uri
    assert str(uri) == text.removesuffix("/")
