"""A weights file laid out as a processor runs it in bfloat16, so that workers can map it and copy nothing.

It is a safetensors file. All weights are bfloat16, except the last layer (float32) and the inputs of 8-bit operators.
If the memory order of a tensor differs from its shape, its name says so:

    features.0.weight|channels_last     a convolution's (out, in, rows, columns), stored as (out, rows, columns, in)
    classifier.6.weight|transposed      a last layer's (out, in), stored as (in, out)

As many tensors as possible begin at a multiple of 64 bytes: otherwise a single image takes 5 % longer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch

from vision.model.program import Program

MARK = "|"
CHANNELS_LAST, TRANSPOSED = f"{MARK}channels_last", f"{MARK}transposed"
ALIGNMENT = 64  # bytes of a cache line
# Names in the format: https://huggingface.co/docs/safetensors
TYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def to_store(weights: Mapping[str, torch.Tensor], program: Program) -> dict[str, torch.Tensor]:
    """Weights under the program's names → as stored in the file."""
    head, exact = program.head_weights, program.exact_weights
    return dict(
        (name, tensor.contiguous()) if name in exact else _stored(name, tensor, name in head)
        for name, tensor in weights.items()
    )


def from_store(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The reverse, as views of the same memory. Tensors without a mark, as in other weights files, stay as they are.

    Raises ValueError if a mark does not fit its tensor.
    """
    return dict(_restored(name, tensor) for name, tensor in stored.items())


def would_change(weights: Mapping[str, torch.Tensor], program: Program) -> bool:
    """Whether any weights would be converted to bfloat16. False for such a file, and for a purely 8-bit network."""
    kept = program.head_weights | program.exact_weights
    return any(tensor.dtype == torch.float32 for name, tensor in weights.items() if name not in kept)


def digest(stored: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the tensors' bytes, in the order of their names, as hexadecimal digits."""
    found = sha256()
    for name in sorted(stored):
        found.update(_bytes(stored[name]))
    return found.hexdigest()


def write(stored: Mapping[str, torch.Tensor], metadata: Mapping[str, str], file: Path) -> None:
    """Equal inputs give equal files. Raises OSError if the file cannot be written."""
    names = sorted(stored, key=lambda name: (len(_bytes(stored[name])) % ALIGNMENT > 0, name))
    head: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        begin, end = end, end + len(_bytes(stored[name]))
        shape = list(stored[name].shape)
        head[name] = {"dtype": TYPES[stored[name].dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with open(file, "wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            opened.write(_bytes(stored[name]))


def _stored(name: str, tensor: torch.Tensor, in_head: bool) -> tuple[str, torch.Tensor]:
    if not tensor.is_floating_point():
        return name, tensor.contiguous()
    if in_head:
        return (f"{name}{TRANSPOSED}", tensor.t().contiguous()) if tensor.dim() == 2 else (name, tensor.contiguous())
    tensor = tensor.bfloat16()
    if tensor.dim() == 4:
        return f"{name}{CHANNELS_LAST}", tensor.permute(0, 2, 3, 1).contiguous()
    return name, tensor.contiguous()


def _restored(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    for mark, order in ((CHANNELS_LAST, (0, 3, 1, 2)), (TRANSPOSED, (1, 0))):
        if name.endswith(mark):
            if tensor.dim() != len(order):
                raise ValueError(f"{name[:100]} has {tensor.dim()} dimensions")
            return name[: -len(mark)], tensor.permute(order)
    return name, tensor


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
