"""The measurements, in a folder for each processor: results/PROCESSOR/."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.limit import usable_cores
from benchmarks.measurement import machine
from benchmarks.places import RESULTS
from benchmarks.processors import folder_of

# All measurements, and the figures that follow from them; then the files of the other commands.
MEASUREMENTS, SUMMARY = "measurements.json", "summary.json"
DOOR, PROTOCOLS, OPEN, ISA = "door.json", "protocols.json", "open.json", "isa.json"
PROFILE, BEFORE = "profile.json", "profile-before.json"  # the second: from before the first improvements
MISSED = "missed.yaml"  # a target's name → why it is missed; written by hand


@dataclass(frozen=True)
class Records:
    """One processor's records."""

    folder: Path

    def read(self, name: str) -> dict[str, Any] | None:
        """None if it has not been measured."""
        file = self.folder / name
        return json.loads(file.read_text()) if file.is_file() else None

    def write(self, name: str, content: dict[str, Any]) -> None:
        """The previous file stays until this one is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{name}"
        part.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(part, self.folder / name)

    def reasons(self) -> dict[str, str]:
        """Target → why it is missed, if known."""
        file = self.folder / MISSED
        return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def targets(self) -> list[dict[str, Any]]:
        """The targets that were measured, for the whole server and for int8 in-process."""
        summary, isa = self.read(SUMMARY) or {}, self.read(ISA) or {}
        return [*summary.get("targets", []), *isa.get("goals", [])]

    @property
    def machine(self) -> dict[str, Any]:
        """The machine, from the first record that has it."""
        found = (json.loads(file.read_text()).get("machine") for file in sorted(self.folder.glob("*.json")))
        machine: dict[str, Any] = next(each for each in found if each)
        return machine


def here(results: Path = RESULTS) -> Records:
    """The records of this machine's processor."""
    return Records(folder_of(machine(usable_cores()), results))


def every(results: Path = RESULTS) -> list[Records]:
    """The records of all processors with measurements."""
    return [Records(folder) for folder in sorted(results.iterdir()) if folder.is_dir() and any(folder.glob("*.json"))]
