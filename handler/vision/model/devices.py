"""Where the network runs, and how precisely."""

from __future__ import annotations

from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")  # Linux alone has it
# How it names the instructions that multiply bfloat16: AMX and AVX-512 on x86, the BF16 extension on Arm.
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")


def choose_device(setting: str, gpu_id: int | None) -> torch.device:
    """`auto`: the GPU that TorchServe gives this worker, else the processor. Or what the setting names."""
    if setting != "auto":
        return torch.device(setting)
    if gpu_id is not None and torch.cuda.is_available():
        return torch.device("cuda", gpu_id)
    return torch.device("cpu")


def choose_precision(setting: str, device: torch.device) -> str:
    """`auto`: bfloat16 where the device multiplies it in hardware, else float32. Raises ValueError for another word."""
    if setting in ("float32", "bfloat16"):
        return setting
    if setting != "auto":
        raise ValueError(f"model-config.yaml: handler.precision is {setting!r}; use auto, float32 or bfloat16")
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _processor_multiplies_bfloat16() else "float32"


def _processor_multiplies_bfloat16() -> bool:
    try:
        flags = set(CPU_INFO.read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint(BFLOAT16_FLAGS)
