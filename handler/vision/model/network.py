"""A program with its weights, at one precision on one device: images to logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vision.model.devices import BFLOAT16
from vision.model.program import Node, Program, Weight, apply, inputs


class Network:
    """weights: by their names, float32 or whole numbers, and perhaps still in the memory map of a file.

    precision: `float32`; or `bfloat16`, but for the last layer: rounding logits costs more accuracy than it saves time.
    """

    def __init__(
        self, program: Program, weights: dict[str, torch.Tensor], precision: str, device: torch.device
    ) -> None:
        self.dtype = torch.bfloat16 if precision == BFLOAT16 else torch.float32
        self._nodes, self._output, self._head = program.nodes, program.output, program.head
        precise = [value.name for value in self._head.args if isinstance(value, Weight)] if self._head else []
        self._weights = {
            name: (self._of_head(tensor) if name in precise else self._cast(tensor)).to(device)
            for name, tensor in weights.items()
        }

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, side, side), channels_last, of `dtype` → logits (N, classes), float32."""
        results: dict[int, Any] = {-1: images}
        for index, node in enumerate(self._nodes):
            make = self._logits if node is self._head else apply
            results[index] = make(node, results, self._weights, len(images))
            for each in node.last:
                results.pop(each, None)
        logits: torch.Tensor = results[self._output].float()
        return logits

    def _logits(self, node: Node, results: dict[int, Any], weights: dict[str, torch.Tensor], count: int) -> Any:
        hidden = {each: results[each].float() for each in inputs(node)}
        with one_thread():  # several would add the products in another order: an answer must not hang on the load
            return apply(node, hidden, weights, count)

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 4:
            tensor = tensor.to(memory_format=torch.channels_last)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _of_head(self, tensor: torch.Tensor) -> torch.Tensor:
        """In bfloat16 a copy, else it keeps the whole file mapped; transposed, a weight multiplies faster."""
        if self.dtype == torch.float32:
            return tensor
        return tensor.t().contiguous().t() if tensor.dim() == 2 else tensor.clone()


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
