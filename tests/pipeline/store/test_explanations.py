"""What Cloud Storage, the network and the credentials refuse: one line each, with the remedy."""

from __future__ import annotations

import pytest
import requests
from google.api_core import exceptions as api
from google.auth.exceptions import RefreshError, TransportError
from urllib3 import HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, SSLError

from pipeline.shared.errors import PipelineError
from pipeline.store.explanations import READER, WRITER, explained
from pipeline.store.storage_uri import StorageUri

URI = StorageUri("models", "alexnet")


def explanation(error: Exception, role: str = READER) -> str:
    with pytest.raises(PipelineError) as refused, explained(URI, role):
        raise error
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            api.NotFound("No such object: models/x"),
            "something beneath gs://models/alexnet was changed meanwhile (404 No",
        ),
        (api.Forbidden("x does not have storage.objects.get access"), "permission storage.objects.get is missing on "),
        (
            api.Forbidden("Project 1 has exceeded its quota"),
            "gs://models: too many requests, or a full quota (403 Project",
        ),
        (api.TooManyRequests("Slow\ndown"), "gs://models: too many requests, or a full quota (429 Slow): "),
        (api.ServiceUnavailable("Backend Error"), "Cloud Storage keeps answering 503: "),
        (api.Unauthorized("Invalid Credentials"), "gs://models is not public, and there are no Google Cloud"),
        (api.Forbidden("The billing account is disabled"), "gs://models: Cloud Storage refuses (403): 403 The"),
        (api.BadRequest("Bad\nRequest"), "gs://models: Cloud Storage refuses (400): 400 Bad"),
        (RefreshError("invalid_grant: Bad Request"), "the Google Cloud credentials are not accepted (invalid_grant: "),
        (TransportError(requests.ConnectionError("no route")), "Cloud Storage cannot be reached (no route): "),
        (requests.ReadTimeout("slow"), "Cloud Storage cannot be reached (slow): "),
    ],
)
def test_errors_are_told_with_their_remedy_also_after_retries(error: Exception, told: str) -> None:
    assert explanation(error).startswith(told)
    assert explanation(api.RetryError("Timeout of 120.0s exceeded", error)) == explanation(error)


def test_a_host_is_no_permission() -> None:
    """Where the API is not enabled, Cloud Storage names the page that enables it."""
    said = "Cloud Storage JSON API has not been used: visit console.developers.google.com/apis/storage.googleapis.com"
    assert explanation(api.Forbidden(said)).endswith(said)


def test_of_a_network_what_it_said_itself_is_told() -> None:
    """requests and urllib3 wrap that, and name objects in memory."""
    pool = HTTPSConnectionPool("storage.googleapis.com")
    silent = ConnectTimeoutError(pool, "Connection to storage.googleapis.com timed out. (connect timeout=5)")
    sentence = explanation(requests.ConnectTimeout(MaxRetryError(pool, "/storage/v1/b", silent)))
    assert sentence == (
        "Cloud Storage cannot be reached (Connection to storage.googleapis.com timed out. (connect timeout=5)): "
        "check the network, HTTPS_PROXY and NO_PROXY"
    )


def test_a_certificate_of_an_own_authority_is_told_with_what_to_set() -> None:
    pool = HTTPSConnectionPool("storage.googleapis.com")
    unknown = SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")
    sentence = explanation(requests.exceptions.SSLError(MaxRetryError(pool, "/storage/v1/b", unknown)))
    assert sentence.endswith("check the network, REQUESTS_CA_BUNDLE")


def test_the_role_is_the_one_that_the_caller_needs() -> None:
    denied = api.Forbidden("x does not have storage.objects.create access")
    assert explanation(denied, READER).endswith("ask its owner for the role roles/storage.objectViewer")
    assert explanation(denied, WRITER).endswith("ask its owner for the role roles/storage.objectUser")


def test_other_errors_are_not_touched() -> None:
    with pytest.raises(ZeroDivisionError), explained(URI, READER):
        raise ZeroDivisionError
