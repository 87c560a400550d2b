"""Where the network runs, and at which precision."""

from __future__ import annotations

import re
from pathlib import Path

import torch

FLOAT32, BFLOAT16, INT8, AUTO = "float32", "bfloat16", "int8", "auto"
DEVICE = re.compile(r"cpu|cuda(:(?P<index>[0-9]{1,3}))?")

CPU_INFO = Path("/proc/cpuinfo")  # only on Linux
# Its names for the instructions that multiply bfloat16: AMX and AVX-512 on x86, the BF16 extension on Arm.
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")

# AlexNet in batches of 16: 2.5 times as long with oneDNN limited to AVX-512 VNNI, 4.3 times with AVX2.
SLOW = (
    "handler.precision is bfloat16, but this processor cannot multiply it in hardware: that takes 2.5 to 4 times as "
    "long as float32; use auto"
)


def choose_device(setting: str, gpu_id: int | None) -> torch.device:
    """`auto`: the GPU that TorchServe assigns to this worker, else the processor. Otherwise the device that is named.

    Raises ValueError for any other word, and for a GPU that does not exist.
    """
    if setting != AUTO:
        found = DEVICE.fullmatch(setting)
        if found is None:
            raise ValueError(f"model-config.yaml: handler.device is {setting[:60]!r}; use auto, cpu or, say, cuda:0")
        there = torch.cuda.device_count()
        if setting != "cpu" and int(found["index"] or 0) >= there:
            raise ValueError(
                f"model-config.yaml: handler.device is {setting}, but there are {there} GPUs; use auto or cpu"
            )
        return torch.device(setting)
    if gpu_id is not None and torch.cuda.is_available():
        return torch.device("cuda", gpu_id)
    return torch.device("cpu")


def choose_precision(setting: str, device: torch.device, bfloat16: bool = True) -> str:
    """The floating-point precision. For `auto`, and for the remaining layers with `int8`: bfloat16 if the device
    multiplies it in hardware, else float32.

    bfloat16: whether packaging has proved it. Raises ValueError for any other word, or if bfloat16 is not proved.
    """
    if setting == BFLOAT16 and not bfloat16:
        raise ValueError(
            "model-config.yaml: handler.precision is bfloat16, which changes this network's answers "
            "(proof.json has the figures); use auto or float32"
        )
    if setting in (FLOAT32, BFLOAT16):
        return setting
    if setting not in (AUTO, INT8):
        raise ValueError(
            f"model-config.yaml: handler.precision is {setting[:60]!r}; use auto, float32, bfloat16 or int8"
        )
    if not bfloat16:
        return FLOAT32
    if device.type == "cuda":
        return BFLOAT16 if torch.cuda.is_bf16_supported() else FLOAT32
    return BFLOAT16 if _processor_multiplies_bfloat16() else FLOAT32


def is_slow(precision: str, device: torch.device) -> bool:
    """Whether a processor would have to emulate bfloat16 with float32: see SLOW."""
    return precision == BFLOAT16 and device.type == "cpu" and not _processor_multiplies_bfloat16()


def _processor_multiplies_bfloat16() -> bool:
    try:
        flags = set(CPU_INFO.read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint(BFLOAT16_FLAGS)
