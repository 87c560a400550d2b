"""Measures one architecture: packed with 1000 classes and with 5, unpacked as by TorchServe, started and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.classifiers.architectures import Architecture
from benchmarks.classifiers.packaging import FEW, MANY, PACKED
from benchmarks.measurement import machine
from benchmarks.places import CHECKOUT, PHOTOGRAPHS

WORKER = Path(__file__).with_name("worker.py")
PRECISIONS = ("float32", "bfloat16")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def here() -> dict[str, Any]:
    """What a figure depends on."""
    found = machine([])
    return {name: found[name] for name in ("processor", "torch")}


def measure(architecture: Architecture, say: Callable[[str], None]) -> dict[str, Any]:
    """Its row. If the network fails, `failed` has the reason; a full disk is an OSError."""
    row: dict[str, Any] = {"family": architecture.family, "date": time.strftime("%Y-%m-%d", time.gmtime())} | here()
    with tempfile.TemporaryDirectory(prefix="classifiers-") as made:
        folder = Path(made)
        try:
            say(f"{architecture.name}: packing")
            command = [sys.executable, "-P", "-m", "benchmarks.classifiers.packaging", architecture.name, made]
            row |= _json(command, folder / PACKED, {"PYTHONPATH": str(CHECKOUT)})
            for classes, precisions in ((MANY, PRECISIONS), (FEW, ("auto",))):
                unpacked = _unpacked(folder / f"{classes}.mar")
                for precision in precisions:
                    say(f"{architecture.name}: {classes} classes, {precision}")
                    proved = row[str(classes)].get(precision)
                    if proved is None or proved["passed"]:
                        row[str(classes)][f"served_{precision}"] = _served(unpacked, precision)
        except Failed as reason:
            row["failed"] = str(reason)
    return row


class Failed(Exception):
    """One of its processes ended with an error; the message is one line."""


def _unpacked(archive: Path) -> Path:
    folder = archive.with_suffix("")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    archive.unlink()
    return folder


def _served(unpacked: Path, precision: str) -> dict[str, Any]:
    output = unpacked.parent / "served.json"
    command = [sys.executable, "-P", str(WORKER), str(unpacked), precision, str(output)]
    return _json(command, output, {"PYTHONPATH": str(unpacked)}, "\n".join(map(str, PHOTOGRAPHS)))


def _json(command: list[str], output: Path, environment: dict[str, str], said: str = "") -> dict[str, Any]:
    """Runs a process, and returns the JSON that it writes to `output`."""
    done = subprocess.run(
        command, env=os.environ | ONE_THREAD | environment, input=said, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise Failed(last[:300] or f"ended with {done.returncode}")
    return dict(json.loads(output.read_text()))
