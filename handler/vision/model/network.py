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

MOST_BYTES = 4 * 2**30  # for two images; torchvision's largest network needs 0.3 GB for them
FAULTS = (
    RuntimeError,
    IndexError,
    TypeError,
    ValueError,
    NotImplementedError,
    MemoryError,
)  # raised by torch and the code it calls


class Network:
    """weights: by name, float32 or integers, possibly still memory-mapped from a file.

    precision: `float32`, or `bfloat16` but for the last layer: rounding logits costs more accuracy than it saves time.
    In a program on pixels, it applies to everything that is not 8-bit.

    The program is tried once, with two images, within MOST_BYTES of memory. That sets `classes`; `image_bytes`, the
    peak memory of results per image; and `layer`, the last one that is a map of the picture, or None.
    Raises ValueError if the program cannot be run.
    """

    def __init__(
        self, program: Program, weights: dict[str, torch.Tensor], precision: str, device: torch.device
    ) -> None:
        self.on_pixels = program.on_pixels
        self.dtype = torch.bfloat16 if precision == BFLOAT16 else torch.float32
        self._nodes, self._output, self._head = list(program.nodes), program.output, program.head
        if program.on_pixels:
            self._nodes = [self._prepared(node, weights, index) for index, node in enumerate(program.nodes)]
        self._as_packed = program.nodes  # no node in it overwrites another's result
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
        assert logits.shape == (len(images), self.classes), "one row per image"
        return logits

    def traced_back(self, images: torch.Tensor, class_index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The output of `layer` for normalised images, and the gradient of a class's logits there, of the same shape.

        Differentiates only what comes after the layer. Raises RuntimeError if torch cannot do that.
        """
        assert self.layer is not None, "only called if there is such a layer"
        results: dict[int, Any] = {-1: images}
        with torch.no_grad():  # results of inference mode could not be differentiated
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
        """Runs the program, and notes its memory and which operators may work in place.

        shapes: receives the shape of each result.
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
                raise ValueError(f"nodes[{index}]: {node.op} does not accept its input: {said}") from None
            shapes.append(shape_of(result))
            self.image_bytes = max(self.image_bytes, sum(map(_bytes, results.values())) // len(images))
            if node.op in operators.IN_PLACE and self._may_be_written_over(node.args[0], result, results, uses):
                self._nodes[index] = replace(node, function=operators.overload(operators.IN_PLACE[node.op]))
            _let_go(node, results)
        return results[self._output]

    def _prepared(self, node: Node, weights: dict[str, torch.Tensor], index: int) -> Node:
        """The node with an 8-bit layer packed. Logits are not rounded to 16 bits."""
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
            raise ValueError(f"nodes[{index}]: {node.op}: {names[0]}: a result is expected, not a weight")
        return replace(node, function=function, args=[said[names[0]]], kwargs={})

    def _may_be_written_over(self, first: Any, result: Any, results: dict[int, Any], uses: Counter[int]) -> bool:
        """Whether a result fits into the memory of the first argument, and nothing else needs that argument."""
        if not isinstance(first, Ref) or first.node < 0 or uses[first.node] != 1:
            return False
        before, is_fresh = results[first.node], self._nodes[first.node].op in operators.FRESH
        return bool(is_fresh and before.shape == result.shape and before.dtype == result.dtype)

    def _result(self, node: Node, results: dict[int, Any], count: int) -> Any:
        if node is not self._head:
            return apply(node, results, self._weights, count)
        hidden = {each: results[each].float() for each in inputs(node)}
        with one_thread():  # several would add in another order, and an answer must not depend on the load
            return apply(node, hidden, self._head_weights, count)

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 4:
            tensor = tensor.to(memory_format=torch.channels_last)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _of_head(self, tensor: torch.Tensor) -> torch.Tensor:
        """With bfloat16, a copy: otherwise the whole file would stay mapped. A transposed weight multiplies faster."""
        if self.dtype == torch.float32:
            return tensor
        return tensor.t().contiguous().t() if tensor.dim() == 2 else tensor.clone()


def _names(nodes: list[Node]) -> set[str]:
    """The names of the weights that the nodes need."""
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
    """Limits this process to MOST_BYTES more memory. Not with CUDA, whose reservations would make that meaningless."""
    return memory_bound(MOST_BYTES) if device.type == "cpu" else nullcontext()


@contextmanager
def memory_bound(most: int) -> Iterator[None]:
    """Lets this process allocate at most so many more bytes, if the system supports that; beyond it, torch raises."""
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
