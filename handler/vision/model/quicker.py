"""Chooses the quicker of two networks for a server: the first worker measures, and all others follow it.

So all workers of a server use the same network, whatever the load was when each started.
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

CHOSEN = "precision.json"  # in the unpacked archive; worker/integrity.py allows it
MOST_CHARACTERS = 10_000  # usually two hundred
RUNS = 2  # the shortest counts
# How much quicker the other must be: if both were nearly equal, pods would choose at random.
MARGIN = 1.1
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")  # they limit the instructions used


@dataclass(frozen=True)
class Measured:
    """Seconds of processor time per image, in the usual network and in the other one."""

    usual: float
    other: float

    @property
    def other_is_quicker(self) -> bool:
        return self.other * MARGIN <= self.usual


def measured(
    folder: Path, networks: str, usual: Callable[[], object], other: Callable[[], object], images: int
) -> Measured | None:
    """None if nothing can be written or locked there: workers might then disagree.

    folder: the unpacked archive, which all workers of a server share. networks: a name for the two networks.
    usual, other: compute the same batch of `images` images.
    """
    here = _here(networks)
    with suppress(OSError), alone(folder):
        if (found := _read(folder / CHOSEN, here)) is not None:
            return found
        # In turn, so that whatever slows one down also slows the other.
        pairs = [(_seconds(usual), _seconds(other)) for _ in range(RUNS)]
        found = Measured(*(min(each) / images for each in zip(*pairs)))
        part = folder / f".{CHOSEN}"
        part.write_text(json.dumps({"here": here, **asdict(found)}), encoding="utf-8")
        os.replace(part, folder / CHOSEN)
        return found
    return None


def _here(networks: str) -> str:
    """A digest of everything that the result depends on."""
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
    """CPU time of this thread."""
    began = time.thread_time()
    compute()
    return time.thread_time() - began
