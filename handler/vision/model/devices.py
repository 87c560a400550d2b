"""Where the network runs, and how precisely."""

from __future__ import annotations

import re
from pathlib import Path

import torch

FLOAT32, BFLOAT16, INT8, AUTO = "float32", "bfloat16", "int8", "auto"
DEVICE = re.compile(r"cpu|cuda(:(?P<index>[0-9]{1,3}))?")

CPU_INFO = Path("/proc/cpuinfo")  # Linux alone has it
# How it names the instructions that multiply bfloat16: AMX and AVX-512 on x86, the BF16 extension on Arm.
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")

# AlexNet, in batches of 16: with oneDNN held to AVX-512 with VNNI 2.5 times, with AVX2 4.3 times.
SLOW = (
    "handler.precision is bfloat16, and this processor does not multiply it: that takes 2.5 to 4 times as long as "
    "float32; use auto"
)


def choose_device(setting: str, gpu_id: int | None) -> torch.device:
    """`auto`: the GPU that TorchServe gives this worker, else the processor. Or what the setting names.

    Raises ValueError for another word, and for a GPU that is not there.
    """
    if setting != AUTO:
        found = DEVICE.fullmatch(setting)
        if found is None:
            raise ValueError(f"model-config.yaml: handler.device is {setting[:60]!r}; use auto, cpu, or such as cuda:0")
        there = torch.cuda.device_count()
        if setting != "cpu" and int(found["index"] or 0) >= there:
            raise ValueError(
                f"model-config.yaml: handler.device is {setting}, and there are {there} GPUs; use auto or cpu"
            )
        return torch.device(setting)
    if gpu_id is not None and torch.cuda.is_available():
        return torch.device("cuda", gpu_id)
    return torch.device("cpu")


def choose_precision(setting: str, device: torch.device, bfloat16: bool = True) -> str:
    """Of floating-point numbers. `auto`, and `int8` for what is not of 8 bits: bfloat16 where the device multiplies it
    in hardware, else float32.

    bfloat16: whether the network may, as packaging has proved. Raises ValueError for another word, or where it may not.
    """
    if setting == BFLOAT16 and not bfloat16:
        raise ValueError(
            "model-config.yaml: handler.precision is bfloat16, in which this network answers otherwise "
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
    """Whether a setting asks for bfloat16 of a processor that has to compute it from float32: see SLOW."""
    return precision == BFLOAT16 and device.type == "cpu" and not _processor_multiplies_bfloat16()


def _processor_multiplies_bfloat16() -> bool:
    try:
        flags = set(CPU_INFO.read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint(BFLOAT16_FLAGS)
