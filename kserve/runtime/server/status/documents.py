"""The API's documentation: openapi.yaml, filled in, and as a page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from server.door import MAX_REQUEST_BYTES
from server.model import QUESTION

FOLDER = Path(__file__).parent
DOCUMENT, PAGE, STYLE = (FOLDER / name for name in ("openapi.yaml", "docs.html", "docs.css"))
CODE = re.compile(r"`([^`]+)`")


class Documents:
    """Made on first use, and then kept."""

    def __init__(self, name: str, version: str, limits: Mapping[str, int], v1_alone: bool = False) -> None:
        """limits: of a request, by their names in model-config.yaml; missing ones are not stated.

        v1_alone: whether the archive supports neither v2 nor explanations.
        """
        self._name, self._version, self._limits, self.v1_alone = name, version, limits, v1_alone

    @cached_property
    def openapi(self) -> bytes:
        """OpenAPI 3.1, as JSON."""
        return json.dumps(self._document, ensure_ascii=False).encode()

    @cached_property
    def page(self) -> bytes:
        """Self-contained HTML."""
        values = {"style": Markup(self._style), "resolve": self._resolve, "kind": _kind}  # noqa: S704  # our own file  # nosec B704
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.filters |= {"prose": _prose, "plain": _plain, "pretty": _pretty}
        return environment.from_string(PAGE.read_text()).render(self._document, **values).encode()

    @property
    def page_policy(self) -> str:
        """The page's Content-Security-Policy: its own style, and nothing else."""
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        return (
            f"default-src 'none'; style-src 'sha256-{digest}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    @cached_property
    def _style(self) -> str:
        return STYLE.read_text()

    @cached_property
    def _document(self) -> dict[str, Any]:
        environment = jinja2.Environment(  # noqa: S701  # YAML, not HTML; what is filled in goes through tojson  # nosec B701
            trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        environment.filters["size"] = _size
        text = environment.from_string(DOCUMENT.read_text()).render(
            name=self._name,
            version=self._version,
            limits=self._limits,
            v1_alone=self.v1_alone,
            max_request_bytes=MAX_REQUEST_BYTES,
            question=json.loads(QUESTION),
        )
        document: dict[str, Any] = yaml.safe_load(text)
        return document

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        """The target of a {"$ref": "#/…"}; any other node unchanged."""
        if "$ref" not in node:
            return node
        found: dict[str, Any] = self._document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found


def _size(count: int) -> str:
    """16777216 → 16 MiB."""
    mebibytes, rest = divmod(count, 1024 * 1024)
    return f"{count:,} bytes" if rest else f"{mebibytes} MiB"


def _prose(text: str) -> Markup:
    """Text with `code` → HTML."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped just before  # nosec B704


def _plain(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pretty(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words: "list of Instance, 1 to 64"."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(map(json.dumps, schema["enum"]))
    types = schema.get("type", "anything")
    words = types if isinstance(types, str) else " or ".join(types)
    if types == "array":
        words = f"list of {_kind(schema['items'])}"
    least, most = (
        next((schema[key] for key in keys if key in schema), None)
        for keys in (("minItems", "minimum"), ("maxItems", "maximum"))
    )
    if least is not None and most is not None:
        return f"{words}, {least} to {most}"
    return words if least is None else f"{words}, at least {least}"
