"""What the front door tells the handler, and the other way round."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from ts.context import Context, RequestProcessor

from vision.worker.stages import Stages
from vision.worker.torchserve import Row, name_of_request

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"  # pragma: allowlist secret


def context(**headers: Any) -> Context:
    made = Context("alexnet", "/", {}, 1, None, "0.12.0")
    made.request_processor = [RequestProcessor({name.replace("_", "-"): value for name, value in headers.items()})]
    return made


def test_the_clients_own_content_type_goes_first() -> None:
    note = {"content-type": "application/octet-stream"}
    assert Row({}, context(x_client_content_type="image/png; a=b", body=note), 0).content_type == "image/png; a=b"
    assert Row({}, context(x_client_content_type="", body=note), 0).content_type == ""
    assert Row({}, context(body=note), 0).content_type == "application/octet-stream"
    assert Row({}, context(), 0).content_type == ""


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (
            {"x_request_id": "5747e1f7-801c", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
            f"5747e1f7-801c, trace {TRACE}",
        ),
        ({"x_request_id": "5747e1f7-801c"}, "5747e1f7-801c"),
        ({"x_request_id": "a" * 65}, None),
        ({"x_request_id": "forged\nline"}, None),
        ({"x_request_id": "5-\n"}, None),
        ({"x_request_id": "ok", "traceparent": f"00-{TRACE}-x"}, "ok"),
        ({"x_request_id": "ok", "traceparent": f"ff-{TRACE}-00f067aa0ba902b7-01"}, "ok"),
        ({"x_request_id": "ok", "traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, "ok"),
        ({"x_request_id": "ok", "traceparent": f"00-{TRACE}-{'0' * 16}-01"}, "ok"),
        ({}, None),
    ],
)
def test_a_request_has_a_name_in_the_log(headers: dict[str, str], name: str | None) -> None:
    assert name_of_request(context(**headers), 0) == (f"request {name}" if name else "a request")


def test_stages_are_told_in_milliseconds() -> None:
    stages = Stages(3)
    stages.end("decode")
    stages.end("forward")
    told = re.fullmatch(
        r"batch=3 queue=(\S+) decode=(\d+\.\d) forward=(\d+\.\d)", stages.header(f"t={time.time() - 2:.3f}")
    )
    assert told
    assert 1900 < float(told[1]) < 60_000
    assert all(float(spent) < 60_000 for spent in told.groups()[1:])


@pytest.mark.parametrize("start", [None, "", "t=", "t=x", "t=nan", "t=-inf", "t=99999999999.000", 5])
def test_a_start_that_makes_no_sense_is_no_wait(start: object) -> None:
    assert Stages(1).header(start).startswith("batch=1 queue=0.0")
