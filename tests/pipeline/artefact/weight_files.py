"""Weights of one small layer, files of them, and the errors if they are refused."""

from __future__ import annotations

import io
import tarfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.artefact.checkpoint import read_checkpoint
from pipeline.shared.errors import PipelineError

SHAPES = {"weight": (2, 3), "bias": (2,)}
OLD: dict[str, Any] = {"_use_new_zipfile_serialization": False}


def state() -> dict[str, torch.Tensor]:
    return nn.Linear(3, 2).state_dict()


def saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def refusal(file: Path) -> str:
    with warnings.catch_warnings(action="error"), pytest.raises(PipelineError) as refused:
        read_checkpoint(file, SHAPES)
    sentence = str(refused.value)
    assert sentence.startswith(f"{file} ")
    assert sentence.isprintable()
    return sentence.removeprefix(f"{file} ")


def archived(pack: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    pack(buffer)
    return buffer.getvalue()


def tarred(*names: str, mode: str = "w", contents: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    def pack(buffer: io.BytesIO) -> None:
        with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(contents.get(name, b""))
                archive.addfile(member, io.BytesIO(contents.get(name, b"")))

    return archived(pack)
