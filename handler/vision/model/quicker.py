"""Which of two networks a server computes with, by measurement: the first worker measures, and all others do as it did.

So one server answers with one of them, whatever the load was when a worker started.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

import torch

from vision.model.alone import alone
from vision.model.devices import CPU_INFO

CHOSEN = "precision.json"  # beside the unpacked archive; worker/integrity.py lets it be there
MOST_CHARACTERS = 10_000  # of two hundred
RUNS = 2  # of which the shortest counts
# So much quicker must the other be: of two that are as good as equal, pods would take now the one, now the other.
MARGIN = 1.1
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")  # of the instructions that are used


@dataclass(frozen=True)
class Measured:
    """Seconds of processor time that an image took: in the network that is usual, and in the other one."""

    usual: float
    other: float

    @property
    def other_is_quicker(self) -> bool:
        return self.other * MARGIN <= self.usual


def measured(
    folder: Path, networks: str, usual: Callable[[], object], other: Callable[[], object], images: int
) -> Measured | None:
    """None where nothing can be written down, or locked: workers might differ.

    folder: of the unpacked archive, which all workers of a server share. networks: which two they are, in a word.
    usual, other: compute the same batch of so many images.
    """
    here = _here(networks)
    with suppress(OSError), alone(folder):
        if (found := _read(folder / CHOSEN, here)) is not None:
            return found
        # In turn: what slows the one down slows down the other.
        pairs = [(_seconds(usual), _seconds(other)) for _ in range(RUNS)]
        found = Measured(*(min(each) / images for each in zip(*pairs)))
        part = folder / f".{CHOSEN}"
        part.write_text(json.dumps({"here": here, **asdict(found)}), encoding="utf-8")
        os.replace(part, folder / CHOSEN)
        return found
    return None


def _here(networks: str) -> str:
    """A digest of all that the result hangs on."""
    with suppress(OSError):
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
        processor = sorted({line for line in lines if line.startswith(("model name", "flags"))})
        limits = [os.environ.get(name, "") for name in LIMITS]
        return hashlib.sha256(repr((networks, torch.__version__, processor, limits)).encode()).hexdigest()
    return "unknown"


def _read(file: Path, here: str) -> Measured | None:
    try:
        said = json.loads(file.read_text(encoding="utf-8")[:MOST_CHARACTERS])
        return Measured(float(said["usual"]), float(said["other"])) if said["here"] == here else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _seconds(compute: Callable[[], object]) -> float:
    """Of this thread, without the time in which others had the processor."""
    began = time.thread_time()
    compute()
    return time.thread_time() - began
