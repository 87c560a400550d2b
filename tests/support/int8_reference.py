"""A reference for int8 programs in numpy's integers, to compare with packaging and the handler."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


def answers(graph: bytes, tensors: Mapping[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """graph: int8.json. pixels: uint8 (N, side, side, 3) → logits, float64 (N, classes)."""
    program = json.loads(graph)
    assert program["input"] == "uint8"
    results: dict[int, Any] = {-1: np.moveaxis(pixels, 3, 1)}

    def value(said: Any) -> Any:
        match said:
            case {"node": int(index)}:
                return results[index]
            case {"weight": str(name)}:
                return tensors[name]
            case {"batch": int(times)}:
                return times * len(pixels)
            case list():
                return [value(each) for each in said]
        return said

    for index, (op, arguments, *named) in enumerate(program["nodes"]):
        given, others = value(arguments), {name: value(each) for name, each in (named[0] if named else {}).items()}
        own = OWN.get(op)
        results[index] = own(*given) if own else _atens(op, given, others)
    found: np.ndarray = results[program["output"]]
    return found


def _atens(op: str, given: list[Any], named: dict[str, Any]) -> np.ndarray:
    """Converts to float64; uint8 stays unchanged."""

    def as_torch(each: Any) -> Any:
        if isinstance(each, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(each)).to(
                torch.uint8 if each.dtype == np.uint8 else torch.double
            )
        return [as_torch(inner) for inner in each] if isinstance(each, list) else each

    packet, _, form = op.partition(".")
    found: torch.Tensor = getattr(getattr(torch.ops.aten, packet), form or "default")(*map(as_torch, given), **named)
    return found.numpy()


def pad(pixels: np.ndarray, padding: list[int], colour: list[int]) -> np.ndarray:
    (rows, columns), (count, channels, height, width) = padding, pixels.shape
    made = np.empty((count, channels, height + 2 * rows, width + 2 * columns), np.uint8)
    made[:] = np.array(colour, np.uint8).reshape(1, -1, 1, 1)
    made[:, :, rows : rows + height, columns : columns + width] = pixels
    return made


def quantize(x: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    rounded: np.ndarray = np.clip(np.rint(x / scale) + zero_point, 0, 255).astype(np.uint8)
    return rounded


def dequantize(x: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    assert x.dtype == np.uint8
    return (x.astype(np.float64) - zero_point) * scale


def conv2d(
    x: np.ndarray,
    x_scale: float,
    x_zero_point: int,
    weight: np.ndarray,
    weight_scale: np.ndarray,
    bias: np.ndarray | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    relu: bool,
    scale: float | None,
    zero_point: int,
) -> np.ndarray:
    """Window by window."""
    assert [x.dtype.name, weight.dtype.name] == ["uint8", "int8"]
    (rows, columns), (down, right), (below, beside) = padding, stride, dilation
    whole = np.pad(x.astype(np.int64) - x_zero_point, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    outputs, inputs, height, width = weight.shape
    each = outputs // groups
    made = []
    for top in range(0, whole.shape[2] - below * (height - 1), down):
        for left in range(0, whole.shape[3] - beside * (width - 1), right):
            window = whole[
                :, :, top : top + below * (height - 1) + 1 : below, left : left + beside * (width - 1) + 1 : beside
            ]
            sums = [
                np.tensordot(
                    window[:, group * inputs : (group + 1) * inputs],
                    weight[group * each : (group + 1) * each].astype(np.int64),
                    ([1, 2, 3], [1, 2, 3]),
                )
                for group in range(groups)
            ]
            made.append(np.concatenate(sums, axis=1))
    places = np.stack(made, axis=1)  # (N, places, outputs)
    finished = _finished(places, x_scale, weight_scale, bias, relu, scale, zero_point)
    height = (whole.shape[2] - below * (height - 1) - 1) // down + 1
    return np.moveaxis(finished, 2, 1).reshape(len(x), outputs, height, -1)


def linear(
    x: np.ndarray,
    x_scale: float,
    x_zero_point: int,
    weight: np.ndarray,
    weight_scale: np.ndarray,
    bias: np.ndarray | None,
    relu: bool,
    scale: float | None,
    zero_point: int,
) -> np.ndarray:
    assert [x.dtype.name, weight.dtype.name] == ["uint8", "int8"]
    sums = (x.astype(np.int64) - x_zero_point) @ weight.astype(np.int64).T
    return _finished(sums, x_scale, weight_scale, bias, relu, scale, zero_point)


def _finished(
    sums: np.ndarray,
    x_scale: float,
    weight_scale: np.ndarray,
    bias: np.ndarray | None,
    relu: bool,
    scale: float | None,
    zero_point: int,
) -> np.ndarray:
    """Integers (…, outputs) → the values that they represent, as floats or in eight bits."""
    real = sums * (x_scale * weight_scale.astype(np.float64)) + (0 if bias is None else bias.astype(np.float64))
    real = np.maximum(real, 0) if relu else real
    return real if scale is None else quantize(real, scale, zero_point)


def max_pool2d(x: np.ndarray, kernel_size: list[int], stride: list[int], padding: list[int]) -> np.ndarray:
    assert x.dtype == np.uint8
    rows, columns = padding
    padded = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel_size, (2, 3))
    return np.asarray(windows[:, :, :: stride[0], :: stride[1]].max(axis=(4, 5)))


OWN: dict[str, Callable[..., np.ndarray]] = {
    "int8.pad": pad,
    "int8.quantize": quantize,
    "int8.dequantize": dequantize,
    "int8.conv2d": conv2d,
    "int8.linear": linear,
    "int8.max_pool2d": max_pool2d,
}
