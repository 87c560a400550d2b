"""What the API server would refuse in a custom object, according to its CustomResourceDefinition's schema.

Like the API server with `fieldValidation: Strict`: a field that the schema does not list is an error. So is a schema
keyword that this module does not know, rather than a silently skipped check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
IGNORED = {
    "default",
    "description",
    "example",
    "format",  # int32 and int64, date-time: nothing here gets near their bounds
    "title",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",  # CEL: not evaluated
}
KNOWN = {
    "additionalProperties",
    "allOf",  # only for int-or-string types
    "anyOf",  # likewise
    "enum",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
}


STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
        "namespace": {"type": "string"},
        "labels": STRINGS,
        "annotations": STRINGS,
    },
}


def errors(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Sentences that begin with the path of what is wrong. Raises NotImplementedError for an unknown keyword."""
    unknown = schema.keys() - KNOWN - IGNORED
    if unknown:
        raise NotImplementedError(f"{path}: the schema has {', '.join(sorted(unknown))}")
    if value is None and schema.get("nullable"):
        return
    if not _has_type(value, schema):
        wanted = "int or string" if schema.get("x-kubernetes-int-or-string") else schema.get("type")
        yield f"{path}: {value!r} is not of type {wanted}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {', '.join(map(repr, schema['enum']))}"
    if isinstance(value, dict):
        yield from _object_errors(value, schema, path)
    elif isinstance(value, list):
        yield from _size_errors(len(value), schema, "Items", path)
        for index, item in enumerate(value):
            yield from errors(item, schema["items"], f"{path}[{index}]")
    elif isinstance(value, str):
        yield from _size_errors(len(value), schema, "Length", path)
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: {value!r} does not match {schema['pattern']}"
    elif not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: {value} is out of bounds"


def object_errors(object_: dict[str, Any], schema: Schema) -> Iterator[str]:
    """Checks a whole object: a CRD's schema leaves metadata to the API server."""
    yield from errors(object_, schema | {"properties": schema["properties"] | {"metadata": METADATA}}, object_["kind"])


def _has_type(value: Any, schema: Schema) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, int | str) and not isinstance(value, bool)
    if "type" not in schema:
        return True
    return isinstance(value, TYPES[schema["type"]]) and isinstance(value, bool) == (schema["type"] == "boolean")


def _object_errors(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    yield from _size_errors(len(value), schema, "Properties", path)
    fields, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}: {name} is missing"
    for name, child in value.items():
        if name in fields:
            yield from errors(child, fields[name], f"{path}.{name}")
        elif isinstance(others, dict):
            yield from errors(child, others, f"{path}.{name}")
        elif not others and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}: {name} is not a field"


def _size_errors(size: int, schema: Schema, what: str, path: str) -> Iterator[str]:
    if size < schema.get(f"min{what}", size) or size > schema.get(f"max{what}", size):
        yield f"{path}: has {size} {what.lower()}"
