"""The best precision for a processor."""

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


@pytest.mark.parametrize(
    ("flags", "precision", "device", "slow"),
    [
        ("avx2", "bfloat16", "cpu", True),
        ("avx512f avx512_vnni", "bfloat16", "cpu", True),
        ("avx512f avx512_bf16", "bfloat16", "cpu", False),
        ("avx2", "float32", "cpu", False),
        ("avx2", "bfloat16", "cuda", False),
    ],
)
def test_bfloat16_is_slow_where_the_processor_does_not_multiply_it(
    flags: str, precision: str, device: str, slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    assert devices.is_slow(precision, torch.device(device)) == slow


def test_float32_where_the_processor_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "missing")
    assert devices.choose_precision("auto", torch.device("cpu")) == "float32"


@pytest.mark.parametrize(
    "device", ["", "gpu", "CUDA:0", "cuda:-1", "cuda:", "cuda:x", "mps", "meta", "cpu:0", "auto\n", "x" * 500]
)
def test_what_is_no_device_is_one_clear_sentence(device: str) -> None:
    said = r"^model-config.yaml: handler.device is '.{,60}'; use auto, cpu or, say, cuda:0$"
    with pytest.raises(ValueError, match=said):
        devices.choose_device(device, gpu_id=None)


@pytest.mark.parametrize(("device", "there"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("cuda:99", 2)])
def test_a_gpu_that_is_not_there_is_one_clear_sentence(
    device: str, there: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    said = rf"^model-config.yaml: handler.device is {device}, but there are {there} GPUs; use auto or cpu$"
    with pytest.raises(ValueError, match=said):
        devices.choose_device(device, gpu_id=0)


def test_devices_that_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.choose_device("cpu", gpu_id=0) == torch.device("cpu")
    assert devices.choose_device("cuda", gpu_id=1) == torch.device("cuda")
    assert devices.choose_device("cuda:1", gpu_id=0) == torch.device("cuda", 1)
