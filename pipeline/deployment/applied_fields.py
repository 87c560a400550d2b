"""The part of an object that one manager applied, according to `metadata.managedFields`: enough to restore it.

https://kubernetes.io/docs/reference/using-api/server-side-apply/ ; the format (`f:` a field, `k:` an item by its keys,
`v:` an item by its value, `i:` an item by its place, `.` the thing itself) is
that of sigs.k8s.io/structured-merge-diff.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pipeline.deployment.objects import Object


def applied_by(manager: str, live: Object) -> Object | None:
    """The object as this manager last applied it; None if it has not applied anything."""
    entry = _entry(manager, live)
    if entry is None:
        return None
    own: Object = {"apiVersion": live["apiVersion"], "kind": live["kind"]}
    own |= _picked(live, entry["fieldsV1"])
    metadata = own.setdefault("metadata", {})
    metadata |= {key: live["metadata"][key] for key in ("name", "namespace") if key in live["metadata"]}
    return own


def applied_at(manager: str, live: Object) -> datetime | None:
    """When this manager last applied a change, to the second; None if unknown."""
    entry = _entry(manager, live)
    return datetime.fromisoformat(entry["time"]) if entry and "time" in entry else None


def _entry(manager: str, live: Object) -> Object | None:
    for entry in live["metadata"].get("managedFields", []):
        if (entry.get("manager"), entry.get("operation")) == (manager, "Apply") and not entry.get("subresource"):
            found: Object = entry
            return found
    return None


def _picked(value: Any, fields: dict[str, Any]) -> Any:
    if not fields:  # all of it, whatever it is
        return value
    if isinstance(value, dict):
        names = {key.removeprefix("f:"): inner for key, inner in fields.items() if key.startswith("f:")}
        return {name: _picked(value[name], inner) for name, inner in names.items() if name in value}
    if isinstance(value, list):
        return [_picked(item, fields[key]) for item, key in _items(value, fields)]
    return value


def _items(value: list[Any], fields: dict[str, Any]) -> list[tuple[Any, str]]:
    """The items that the fields name, in the list's order, each with its name."""
    found = []
    for place, item in enumerate(value):
        for key in fields:
            sort, _, what = key.partition(":")
            if sort == "k" and isinstance(item, dict):
                keys = json.loads(what)
                hit = all(item.get(name) == wanted for name, wanted in keys.items())
            elif sort == "v":
                hit = json.loads(what) == item
            else:
                hit = sort == "i" and int(what) == place
            if hit:
                found.append((item, key))
    return found
