"""The Java libraries in TorchServe's jar, by their files.

The jar contains some eighty libraries, without the pom.properties by which scanners recognise them. jar.json says which
files belong to which library, its version, and the evidence for that: one of the library's own files, or the build
that put it there. A fingerprint of its files pins each library.

    python -m pipeline.supply.jar    updates the fingerprints, for another release of TorchServe
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.supply.outcome import Undone

DATA = Path(__file__).with_name("jar.json")
FRONTEND = "ts/frontend/model-server.jar"


@dataclass(frozen=True)
class Library:
    """name: Maven's group and artifact. version: None if nothing reveals it (not to a scanner either).

    inside: prefixes of its files' paths in the jar; if two libraries match, the longer prefix wins.
    told_by: a file in the jar, and the text in it with the version. source: where the version is from otherwise.
    sha256: of its files.
    """

    name: str
    version: str | None
    inside: tuple[str, ...]
    told_by: tuple[str, str] | None
    source: str | None
    sha256: str

    @property
    def where(self) -> str:
        return self.inside[0].rstrip("/")


def frontend() -> Path:
    """The jar that is installed here. Raises Undone if there is none."""
    try:
        jar = Path(str(metadata.distribution("torchserve").locate_file(FRONTEND)))
    except metadata.PackageNotFoundError:
        raise Undone("torchserve is not installed: run make setup") from None
    if not jar.is_file():
        raise Undone(f"there is no {jar}: run make setup")
    return jar


def libraries(data: Path = DATA) -> list[Library]:
    """Raises Undone if the file is malformed."""
    try:
        return [_library(entry) for entry in json.loads(data.read_bytes())["libraries"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Undone(f"{data.name} cannot be read: {error!r}") from None


def _library(entry: dict[str, Any]) -> Library:
    told_by = entry.get("told_by")
    return Library(
        entry["name"],
        entry["version"],
        tuple(entry["inside"]),
        (told_by["file"], told_by["text"]) if told_by else None,
        entry.get("source"),
        entry["sha256"],
    )


def differences(jar: Path, known: list[Library]) -> Iterator[str]:
    """One line for each file in the jar that is unexpected, missing or changed.

    Raises Undone if it is not a jar.
    """
    try:
        with zipfile.ZipFile(jar) as opened:
            yield from _differences(opened, known)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Undone(f"{jar.name} cannot be read: {error}") from None


def _differences(jar: zipfile.ZipFile, known: list[Library]) -> Iterator[str]:
    names = jar.namelist()
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        yield f"{twice}: appears twice in the jar"
    found, strange = _fingerprints(jar, known)
    for name in strange:
        yield f"{name}: belongs to no library in jar.json"
    for library, sha256 in zip(known, found, strict=True):
        if sha256 != library.sha256:
            yield f"{library.name} {library.version or ''}: its files in {library.where} have changed"
        if library.told_by:
            file, text = library.told_by
            if file not in names or text.encode() not in jar.read(file):
                yield f"{library.name}: {file} does not contain {text}"


def _fingerprints(jar: zipfile.ZipFile, known: list[Library]) -> tuple[list[str], list[str]]:
    """For each library, the SHA-256 of its files' names and contents; and the files that belong to no library."""
    digests = [hashlib.sha256() for _ in known]
    beginnings = sorted(
        ((beginning, index) for index, library in enumerate(known) for beginning in library.inside),
        key=lambda pair: len(pair[0]),
        reverse=True,
    )
    strange = []
    for name in sorted({name for name in jar.namelist() if not name.endswith("/")}):
        index = next((index for beginning, index in beginnings if name.startswith(beginning)), None)
        if index is None:
            strange.append(name)
        else:
            digests[index].update(f"{name}\n{hashlib.sha256(jar.read(name)).hexdigest()}\n".encode())
    return [digest.hexdigest() for digest in digests], strange


def main() -> None:
    """Writes the fingerprints of the installed jar into jar.json."""
    data = json.loads(DATA.read_bytes())
    with zipfile.ZipFile(frontend()) as jar:
        found, strange = _fingerprints(jar, libraries())
    for entry, sha256 in zip(data["libraries"], found, strict=True):
        entry["sha256"] = sha256
    DATA.write_text(json.dumps(data, indent=2) + "\n")
    for name in strange:
        print(f"{name}: belongs to no library", file=sys.stderr)


if __name__ == "__main__":
    main()
