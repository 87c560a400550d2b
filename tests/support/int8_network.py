"""A small 8-bit network, and its floating-point original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

SIDE = 16
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

Json = dict[str, Any]


def drawn(shape: tuple[int, ...], seed: int, least: int = 0, most: int = 255) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.int8 if least < 0 else torch.uint8
    return torch.randint(least, most + 1, shape, generator=generator).to(dtype)


def weights() -> dict[str, torch.Tensor]:
    return {
        "conv.weight": drawn((4, 3, 3, 3), 1, -64, 64),
        "conv.scale": torch.full((4,), 0.01),
        "conv.bias": torch.linspace(-1, 1, 4),
        "fc.weight": drawn((5, 4 * 8 * 8), 2, -64, 64),
        "fc.scale": torch.full((5,), 0.01),
        "float": torch.ones(4),
        "pixels": drawn((2, 4 * 8 * 8), 3),
    }


def program() -> Json:
    """pad → convolution, ReLU → pool → linear, in integers from pixels to logits."""
    conv = [{"weight": "conv.weight"}, {"weight": "conv.scale"}, {"weight": "conv.bias"}, [1, 1], [0, 0], [1, 1], 1]
    nodes = [
        ["int8.pad", [{"node": -1}, [1, 1], [124, 116, 104]]],
        ["int8.conv2d", [{"node": 0}, 1.0, 0, *conv, True, 4.0, 0]],
        ["int8.max_pool2d", [{"node": 1}, [2, 2], [2, 2], [0, 0]]],
        ["flatten.using_ints", [{"node": 2}, 1]],
        ["int8.linear", [{"node": 3}, 4.0, 0, {"weight": "fc.weight"}, {"weight": "fc.scale"}, None, False, None, 0]],
    ]
    return {"format": 1, "input": "uint8", "side": 16, "output": 4, "nodes": nodes}


def write(folder: Path) -> None:
    """Both, as in an archive. The floating-point one has different weights, so that answers can be told apart."""
    (folder / "int8.json").write_text(json.dumps(program()))
    save_file(weights(), folder / "int8.safetensors", {"weights": "untrained", "sha256": "0" * 64})
    nodes = [
        ["conv2d", [{"node": -1}, {"weight": "conv"}, None, [1, 1], [1, 1]]],
        ["relu", [{"node": 0}]],
        ["mean.dim", [{"node": 1}, [2, 3]]],
        ["linear", [{"node": 2}, {"weight": "fc"}]],
    ]
    (folder / "program.json").write_text(json.dumps({"format": 1, "side": SIDE, "output": 3, "nodes": nodes}))
    generator = torch.Generator().manual_seed(3)
    tensors = {"conv": torch.randn(4, 3, 3, 3, generator=generator), "fc": torch.randn(5, 4, generator=generator)}
    save_file(tensors, folder / "weights.safetensors", {"weights": "untrained", "sha256": "1" * 64})
