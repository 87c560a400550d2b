"""What a program may do: use aten's computing operators, and nothing else.

None of them writes to its input, reads a file, draws a random number or exposes an address, so a program keeps nothing
of its input. The names are aten's, with the overload unless it is the default.
"""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch.nn import functional

from vision.model import int8

# Rows are padded to a multiple of this before multiplying. For one to three rows per thread, oneDNN and MKL have other
# kernels, which add in a different order (seen on AMD's Zen 4, with up to 16 threads).
ROWS = 4

LAYERS = (
    "conv1d conv1d.padding conv2d conv2d.padding conv_transpose2d.input linear matmul bmm mm addmm "
    "scaled_dot_product_attention"
)
NORMS = "batch_norm layer_norm group_norm instance_norm rms_norm"
POOLS = "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_avg_pool1d"
ACTIVATIONS = (
    "relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh softplus prelu sigmoid tanh "
    "softmax.int log_softmax.int"
)
ARITHMETIC = (
    "add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Scalar rsub.Tensor mul.Tensor mul.Scalar div.Tensor div.Scalar "
    "neg abs addcmul exp log sqrt rsqrt reciprocal square pow.Tensor_Scalar sin cos erf "
    "gt.Scalar ge.Scalar lt.Scalar le.Scalar eq.Scalar ne.Scalar gt.Tensor ge.Tensor lt.Tensor le.Tensor "
    "clamp clamp_min clamp_max minimum maximum where.self masked_fill.Scalar"
)
REDUCTIONS = "mean.dim sum.dim_IntList amax amin cumsum linalg_vector_norm norm.ScalarOpt_dim var.correction"
SHAPES = (
    "einsum view reshape flatten.using_ints unflatten.int permute transpose.int swapaxes t squeeze.dim "
    "squeeze.dims unsqueeze expand repeat movedim.int movedim.intlist select.int slice.Tensor index.Tensor "
    "index_select narrow chunk split.Tensor split_with_sizes unbind.int cat stack roll flip pad "
    "constant_pad_nd pixel_shuffle pixel_unshuffle channel_shuffle upsample_nearest2d.vec "
    "upsample_bilinear2d.vec upsample_bicubic2d.vec"
)
NAMES = " ".join((LAYERS, NORMS, POOLS, ACTIVATIONS, ARITHMETIC, REDUCTIONS, SHAPES)).split()

GETITEM = "getitem"  # from an operator that returns several tensors

# Arguments that must have this value: otherwise an operator would draw random numbers or keep state.
ONLY: dict[str, dict[str, Any]] = {
    "batch_norm": {"training": False},
    "instance_norm": {"running_mean": None, "running_var": None},
    "scaled_dot_product_attention": {"dropout_p": 0.0},
}

# Their results have memory of their own, which the next operator may overwrite.
FRESH = frozenset(
    (
        *LAYERS.split(),
        *NORMS.split(),
        *POOLS.split(),
        *ACTIVATIONS.split(),
        *ARITHMETIC.split(),
        "cat",
        "int8.conv2d",
        "int8.linear",
    )
)
UNARY = ("relu", "silu", "hardswish", "hardsigmoid", "sigmoid", "hardtanh", "leaky_relu", "elu", "tanh")
IN_PLACE = {
    **{name: f"{name}_" for name in UNARY},
    **{f"{name}.{form}": f"{name}_.{form}" for name in ("add", "mul") for form in ("Tensor", "Scalar")},
}


def find(name: str, on_pixels: bool = False) -> Any:
    """aten's overload. Raises ValueError if programs may not use it, or this version of torch lacks it.

    on_pixels: the program is for uint8 pixels, and may use 8-bit layers too.
    """
    if on_pixels and name in int8.OPERATORS:
        return int8.OPERATORS[name]
    if name not in NAMES:
        raise ValueError(f"{name[:40]!r} is no operator that a program may use")
    return overload(name)


def overload(name: str) -> Any:
    packet, _, form = name.partition(".")
    try:
        return getattr(getattr(torch.ops.aten, packet), form or "default")
    except AttributeError:
        raise ValueError(f"torch {torch.__version__} has no operator {name}: the archive needs a newer one") from None


def linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """(…, in) → (…, out). With (N, in), no row depends on N.

    oneDNN needs contiguous rows: otherwise bfloat16 is six times slower.
    """
    count = len(rows)
    if rows.dim() != 2 or not (missing := -count % ROWS):
        return functional.linear(rows.contiguous(), weight, bias)
    return functional.linear(functional.pad(rows, (0, 0, 0, missing)), weight, bias)[:count]


def view(tensor: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Accepts any memory format: networks are traced in a different one than they run in."""
    return tensor.reshape(size)


OURS: dict[str, Callable[..., torch.Tensor]] = {"linear": linear, "view": view}
