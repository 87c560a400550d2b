"""Kinds of processors: how to tell them apart, where their results are, and which Google Cloud machines have them.

A virtual machine often hides its processor's name ("Intel(R) Xeon(R) Processor"), but never its instruction sets, which
programs need. So results are stored by both.
"""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.places import RESULTS

CPU_INFO = Path("/proc/cpuinfo")  # only on Linux
# Instruction sets that a network's speed depends on, by Linux's names: x86 (AMX, AVX-512, AVX2), and Arm.
INSTRUCTION_SETS = (
    *("amx_int8", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2"),
    *("sve", "bf16", "i8mm", "asimddp", "asimd"),
)


@dataclass(frozen=True)
class Kind:
    """name: in folders. has: the instruction set that the kinds after it lack. machines: Google Cloud's series."""

    name: str
    has: str
    title: str
    processors: str
    machines: str


# The first that matches applies. Series and their processors: https://docs.cloud.google.com/compute/docs/cpu-platforms;
# instruction sets: the makers' pages. A series in two rows has machines of both kinds.
KINDS = (
    Kind(
        "amx",
        "amx_bf16",
        "AMX",
        "Intel Sapphire Rapids, Emerald Rapids, Granite Rapids",
        "c3, c4, n4, h3, z3",
    ),
    Kind(
        "avx512-bf16",
        "avx512_bf16",
        "AVX-512 with BF16 and VNNI",
        "AMD Genoa, Turin",
        "c3d, c4d, n4d, h4d",
    ),
    Kind("avx512-vnni", "avx512_vnni", "AVX-512 with VNNI", "Intel Cascade Lake, Ice Lake", "n2, c2, m3"),
    Kind("avx512", "avx512f", "AVX-512", "Intel Skylake", "n1"),
    Kind("avx2", "avx2", "AVX2", "AMD Rome, Milan; Intel Haswell, Broadwell", "n2d, t2d, c2d, e2, n1"),
    Kind("arm-bf16", "bf16", "Arm with BF16 and I8MM", "Google Axion", "c4a, n4a"),
    Kind("arm", "asimd", "Arm", "Ampere Altra", "t2a"),
)
UNKNOWN = Kind("unknown", "", "unknown", "", "")


def name() -> str:
    """The processor's name, as the machine reports it."""
    return _told("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Those of INSTRUCTION_SETS that this processor has, in that order. Empty if the system does not report them."""
    flags = (_told("flags") or _told("Features")).split()
    return [each for each in INSTRUCTION_SETS if each in flags]


def kind_of(machine: dict[str, Any]) -> Kind:
    """machine: from `measurement.machine`."""
    return next((kind for kind in KINDS if kind.has in machine["instruction_sets"]), UNKNOWN)


def named(machine: dict[str, Any]) -> str:
    """Its name, which may be hidden, and its kind."""
    return f"{_without_marks(machine['processor'])}, {kind_of(machine).title}"


def folder_of(machine: dict[str, Any], results: Path = RESULTS) -> Path:
    """The folder of a processor's results: results/NAME-KIND."""
    plain = _without_marks(machine["processor"]).lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"
    return results / f"{slug}-{kind_of(machine).name}"


def _without_marks(processor: str) -> str:
    return re.sub(r"\((R|TM)\)", "", processor, flags=re.IGNORECASE)


def _told(what: str) -> str:
    """A value for the first core."""
    with suppress(OSError):
        for line in CPU_INFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == what:
                return value.strip()
    return ""
