"""8-bit integer layers: operators that a program for uint8 pixels may use in addition to aten's.

A stored value q, 0 to 255, means (q - zero_point) * scale; a weight, -127 to 127, means itself times the scale of its
output channel: https://arxiv.org/abs/1712.05877, section 2.1. Sums have 32 bits and are exact.

oneDNN computes these layers through undocumented operators that torch provides for its compiler. They are the same in
torch 2.4 to 2.13, and every layer is compared with exact sums when a worker starts: `Layer.check`.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from functools import partial
from typing import Any, Callable

import torch
from torch.nn import functional

X = tuple[float, int]  # scale and zero point
Y = tuple[float, int, torch.dtype]  # and dtype; 1 and 0 if that is floating-point

LARGEST = 255  # of a value
CHECKED_ROWS = 64  # of the thousands in a linear layer
CHECKED_PLACES = 2  # rows and columns in the upper left corner of a convolution's result, which has padding
OTHERWISE = "this processor, or this version of torch, computes 8-bit layers incorrectly"


def refusal() -> str | None:
    """Why 8-bit layers cannot run here, as a sentence; None if they can.

    oneDNN has fast kernels for them only on x86; elsewhere its reference implementation may take minutes.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"8-bit layers need an x86-64 processor, and this is {platform.machine()}"
    operators = torch.ops.onednn
    for name in ("qconv_prepack", "qconv2d_pointwise", "qlinear_prepack", "qlinear_pointwise"):
        if not hasattr(operators, name):
            return f"torch {torch.__version__} has no operator onednn::{name}"
    return None


# --- Operators --------------------------------------------------------------------------------------------------------


def pad(pixels: torch.Tensor, padding: list[int], colour: list[int]) -> torch.Tensor:
    """uint8 (N, C, H, W) with a border added. padding: its rows and columns. colour: a number for each channel."""
    _expect(pixels.dtype == torch.uint8 and pixels.dim() == 4, "uint8 images are expected")
    count, channels, height, width = pixels.shape
    _expect(len(padding) == 2 and min(padding) >= 0, "padding: two numbers are expected")
    right = len(colour) == channels and all(0 <= each <= LARGEST for each in colour)
    _expect(right, "colour: a number from 0 to 255 is expected for each channel")
    rows, columns = padding
    shape = (count, height + 2 * rows, width + 2 * columns, channels)
    padded = torch.tensor(colour, dtype=torch.uint8).expand(shape).contiguous().permute(0, 3, 1, 2)
    padded[:, :, rows : rows + height, columns : columns + width] = pixels
    return padded


def quantize(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """Floating-point → uint8, rounding half to even."""
    _check_scale(scale, zero_point)
    _expect(x.is_floating_point(), "floating-point numbers are expected")
    return x.float().mul(1 / scale).round_().add_(zero_point).clamp_(0, LARGEST).to(torch.uint8)


def dequantize(x: torch.Tensor, scale: float, zero_point: int, dtype: torch.dtype) -> torch.Tensor:
    """uint8 → `dtype`."""
    _check_scale(scale, zero_point)
    _expect(x.dtype == torch.uint8, "uint8 is expected")
    return x.to(torch.float32).sub_(zero_point).mul_(scale).to(dtype)


def max_pool2d(x: torch.Tensor, kernel_size: list[int], stride: list[int], padding: list[int]) -> torch.Tensor:
    """uint8 (N, C, H, W) → the maximum of each window. torch's own does not accept uint8."""
    _expect(x.dtype == torch.uint8 and x.dim() == 4, "uint8 images are expected")
    sizes = (kernel_size, stride, padding)
    _expect(all(len(each) == 2 for each in sizes), "two numbers are expected for each size")
    _expect(min(*kernel_size, *stride) > 0 <= min(padding), "sizes above 0 are expected")
    if any(padding):
        (rows, columns) = padding
        x = functional.pad(x, (columns, columns, rows, rows))  # with 0, the minimum
    for dimension, window, step in zip((2, 3), kernel_size, stride):
        places = (x.shape[dimension] - window) // step + 1
        _expect(places > 0, "its windows are larger than the image")
        strips = [_every(x, dimension, first, step, places) for first in range(window)]
        x = strips[0]
        for strip in strips[1:]:
            x = torch.maximum(x, strip)
    return x


def _every(x: torch.Tensor, dimension: int, first: int, step: int, places: int) -> torch.Tensor:
    index = [slice(None)] * 4
    index[dimension] = slice(first, first + step * (places - 1) + 1, step)
    return x[tuple(index)]


class Layer:
    """A convolution or linear layer, packed for this processor: uint8 → uint8, or floating-point.

    weight: int8; its first dimension is the outputs. weight_scale, bias: float32, a number for each output.
    x: scale and zero point of the input. y: scale, zero point and dtype of the output.
    """

    DIMENSIONS = 0  # of the weight

    def __init__(
        self, weight: torch.Tensor, weight_scale: torch.Tensor, bias: torch.Tensor | None, x: X, relu: bool, y: Y
    ):
        _expect(weight.dtype == torch.int8 and weight.dim() == self.DIMENSIONS, "weight: int8 is expected")
        _expect(min(weight.shape) > 0, "weight: it is empty")
        for name, tensor in (("weight_scale", weight_scale), ("bias", bias)):
            right = tensor is None or (tensor.dtype == torch.float32 and tensor.shape == weight.shape[:1])
            _expect(right, f"{name}: float32 is expected, a number for each output")
        _expect(bool((weight_scale > 0).all() and weight_scale.isfinite().all()), "weight_scale: above 0 is expected")
        for scale, zero_point in (x, y[:2]):
            _check_scale(scale, zero_point)
        self._weight: torch.Tensor | None = weight
        # Copies: a view would keep the whole file mapped.
        self._shape, self._scale, self._bias = (
            weight.shape,
            weight_scale.clone(),
            bias if bias is None else bias.clone(),
        )
        self._zeros = torch.zeros(len(weight), dtype=torch.long)
        self._x, self._y, self._relu = x, y, relu
        self._post: tuple[str, list[Any], str] = ("relu" if relu else "none", [], "")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Raises ValueError if x does not fit the layer."""
        return self._computed(x, self._y)

    def check(self, inputs: torch.Tensor) -> None:
        """Compares a few results for inputs of this shape with exact sums, once. Raises ValueError if they differ.

        A processor without VNNI adds two products in 16 bits. If weights are too large for that, it shows here,
        because every input is 0 or the maximum.
        """
        assert self._weight is not None, "a layer is checked only once"
        random = torch.Generator().manual_seed(0)
        drawn = torch.randint(0, 2, inputs.shape, generator=random, dtype=torch.uint8) * LARGEST
        exact = self._exact(drawn, self._weight)
        if self._relu:
            exact = exact.clamp(min=0)
        scale, zero_point, _ = self._y
        for y in ((1.0, 0, torch.float32), self._y):
            found = self._few(self._computed(drawn, y)).double()
            if y[2] == torch.uint8:
                expected, apart = (exact / scale).round().add(zero_point).clamp(0, LARGEST), 1.0
            else:
                expected, apart = exact, float(exact.abs().max()) * max(1e-5, torch.finfo(y[2]).eps)
            _expect(bool((found - expected).abs().max() <= apart), OTHERWISE)
        self._checked()

    def _checked(self) -> None:
        """Releases the weight's file, which is still mapped."""
        raise NotImplementedError

    def _computed(self, x: torch.Tensor, y: Y) -> torch.Tensor:
        raise NotImplementedError

    def _few(self, result: torch.Tensor) -> torch.Tensor:
        """The part of the result that is compared."""
        raise NotImplementedError

    def _exact(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The exact result before relu, float64."""
        raise NotImplementedError


class Conv2d(Layer):
    """weight: int8 (O, C / groups, rows, columns). geometry: stride, padding (with zeros), dilation, groups."""

    DIMENSIONS = 4

    def __init__(self, *of_layer: Any, geometry: tuple[list[int], list[int], list[int], int]) -> None:
        stride, padding, dilation, groups = geometry
        sizes = all(len(each) == 2 for each in geometry[:3])
        _expect(
            sizes and min(*stride, *dilation) > 0 <= min(padding), "stride, padding, dilation: two numbers are expected"
        )
        _expect(groups > 0 and of_layer[0].shape[0] % groups == 0, "groups: they do not divide the outputs")
        self._geometry = geometry
        super().__init__(*of_layer)
        self._packed: dict[tuple[int, int], torch.Tensor] = {}

    def _checked(self) -> None:
        assert self._weight is not None, "kept for packing"
        self._weight = self._weight.clone()

    def _packed_for(self, x: torch.Tensor) -> torch.Tensor:
        """oneDNN orders weights by how images are divided among threads. In another order it takes up to 30 times as
        long; a convolution's weights are small enough to keep each order.
        """
        threads = torch.get_num_threads()
        key = threads, min(len(x), threads)
        if key not in self._packed:
            given = (self._weight, self._scale, *self._x, *self._geometry)
            self._packed[key] = torch.ops.onednn.qconv_prepack(*given, [key[1], *x.shape[1:]])
        return self._packed[key]

    def _computed(self, x: torch.Tensor, y: Y) -> torch.Tensor:
        _, padding, dilation, groups = self._geometry
        channels = self._shape[1] * groups
        right = x.dtype == torch.uint8 and x.dim() == 4 and x.shape[1] == channels
        _expect(right, f"uint8 images with {channels} channels are expected")
        for size, window, border, apart in zip(x.shape[2:], self._shape[2:], padding, dilation):
            _expect(size + 2 * border > apart * (window - 1), "its windows are larger than the image")
        x = x.contiguous(memory_format=torch.channels_last)
        weight = (self._packed_for(x), self._scale, self._zeros, self._bias)
        result: torch.Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, *self._x, *weight, *self._geometry, *y, *self._post
        )
        return result

    def _few(self, result: torch.Tensor) -> torch.Tensor:
        return result[:, :, :CHECKED_PLACES, :CHECKED_PLACES]

    def _exact(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        stride, padding, dilation, groups = self._geometry
        rows, columns = (
            apart * (window - 1) + 1 + step * (CHECKED_PLACES - 1)
            for window, step, apart in zip(self._shape[2:], stride, dilation)
        )
        corner = x[:, :, :rows, :columns].double() - self._x[1]
        sums = self._few(functional.conv2d(corner, weight.double(), None, stride, padding, dilation, groups))
        return _in_units(sums.movedim(1, -1), self._x[0], self._scale, self._bias).movedim(-1, 1)


class Linear(Layer):
    """weight: int8 (out, in). Inputs are (N, in)."""

    DIMENSIONS = 2

    def __init__(self, *of_layer: Any) -> None:
        super().__init__(*of_layer)
        self._packed: torch.Tensor = torch.ops.onednn.qlinear_prepack(self._weight, None)

    def _checked(self) -> None:
        self._weight = None

    def _computed(self, x: torch.Tensor, y: Y) -> torch.Tensor:
        right = x.dtype == torch.uint8 and x.dim() >= 2 and x.shape[-1] == self._shape[1]
        _expect(right, f"uint8 of (N, {self._shape[1]}) is expected")
        weight = (self._packed, self._scale, self._zeros, self._bias)
        result: torch.Tensor = torch.ops.onednn.qlinear_pointwise(x.contiguous(), *self._x, *weight, *y, *self._post)
        return result

    def _few(self, result: torch.Tensor) -> torch.Tensor:
        return result[..., :CHECKED_ROWS]

    def _exact(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        sums = (x.double() - self._x[1]) @ weight[:CHECKED_ROWS].double().t()
        return _in_units(sums, self._x[0], self._scale, self._bias)


def _in_units(sums: torch.Tensor, x_scale: float, scale: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Integer sums (…, outputs) → the values that they represent, for the first outputs."""
    outputs = sums.shape[-1]
    made = sums * (x_scale * scale[:outputs].double())
    return made if bias is None else made + bias[:outputs].double()


# --- In a program -----------------------------------------------------------------------------------------------------


class Operator:
    """Looks like aten's operators to the program reader. `prepared` turns it into what a network runs."""

    def __init__(self, schema: str, compute: Callable[..., torch.Tensor] | None = None) -> None:
        self._schema = torch._C.parse_schema(f"int8::{schema} -> Tensor")
        self._compute = compute

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        assert self._compute is not None, "layers are packed before they run"
        return self._compute(*args, **kwargs)


X_OF_LAYER = "Tensor x, float x_scale, int x_zero_point, Tensor weight, Tensor weight_scale, Tensor? bias"
OF_CONV2D = "int[] stride, int[] padding, int[] dilation, int groups"
Y_OF_LAYER = "bool relu, float? scale, int zero_point"

OPERATORS = {
    "int8.pad": Operator("pad(Tensor pixels, int[] padding, int[] colour)", pad),
    "int8.quantize": Operator("quantize(Tensor x, float scale, int zero_point)", quantize),
    "int8.dequantize": Operator("dequantize(Tensor x, float scale, int zero_point)"),
    "int8.max_pool2d": Operator("max_pool2d(Tensor x, int[] kernel_size, int[] stride, int[] padding)", max_pool2d),
    "int8.conv2d": Operator(f"conv2d({X_OF_LAYER}, {OF_CONV2D}, {Y_OF_LAYER})"),
    "int8.linear": Operator(f"linear({X_OF_LAYER}, {Y_OF_LAYER})"),
}


def prepared(op: str, given: Mapping[str, Any], dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """A function of the first argument that computes the operator; None if it needs no preparation.

    given: its arguments by name, with tensors for weights. dtype: of floating-point results.
    Raises ValueError if the arguments do not fit each other.
    """
    if op == "int8.dequantize":
        return partial(dequantize, scale=given["scale"], zero_point=given["zero_point"], dtype=dtype)
    if op not in ("int8.conv2d", "int8.linear"):
        return None
    tensors = (given["weight"], given["weight_scale"], given["bias"])
    _expect(all(each is None or isinstance(each, torch.Tensor) for each in tensors), "weights of the file are expected")
    scale = given["scale"]
    y: Y = (1.0, 0, dtype) if scale is None else (float(scale), given["zero_point"], torch.uint8)
    of_layer = (*tensors, (float(given["x_scale"]), given["x_zero_point"]), given["relu"], y)
    if op == "int8.linear":
        return Linear(*of_layer)
    return Conv2d(*of_layer, geometry=(given["stride"], given["padding"], given["dilation"], given["groups"]))


def _check_scale(scale: float, zero_point: int) -> None:
    _expect(math.isfinite(scale) and scale > 0, "a scale above 0 is expected")
    _expect(0 <= zero_point <= LARGEST, "a zero point from 0 to 255 is expected")


def _expect(right: bool, sentence: str) -> None:
    if not right:
        raise ValueError(sentence)
