"""The precision that a processor is best at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vision.model import devices


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("flags : fpu sse avx2 amx_bf16 amx_tile", "bfloat16"),
        ("flags : fpu avx512_bf16", "bfloat16"),
        ("Features : fp asimd i8mm bf16", "bfloat16"),
        ("flags : fpu sse avx2 avx512f avx512_vnni", "float32"),
        ("flags : fpu", "float32"),
    ],
)
def test_bfloat16_where_the_processor_multiplies_it(
    flags: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    assert devices.choose_precision("auto", torch.device("cpu")) == precision


def test_float32_where_the_processor_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "missing")
    assert devices.choose_precision("auto", torch.device("cpu")) == "float32"
