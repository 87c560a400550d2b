"""An explanation's class and form, in v1: accepted in the parameters, refused everywhere else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.rows import row
from vision.errors import RequestError
from vision.protocol import protocols
from vision.protocol.request import Verb, Wish
from vision.worker.settings import Limits

ONE = {"instances": [{"b64": "QUJD"}]}


def refusal(document: Any, limits: Limits, explain: bool = True) -> str:
    with pytest.raises(RequestError) as caught:
        protocols.parse(row(document, "v1", explain), limits)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "top_k", "wish"),
    [
        (None, 5, Wish(None, "overlay")),
        ({}, 5, Wish(None, "overlay")),
        ({"top_k": 2}, 2, Wish(None, "overlay")),
        ({"class": 0}, 5, Wish(0, "overlay")),
        ({"class": 999, "form": "grid", "top_k": 1}, 1, Wish(999, "grid")),
        ({"form": "grey"}, 5, Wish(None, "grey")),
    ],
)
@pytest.mark.parametrize("protocol", ["v1", None])
def test_it_is_among_the_parameters(
    parameters: Any, top_k: int, wish: Wish, protocol: str | None, limits: Limits
) -> None:
    request = protocols.parse(row({**ONE, "parameters": parameters}, protocol, explain=True), limits)
    assert (request.verb, request.top_k, request.wish) == (Verb.EXPLAIN, top_k, wish)


def test_an_image_itself_is_explained_as_it_is_by_default(limits: Limits) -> None:
    request = protocols.parse(row(b"\xff\xd8\xff", "v1", explain=True, x_client_top_k="3"), limits)
    assert (request.verb, request.top_k, request.wish) == (Verb.EXPLAIN, 3, Wish())


@pytest.mark.parametrize("index", [-1, 1000, True, "281", 1.0, None, [281], 10**400])
def test_any_other_class_is_refused(index: Any, limits: Limits) -> None:
    said = refusal({**ONE, "parameters": {"class": index}}, limits)
    assert said == "parameters.class: expected an index from 0 to 999"


@pytest.mark.parametrize("form", ["jpeg", "", None, 5, ["grid"], {}])
def test_any_other_form_is_refused(form: Any, limits: Limits) -> None:
    said = refusal({**ONE, "parameters": {"form": form}}, limits)
    assert said == "parameters.form: expected one of overlay, grid, grey"


@pytest.mark.parametrize("name", ["class", "form"])
def test_elsewhere_it_is_told_where_it_belongs(name: str, limits: Limits) -> None:
    for elsewhere in ({**ONE, name: 5}, {"instances": [*ONE["instances"], {"b64": "QUJD", name: 5}]}):
        said = refusal(elsewhere, limits)
        assert said == f'{name}: belongs in parameters: "parameters": {{"class": 281, "form": "overlay"}}'
    said = refusal({**ONE, "parameters": {name: 5}}, limits, explain=False)
    assert said.startswith("parameters: only top_k is accepted: ")


def test_nothing_else_is_taken(limits: Limits) -> None:
    said = refusal({**ONE, "parameters": {"class": 5, "method": "occlusion"}}, limits)
    assert said.startswith("parameters: only top_k, class and form are accepted: ")
