"""What an upload has sent is counted around whatever transport a session has."""

from __future__ import annotations

import io
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from pipeline.store.upload_meter import UploadMeter

Told = list[tuple[int, int]]


class Transport(BaseAdapter):
    """Takes what it is sent in blocks; `status` is what it answers, or None where the connection breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []
        self.status: int | None = 200

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        body = request.body
        self.taken.append(b"".join(iter(lambda: body.read(4), b"")) if isinstance(body, io.IOBase) else body)
        if self.status is None:
            raise requests.ConnectionError
        answer = requests.Response()
        answer.status_code = self.status
        return answer

    def close(self) -> None:
        pass


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def session(transport: Transport, told: Told) -> requests.Session:
    """One whose own transport, such as one with a client certificate, stays in use."""
    made = requests.Session()
    made.mount("https://", transport)
    UploadMeter(10, lambda *so_far: told.append(so_far)).watch(made)
    return made


def test_every_block_is_told(session: requests.Session, transport: Transport, told: Told) -> None:
    session.post("https://x", data=b"0123456789")
    assert transport.taken == [b"0123456789"]
    assert told == [(4, 10), (8, 10), (10, 10), (10, 10)]


def test_no_more_is_told_than_there_is(session: requests.Session, told: Told) -> None:
    """Requests have headers of their own around a part."""
    session.post("https://x", data=b"0123456789 and more")
    assert told[-1] == (10, 10)


@pytest.mark.parametrize("status", [None, 503])
def test_what_has_to_be_sent_again_does_not_count(
    session: requests.Session, transport: Transport, told: Told, status: int | None
) -> None:
    transport.status = status
    try:
        session.post("https://x", data=b"012345678")
    except requests.ConnectionError:
        assert status is None
    assert told[-1] == (0, 10)
    transport.status = 200
    session.post("https://x", data=b"0123456789")
    assert told[-1] == (10, 10)


def test_what_has_no_body_passes(session: requests.Session, transport: Transport, told: Told) -> None:
    session.get("https://x")
    assert (transport.taken, told) == ([None], [])
