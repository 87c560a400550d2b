"""The list of the serving image's components and their known vulnerabilities, as CycloneDX 1.6.

Specification: https://cyclonedx.org/docs/1.6/json. Every run gives the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.supply.advisories import Advisory
from pipeline.supply.components import Component
from pipeline.supply.statements import Statement, about

JAVA = "pkg:maven/"


def text(version: str, components: list[Component], advisories: list[Advisory], statements: list[Statement]) -> str:
    """version: the image's."""
    image = {
        "type": "container",
        "bom-ref": "image",
        "name": "alexnet-torchserve",
        "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": image},
        "components": [_component(each) for each in components],
        "dependencies": [{"ref": "image", "dependsOn": sorted({_reference(each) for each in components})}],
        "vulnerabilities": list(_vulnerabilities(components, advisories, statements)),
    }
    return json.dumps(bom, indent=2) + "\n"


def differences(there: Path, expected: str) -> list[str]:
    """One line for each difference between an existing list and the expected one."""
    try:
        found = json.loads(there.read_bytes())
    except (OSError, ValueError) as error:
        return [f"{there.name} cannot be read: {error}"]
    wanted = json.loads(expected)
    if found == wanted:
        return []
    lines = []
    for part in ("components", "vulnerabilities"):
        has, should = (_by_reference(bom, part) for bom in (found, wanted))
        lines += [f"{there.name}: {name} is missing" for name in sorted(should.keys() - has.keys())]
        lines += [f"{there.name}: {name} is not in the image" for name in sorted(has.keys() - should.keys())]
        lines += [
            f"{there.name}: {name} differs" for name in sorted(has.keys() & should.keys()) if has[name] != should[name]
        ]
    return lines or [f"{there.name}: its metadata differ"]


def _by_reference(bom: Any, part: str) -> dict[str, Any]:
    entries = bom.get(part, []) if isinstance(bom, dict) else []
    return {str(each.get("bom-ref")): each for each in entries if isinstance(each, dict)}


def _reference(component: Component) -> str:
    """Unique: some libraries are in the jar twice, in two versions or two places."""
    return f"{component.purl}#{component.where}" if component.purl.startswith(JAVA) else component.purl


def _component(component: Component) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": component.kind, "bom-ref": _reference(component)}
    if component.purl.startswith(JAVA):
        entry["group"], entry["name"] = component.name.split(":")
    else:
        entry["name"] = component.name.removeprefix("pypi:")
    if component.version:
        entry["version"] = component.version
    properties = [{"name": "alexnet:where", "value": component.where}]
    if component.sha256:
        properties.append({"name": "alexnet:fingerprint", "value": f"sha256:{component.sha256}"})
    if component.behind:
        properties.append({"name": "alexnet:behind", "value": f"Java finds the classes of {component.behind} first"})
    return entry | {"purl": component.purl, "properties": properties}


def _vulnerabilities(
    components: Iterable[Component], advisories: list[Advisory], statements: list[Statement]
) -> Iterable[dict[str, Any]]:
    listed = list(components)
    affected: dict[tuple[str, str], list[str]] = {}
    for advisory in advisories:
        for component in listed:
            if advisory.affects(component):
                affected.setdefault((advisory.library, advisory.id), []).append(_reference(component))
    said = {(each.library, each.id): each.what for each in advisories}
    for (library, name), references in sorted(affected.items()):
        statement = about(library, [name], statements)
        analysis: dict[str, Any] = {"state": "exploitable"}
        if statement:
            analysis = {
                "state": statement.state,
                "detail": f"{statement.because} Held by {', '.join(statement.tests)}.",
            }
            if statement.justification:
                analysis["justification"] = statement.justification
        yield {
            "bom-ref": f"{name} {library}",
            "id": name,
            "source": {"name": "CVE", "url": f"https://www.cve.org/CVERecord?id={name}"},
            "description": said[library, name],
            "analysis": analysis,
            "affects": [{"ref": reference} for reference in sorted(set(references))],
        }
