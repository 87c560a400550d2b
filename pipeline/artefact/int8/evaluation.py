"""Evaluates programs in float64, int8 ones too. The result is the same on any processor, up to the sixteenth digit.

Eight-bit values are whole numbers in float64, whose sums are exact: the int8 part of a program's answer does not depend
on the processor at all. The docstrings below define the operators; a server computes them in
handler/vision/model/int8.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.artefact.nodes import Batch, Node, Ref, Weight, mapped

Watch = Callable[[int, torch.Tensor], None]


@torch.inference_mode()
def evaluate(
    nodes: Sequence[Node],
    output: int,
    tensors: Mapping[str, torch.Tensor],
    images: torch.Tensor,
    watch: Watch = lambda _, __: None,
) -> torch.Tensor:
    """Images (N, 3, side, side) → logits (N, classes), float64.

    images: float64, normalised; or, for a program that takes pixels, whole numbers from 0 to 255.
    tensors: from `as_float64`. watch: called with each node and its result, if that is one tensor; the images are -1.
    """
    last = {index: at for at, node in enumerate(nodes) for index in node.inputs}
    results: dict[int, Any] = {-1: images}
    watch(-1, images)

    def value(said: Any) -> Any:
        match said:
            case Ref(node):
                return results[node]
            case Weight(name):
                return tensors[name]
            case Batch(times):
                return times * len(images)
        return said

    for index, node in enumerate(nodes):
        result = results[index] = _function(node.op)(*mapped(node.args, value), **mapped(node.kwargs, value))
        if isinstance(result, torch.Tensor):
            watch(index, result)
        for each in {*node.inputs, index}:
            if last.get(each, index) == index and each != output:
                results.pop(each, None)
    found: torch.Tensor = results[output]
    return found


def as_float64(tensors: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Whole numbers other than int8 weights, such as tables of positions, stay unchanged."""
    return {
        name: torch.from_numpy(array).double() if array.dtype in (np.float32, np.int8) else torch.from_numpy(array)
        for name, array in tensors.items()
    }


def pad(pixels: torch.Tensor, padding: Sequence[int], colour: Sequence[int]) -> torch.Tensor:
    """padding: rows and columns on each side, filled with the colour, one number for each channel."""
    (rows, columns), fill = padding, torch.tensor(colour, dtype=pixels.dtype).view(1, -1, 1, 1)
    return functional.pad(pixels - fill, (columns, columns, rows, rows)) + fill


def quantize(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """Real numbers → 0 to 255. Halves are rounded to even."""
    return (x / scale).round().add(zero_point).clamp(0, 255)


def dequantize(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    return (x - zero_point) * scale


def conv2d(
    x: torch.Tensor,
    x_scale: float,
    x_zero_point: int,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    relu: bool,
    scale: float | None,
    zero_point: int,
) -> torch.Tensor:
    """weight_scale, bias: for each output channel. scale: None for a result in real numbers."""
    sums = convolution(x - x_zero_point, weight, None, stride, padding, dilation, groups)
    channels = (1, -1, 1, 1)
    real = sums * (weight_scale * x_scale).view(channels) + (0.0 if bias is None else bias.view(channels))
    return _finished(real, relu, scale, zero_point)


def linear(
    x: torch.Tensor,
    x_scale: float,
    x_zero_point: int,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    relu: bool,
    scale: float | None,
    zero_point: int,
) -> torch.Tensor:
    """The same for (N, in)."""
    real = functional.linear(x - x_zero_point, weight) * (weight_scale * x_scale) + (0.0 if bias is None else bias)
    return _finished(real, relu, scale, zero_point)


def _finished(real: torch.Tensor, relu: bool, scale: float | None, zero_point: int) -> torch.Tensor:
    real = real.relu() if relu else real
    return real if scale is None else quantize(real, scale, zero_point)


def convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    """torch's, but faster for depthwise convolutions: in float64, torch takes a hundred times as long for them."""
    stride, padding, dilation = (_pair(each) for each in (stride, padding, dilation))
    if groups == 1 or weight.shape[1] != 1 or weight.shape[0] != groups:
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    padded = functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    rows, columns = (
        (padded.shape[2 + axis] - dilation[axis] * (weight.shape[2 + axis] - 1) - 1) // stride[axis] + 1
        for axis in (0, 1)
    )
    sums = torch.zeros(len(x), groups, rows, columns, dtype=x.dtype)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            top, left = row * dilation[0], column * dilation[1]
            part = padded[
                :,
                :,
                top : top + (rows - 1) * stride[0] + 1 : stride[0],
                left : left + (columns - 1) * stride[1] + 1 : stride[1],
            ]
            sums.addcmul_(part, weight[:, 0, row, column].view(1, -1, 1, 1))
    return sums if bias is None else sums + bias.view(1, -1, 1, 1)


def _pair(said: Sequence[int]) -> tuple[int, int]:
    return said[0], said[-1]


INT8: dict[str, Callable[..., torch.Tensor]] = {
    "int8.pad": pad,
    "int8.quantize": quantize,
    "int8.dequantize": dequantize,
    "int8.conv2d": conv2d,
    "int8.linear": linear,
    "int8.max_pool2d": functional.max_pool2d,  # on whole numbers from 0: the border, which is less, is never chosen
}
OURS: dict[str, Callable[..., Any]] = INT8 | {
    "conv2d": convolution,
    "view": lambda tensor, size: tensor.reshape(size),
    "getitem": operator.getitem,
}


def _function(op: str) -> Callable[..., Any]:
    if op in OURS:
        return OURS[op]
    packet, _, form = op.partition(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), form or "default")
    return found
