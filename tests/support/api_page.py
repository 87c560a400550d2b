"""docs/api.md's tables, from the OpenAPI description: `python -m tests.support.api_page` writes them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.artefact.model import MODEL_NAME

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "api.md"
METHODS = {"get", "post"}


def description() -> dict[str, Any]:
    """The document that a server of this checkout's settings hands out, but for its version."""
    from server.status.documents import Documents

    limits = yaml.safe_load((CHECKOUT / "handler" / "model-config.yaml").read_text())["handler"]["limits"]
    document: dict[str, Any] = json.loads(Documents(MODEL_NAME, "0123456789ab", limits).openapi)
    return document


def page(text: str, document: dict[str, Any]) -> str:
    """The page with its tables written anew."""
    for name, table in (("paths", _paths(document)), ("statuses", _statuses(document))):
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    return text


def _paths(document: dict[str, Any]) -> str:
    rows = [
        (f"`{method.upper()} {path}`", operation["summary"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    ]
    return _table(("request", "what it does"), rows)


def _statuses(document: dict[str, Any]) -> str:
    rows = []
    for status, response in document["components"]["responses"].items():
        example = json.dumps(response["content"]["application/json"]["example"], ensure_ascii=False)
        also = "".join(f"; the header `{name}`" for name in response.get("headers", {}))
        rows.append((status, response["description"] + also, f"`{example}`"))
    return _table(("status", "when", "for example"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    sys.path.append(str(CHECKOUT / "kserve" / "runtime"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), description()), encoding="utf-8")
