"""A program with its weights, at one precision on one device: images to logits."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vision.model import int8, operators
from vision.model.devices import BFLOAT16
from vision.model.int8 import Layer
from vision.model.program import Node, Program, Ref, Weight, apply, inputs
from vision.model.spatial import IMAGES, last_layer, shape_of

MOST_BYTES = 4 * 2**30  # for two images: torchvision's largest network makes 0.3 GB of them at a time
FAULTS = (
    RuntimeError,
    IndexError,
    TypeError,
    ValueError,
    NotImplementedError,
    MemoryError,
)  # of torch, and what it runs


class Network:
    """weights: by their names, float32 or whole numbers, and perhaps still in the memory map of a file.

    precision: `float32`; or `bfloat16`, but for the last layer: rounding logits costs more accuracy than it saves time.
    Of a program on pixels, it is that of what is not of 8 bits.

    It is tried once, with two images, within MOST_BYTES of memory: `classes` is then known, and `image_bytes`, what the
    results that are needed at a time take for each image; and `layer`, the last that is a map of the picture, or None.
    Raises ValueError where the program cannot be run.
    """

    def __init__(
        self, program: Program, weights: dict[str, torch.Tensor], precision: str, device: torch.device
    ) -> None:
        self.on_pixels = program.on_pixels
        self.dtype = torch.bfloat16 if precision == BFLOAT16 else torch.float32
        self._nodes, self._output, self._head = list(program.nodes), program.output, program.head
        if program.on_pixels:
            self._nodes = [self._prepared(node, weights, index) for index, node in enumerate(program.nodes)]
        self._as_packed = program.nodes  # of which none writes over what another has made
        self._weights, self._head_weights = (
            {name: cast(weights[name]).to(device) for name in _names(nodes)}
            for cast, nodes in (
                (self._cast, [node for node in self._nodes if node is not self._head]),
                (self._of_head, [self._head] if self._head else []),
            )
        )
        dtype = torch.uint8 if self.on_pixels else self.dtype
        images = torch.zeros(IMAGES, 3, program.side, program.side, dtype=dtype, device=device)
        self.image_bytes = 0
        shapes: list[tuple[int, ...]] = []
        with bounded(device):
            logits = self._tried(images.to(memory_format=torch.channels_last), shapes)
        if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != IMAGES:
            raise ValueError("it does not end in logits, (N, classes)")
        self.classes = logits.shape[1]
        self.layer = last_layer(program, shapes)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, side, side), channels_last, normalised and of `dtype`, or their pixels, uint8 (`on_pixels`) →
        logits (N, classes), float32.
        """
        results: dict[int, Any] = {-1: images}
        for index, node in enumerate(self._nodes):
            results[index] = self._result(node, results, len(images))
            _let_go(node, results)
        logits: torch.Tensor = results[self._output].float()
        assert logits.shape == (len(images), self.classes), "a row for each image"
        return logits

    def traced_back(self, images: torch.Tensor, class_index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What `layer` makes of normalised images, and how it moves their logits of a class: two of its shape.

        Only what comes after the layer is differentiated. Raises RuntimeError where torch cannot do that.
        """
        assert self.layer is not None, "asked only of a network with such a layer"
        results: dict[int, Any] = {-1: images}
        with torch.no_grad():  # what inference mode makes could not be differentiated
            for index, node in enumerate(self._nodes[: self.layer.node + 1]):
                results[index] = self._result(node, results, len(images))
                _let_go(node, results)
        made = results[self.layer.node] = results[self.layer.node].detach().requires_grad_()
        with torch.enable_grad():
            for index, node in enumerate(self._as_packed[self.layer.node + 1 :], self.layer.node + 1):
                results[index] = self._result(node, results, len(images))
                _let_go(node, results)
            (gradient,) = torch.autograd.grad(results[self._output][:, class_index].sum(), made)
        return made.detach(), gradient

    @torch.inference_mode()
    def _tried(self, images: torch.Tensor, shapes: list[tuple[int, ...]]) -> Any:
        """Runs the program, and notes what it takes, and what may be written over what.

        shapes: gets that of each result.
        """
        uses = Counter(each for node in self._nodes for each in inputs(node))
        results: dict[int, Any] = {-1: images}
        for index, node in enumerate(self._nodes):
            try:
                result = results[index] = self._result(node, results, len(images))
                if isinstance(node.function, Layer):
                    node.function.check(results[node.args[0].node])
            except FAULTS as error:
                said = " ".join(str(error).split())[:200]
                raise ValueError(f"nodes[{index}]: {node.op} does not take this: {said}") from None
            shapes.append(shape_of(result))
            self.image_bytes = max(self.image_bytes, sum(map(_bytes, results.values())) // len(images))
            if node.op in operators.IN_PLACE and self._may_be_written_over(node.args[0], result, results, uses):
                self._nodes[index] = replace(node, function=operators.overload(operators.IN_PLACE[node.op]))
            _let_go(node, results)
        return results[self._output]

    def _prepared(self, node: Node, weights: dict[str, torch.Tensor], index: int) -> Node:
        """With layers of 8 bits packed. The logits are not rounded to 16 bits."""
        operator = int8.OPERATORS.get(node.op)
        if operator is None:
            return node
        names = [argument.name for argument in operator._schema.arguments]
        said = {**dict(zip(names, node.args)), **node.kwargs}
        given = {name: weights[each.name] if isinstance(each, Weight) else each for name, each in said.items()}
        try:
            function = int8.prepared(node.op, given, torch.float32 if index == self._output else self.dtype)
        except FAULTS as error:
            raise ValueError(f"nodes[{index}]: {node.op}: {' '.join(str(error).split())[:200]}") from None
        if function is None:
            return node
        if not isinstance(said[names[0]], Ref):
            raise ValueError(f"nodes[{index}]: {node.op}: {names[0]}: a result is expected, and no weight")
        return replace(node, function=function, args=[said[names[0]]], kwargs={})

    def _may_be_written_over(self, first: Any, result: Any, results: dict[int, Any], uses: Counter[int]) -> bool:
        """Whether a result fits into the memory of the first argument, which is nobody else's, and needed no more."""
        if not isinstance(first, Ref) or first.node < 0 or uses[first.node] != 1:
            return False
        before, is_fresh = results[first.node], self._nodes[first.node].op in operators.FRESH
        return bool(is_fresh and before.shape == result.shape and before.dtype == result.dtype)

    def _result(self, node: Node, results: dict[int, Any], count: int) -> Any:
        if node is not self._head:
            return apply(node, results, self._weights, count)
        hidden = {each: results[each].float() for each in inputs(node)}
        with one_thread():  # several would add the products in another order: an answer must not hang on the load
            return apply(node, hidden, self._head_weights, count)

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 4:
            tensor = tensor.to(memory_format=torch.channels_last)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _of_head(self, tensor: torch.Tensor) -> torch.Tensor:
        """In bfloat16 a copy, else it keeps the whole file mapped; transposed, a weight multiplies faster."""
        if self.dtype == torch.float32:
            return tensor
        return tensor.t().contiguous().t() if tensor.dim() == 2 else tensor.clone()


def _names(nodes: list[Node]) -> set[str]:
    """Of the weights that they need."""
    values = [value for node in nodes for value in (*node.args, *node.kwargs.values())]
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return {each.name for each in flat if isinstance(each, Weight)}


def _let_go(node: Node, results: dict[int, Any]) -> None:
    for each in node.last:
        results.pop(each, None)


def _bytes(result: Any) -> int:
    if isinstance(result, torch.Tensor):
        return result.numel() * result.element_size()
    return sum(map(_bytes, result)) if isinstance(result, (list, tuple)) else 0


def bounded(device: torch.device) -> AbstractContextManager[None]:
    """MOST_BYTES of this process's memory; beside what CUDA reserves, that would mean nothing."""
    return memory_bound(MOST_BYTES) if device.type == "cpu" else nullcontext()


@contextmanager
def memory_bound(most: int) -> Iterator[None]:
    """Within it, this process gets at most so many bytes more, where the system can do that: then torch raises."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    soft, hard = before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + most
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(wanted, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
