"""The part of an object that one manager applied, according to the API server."""

from __future__ import annotations

from typing import Any

from pipeline.deployment.applied_fields import applied_by
from pipeline.deployment.objects import Object

LIVE: Object = {
    "apiVersion": "v1",
    "kind": "Thing",
    "metadata": {
        "name": "a",
        "namespace": "b",
        "uid": "1",
        "labels": {"mine": "1", "theirs": "2"},
        "finalizers": ["mine/f", "theirs/f"],
    },
    "spec": {
        "mine": 1,
        "theirs": 2,
        "empty": {"theirs": 1},
        "whole": {"any": ["thing"]},
        "ports": [{"port": 80, "protocol": "TCP", "name": "theirs"}, {"port": 81, "protocol": "TCP", "name": "mine"}],
        "places": ["a", "b"],
    },
    "status": {"ready": True},
}
FIELDS: Object = {
    "f:metadata": {"f:labels": {"f:mine": {}}, "f:finalizers": {".": {}, 'v:"mine/f"': {}}},
    "f:spec": {
        "f:mine": {},
        "f:empty": {".": {}},
        "f:whole": {},
        "f:gone": {},
        "f:ports": {'k:{"port":81,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:protocol": {}, "f:name": {}}},
        "f:places": {"i:1": {}},
    },
}


def managed(**entry: Any) -> Object:
    entries = [{"manager": "me", "operation": "Apply", "fieldsV1": FIELDS} | entry]
    return LIVE | {"metadata": LIVE["metadata"] | {"managedFields": entries}}


def test_it_has_only_the_fields_of_that_manager() -> None:
    assert applied_by("me", managed()) == {
        "apiVersion": "v1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "b", "labels": {"mine": "1"}, "finalizers": ["mine/f"]},
        "spec": {
            "mine": 1,
            "empty": {},
            "whole": {"any": ["thing"]},
            "ports": [{"port": 81, "protocol": "TCP", "name": "mine"}],
            "places": ["b"],
        },
    }


def test_other_managers_updates_and_statuses_do_not_count() -> None:
    assert applied_by("me", LIVE) is None
    assert applied_by("me", managed(manager="you")) is None
    assert applied_by("me", managed(operation="Update")) is None
    assert applied_by("me", managed(subresource="status")) is None
