"""KServe's own client understands the service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from server.health import LIVE_WITHIN_S, READY_WITHIN_S
from tests.kserve.status.told import NAME, Ask, ToldModel

kserve = pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")
URL = "http://status"

LOADING, FINE, SILENT, DEAD = None, 0, READY_WITHIN_S + 1, LIVE_WITHIN_S + 1
UNAVAILABLE = 503  # raised by the client


def asked(path: Path, protocol: str, question: str) -> bool | int:
    """The client's answer to `is_server_live`, …; or the status that it raises."""

    async def ask() -> bool:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol=protocol, transport=transport))
        arguments = (URL, NAME) if question == "is_model_ready" else (URL,)
        try:
            return bool(await getattr(client, question)(*arguments))
        finally:
            await client.close()

    try:
        return asyncio.run(ask())
    except httpx.HTTPStatusError as error:
        assert error.response.json().keys() == {"error"}
        return error.response.status_code


@pytest.mark.parametrize(
    ("protocol", "question", "loading", "fine", "silent", "dead"),
    [
        ("v1", "is_server_live", True, True, True, False),
        ("v1", "is_model_ready", False, True, False, False),
        ("v2", "is_server_live", True, True, True, UNAVAILABLE),
        ("v2", "is_server_ready", UNAVAILABLE, True, UNAVAILABLE, UNAVAILABLE),
        ("v2", "is_model_ready", False, True, False, False),
    ],
)
def test_it_is_told_the_truth(
    status_socket: Path,
    model: ToldModel,
    protocol: str,
    question: str,
    loading: bool | int,
    fine: bool,
    silent: bool | int,
    dead: bool | int,
) -> None:
    told = []
    for silent_s in (LOADING, FINE, SILENT, DEAD):
        model.silent_s = silent_s
        told.append(asked(status_socket, protocol, question))
    assert told == [loading, fine, silent, dead]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v2", "ServerMetadataResponse"),
        ("/v2/health/live", "ServerLiveResponse"),
        ("/v2/health/ready", "ServerReadyResponse"),
        ("/v2/models/alexnet", "ModelMetadataResponse"),
        ("/v2/models/alexnet/ready", "ModelReadyResponse"),
    ],
)
def test_kserves_own_types_hold_all_that_is_said(ask: Ask, path: str, kind: str) -> None:
    types = pytest.importorskip("kserve.protocol.rest.v2_datamodels")
    said = json.loads(ask(path).content)
    assert getattr(types, kind).model_validate(said).model_dump() == said
