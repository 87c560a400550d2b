"""Server-side apply as in an API server: who owns which fields, what an apply removes, and how it merges.

Lists whose items have names are merged by name; others are a single value.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from pipeline.deployment.objects import Object

Path = tuple[str, ...]


def fields_of(thing: Object) -> Object:
    """The fieldsV1 of an applied object."""
    content = {key: value for key, value in thing.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    metadata = {key: thing["metadata"][key] for key in ("labels", "annotations") if thing["metadata"].get(key)}
    return _fields(content | ({"metadata": metadata} if metadata else {}))


def conflicting(live: Object, thing: Object, entry: Object) -> list[Path]:
    """Which fields of this value would change something owned by the manager of this managedFields entry."""
    owned = set(_leaves(entry["fieldsV1"]))
    return [path for path in _leaves(fields_of(thing)) if path in owned and _at(live, path) != _at(thing, path)]


def take_away(stored: Object, before: Object, now: Object, others: list[Object]) -> None:
    """Fields that were applied, no longer are, and belong to nobody else. All but `stored` are fieldsV1."""
    kept = set(_leaves(now)).union(*map(_leaves, others))
    for path in _leaves(before):
        holder = _at(stored, path[:-1])
        if path not in kept and isinstance(holder, dict):
            holder.pop(path[-1], None)


def merge(stored: Any, new: Any) -> None:
    for name, value in new.items():
        old = stored.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            merge(old, value)
        elif isinstance(value, list) and isinstance(old, list) and _have_names(value):
            for item in value:
                same = next((found for found in old if found.get("name") == item["name"]), None)
                if same is None:
                    old.append(copy.deepcopy(item))
                else:
                    merge(same, item)
        else:
            stored[name] = copy.deepcopy(value)


def _fields(value: Any) -> Object:
    if isinstance(value, dict):
        return {f"f:{name}": _fields(inner) for name, inner in value.items()}
    if isinstance(value, list) and value and _have_names(value):
        return {f"k:{json.dumps({'name': item['name']})}": {".": {}} | _fields(item) for item in value}
    return {}


def _have_names(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and "name" in item for item in items)


def _leaves(fields: Object, path: Path = ()) -> Iterator[Path]:
    for key, inner in fields.items():
        if key != ".":
            name = key.removeprefix("f:")
            yield from _leaves(inner, (*path, name)) if inner else [(*path, name)]


def _at(value: Any, path: Path) -> Any:
    for name in path:
        if name.startswith("k:"):
            keys = json.loads(name.removeprefix("k:"))
            value = next((item for item in value or [] if keys.items() <= item.items()), {})
        else:
            value = (value or {}).get(name)
    return value
