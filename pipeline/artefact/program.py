"""A network as data: program.json, which operators are applied to what, and the tensors that they need.

torch.export traces the network once. What it leaves is made smaller and quicker here, once, instead of at each start:

- What does not depend on the images is computed (position biases, masks), in float64, so that it is the same on any
  processor but for one rounding.
- A batch norm after a convolution becomes a part of its weights: https://arxiv.org/abs/1712.05877, section 3.2.
- ReLU before max pooling changes places with it: the numbers are the same, and ReLU has a quarter of the work.
- Operators that write into their input are replaced by those that do not: a program cannot change its weights.

The format is in handler/vision/model/program.py, which reads it.
"""

from __future__ import annotations

import json
import operator
import os
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from pipeline.shared.errors import NotExportable

FORMAT = 1
MOST_IMAGES = 1024  # in a batch, as far as torch.export is told

# They do nothing when a network is only asked; the conversions among them, where they convert to the same type.
CONVERSIONS = {"_to_copy", "to", "type_as"}
IDENTITIES = CONVERSIONS | {
    *("alias", "contiguous", "clone", "detach", "dropout", "feature_dropout", "alpha_dropout", "lift_fresh_copy"),
}
# Parts of a network in a block of their own: with torch.autocast(enabled=False), with torch.no_grad().
BLOCKS = {"wrap_with_autocast", "wrap_with_set_grad_enabled"}
# Their second argument lends its shape alone.
LIKE_ANOTHER = {"expand_as": "expand", "view_as": "view", "reshape_as": "view"}
CHECKS = {"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size"}
# A number in place of their second tensor makes another form of them.
WITH_NUMBERS = ("add", "sub", "mul", "div")
# Tensors that are made on the spot. The first argument of new_… lends its type alone.
NEW_TENSORS: dict[str, Callable[..., torch.Tensor]] = {
    "zeros": torch.zeros,
    "ones": torch.ones,
    "full": torch.full,
    "new_zeros": torch.zeros,
    "new_ones": torch.ones,
    "new_full": torch.full,
}


@dataclass(frozen=True)
class Program:
    """graph: program.json. tensors: what it calls weights, float32 or whole numbers."""

    graph: bytes
    tensors: dict[str, np.ndarray]


def export(module: nn.Module, crop: int) -> Program:
    """A float32 network → its program, for images (N, 3, crop, crop).

    The same network gives the same bytes. Raises NotExportable where it is more than operators that are known, one
    after the other, for any number of images.
    """
    exported = _trace(module, crop)
    lowering = _Lowering(exported)
    nodes, output = lowering.run()
    nodes, output = _fold_batch_norms(nodes, output, lowering.tensors)
    _pool_first(nodes)
    nodes, output = _only_needed(nodes, output)
    graph = {"format": FORMAT, "side": crop, "nodes": [node.to_json() for node in nodes], "output": output}
    needed = sorted({name for node in nodes for name in node.weights})
    tensors = {name: np.ascontiguousarray(_as_stored(lowering.tensors[name]).numpy()) for name in needed}
    return Program((json.dumps(graph, indent=0, sort_keys=True) + "\n").encode(), tensors)


def _trace(module: nn.Module, crop: int) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about what torch will do one day
            return torch.export.export(module, (torch.zeros(2, 3, crop, crop),), dynamic_shapes=({0: batch},))
    except Exception as error:  # of any kind: it runs the network's own code
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise NotExportable(f"torch.export refuses it: {reason}") from error


# --- Nodes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ref:
    """The result of a node; -1 are the images."""

    node: int


@dataclass(frozen=True)
class Weight:
    name: str


@dataclass(frozen=True)
class Batch:
    """So many times the number of images."""

    times: int


@dataclass
class Node:
    """op: aten's name, `conv2d` or, where it has several forms, `add.Tensor`."""

    op: str
    args: list[Any]
    kwargs: dict[str, Any]

    @property
    def inputs(self) -> list[int]:
        return [value.node for value in _flat([self.args, self.kwargs]) if isinstance(value, Ref)]

    @property
    def weights(self) -> list[str]:
        return [value.name for value in _flat([self.args, self.kwargs]) if isinstance(value, Weight)]

    def to_json(self) -> list[Any]:
        return [self.op, _to_json(self.args), *([_to_json(self.kwargs)] if self.kwargs else [])]


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [inner for each in value for inner in _flat(each)]
    if isinstance(value, dict):
        return _flat(list(value.values()))
    return [value]


def _to_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_to_json(each) for each in value]
    if isinstance(value, dict):
        return {key: _to_json(each) for key, each in value.items()}
    match value:
        case Ref(node):
            return {"node": node}
        case Weight(name):
            return {"weight": name}
        case Batch(times):
            return {"batch": times}
    return value


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_mapped(each, change) for each in value]
    if isinstance(value, dict):
        return {key: _mapped(each, change) for key, each in value.items()}
    return change(value)


# --- torch.export's graph → nodes -------------------------------------------------------------------------------------


class _Lowering:
    """tensors: the weights so far, by their names; those that were computed here are float64."""

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        self._module = exported.graph_module
        signature = exported.graph_signature
        names = (
            dict(signature.inputs_to_parameters)
            | dict(signature.inputs_to_buffers)
            | dict(signature.inputs_to_lifted_tensor_constants)
        )
        if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
            raise NotExportable("it changes its own state when it is asked; call eval() before it is returned")
        held = {**exported.constants, **exported.state_dict}
        self.tensors: dict[str, torch.Tensor] = {}
        self._values: dict[fx.Node, Any] = {}  # Ref, a list of them, or torch.Tensor where no image is in it
        self._nodes: list[Node] = []
        self._kept: dict[int, Weight] = {}
        self._originals: dict[int, str] = {}
        self._alive: list[torch.Tensor] = []  # so that no id is given twice
        for node in self._module.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in names:
                tensor = held[names[node.name]].detach()
                self._values[node] = tensor
                self._originals[id(tensor)] = names[node.name]
                self._alive.append(tensor)
            elif node.name in signature.user_inputs:
                self._values[node] = Ref(-1)

    def run(self) -> tuple[list[Node], int]:
        """→ nodes, and which of them is the output."""
        return self._nodes, self._output(self._walked(self._module))

    def _walked(self, module: fx.GraphModule) -> Any:
        """→ what its graph returns, as torch.fx has it."""
        for node in module.graph.nodes:
            if node.op == "call_function":
                name = getattr(node.target, "__name__", "")
                self._values[node] = self._block(node) if name in BLOCKS else self._lowered(node)
            elif node.op == "output":
                return node.args[0]
            elif node.op == "get_attr":
                self._values[node] = getattr(module, str(node.target))
        raise AssertionError("a graph has an output")

    def _block(self, node: fx.Node) -> Any:
        """Its nodes, as if they stood where it stands."""
        arguments = [self._value(each) for each in node.args]
        at = next(index for index, each in enumerate(arguments) if isinstance(each, fx.GraphModule))
        if "autocast" in str(node.target) and arguments[2]:
            raise NotExportable("it computes a part in another precision (torch.autocast)", _place(node))
        inner, given = arguments[at], arguments[at + 1 :]
        inputs = [each for each in inner.graph.nodes if each.op == "placeholder"]
        self._values |= dict(zip(inputs, given, strict=True))
        return [self._value(each) for each in self._walked(inner)]

    def _output(self, outputs: Any) -> int:
        if len(outputs) != 1 or not isinstance(outputs[0], fx.Node):
            raise NotExportable("it does not return one tensor, the logits (N, classes)")
        found, shape = self._values[outputs[0]], outputs[0].meta["val"].shape
        if not isinstance(found, Ref) or found.node < 0 or len(shape) != 2 or isinstance(shape[1], torch.SymInt):
            raise NotExportable(f"it returns {tuple(map(str, shape))}, and not the logits (N, classes)")
        return found.node

    def _lowered(self, node: fx.Node) -> Any:
        if isinstance(node.meta.get("val"), torch.SymInt):
            return None  # where it is used, its value says how it hangs on the number of images
        name = _name(node)
        if name in CHECKS:
            return None
        args = _mapped(list(node.args), self._value)
        kwargs = {key: _mapped(value, self._value) for key, value in node.kwargs.items()}
        if node.target is operator.getitem and isinstance(args[0], list | tuple):
            return args[0][args[1]]
        if name in NEW_TENSORS:
            return self._new(name, args[name.startswith("new_") :], node)
        if not any(isinstance(value, Ref | Batch) for value in _flat([args, kwargs])):
            return self._computed(node, args, kwargs)
        if name in IDENTITIES or name.rstrip("_") in IDENTITIES:
            source: Any = node.args[0]
            if name in CONVERSIONS and source.meta["val"].dtype != node.meta["val"].dtype:
                raise NotExportable(f"it converts images to {node.meta['val'].dtype}", _place(node))
            return args[0]
        if name in LIKE_ANOTHER:
            shape = [self._size(size) for size in node.meta["val"].shape]
            return self._add(LIKE_ANOTHER[name], [self._as_argument(args[0]), shape], {})
        return self._applied(node, name, args, kwargs)

    def _new(self, name: str, args: list[Any], node: fx.Node) -> Any:
        """One for each image is one, expanded."""
        kind = node.meta["val"].dtype
        made = NEW_TENSORS[name](
            [1 if isinstance(size, Batch) else size for size in args[0]],
            *args[1:],
            dtype=torch.float64 if kind == torch.float32 else kind,
        )
        return made if Batch not in map(type, args[0]) else self._add("expand", [self._as_argument(made), args[0]], {})

    def _computed(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What hangs on no image."""
        double = lambda value: (  # noqa: E731
            value.double() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value
        )
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        target: Any = node.target
        with torch.no_grad():
            return target(*_mapped(args, double), **_mapped(kwargs, double))

    def _applied(self, node: fx.Node, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        target: Any = node.target
        if name.endswith("_") and target is not operator.getitem:
            written, name = node.args[0], name[:-1]
        else:
            written = None
        overload = "" if target is operator.getitem else target._overloadname
        op = name if overload in ("", "default") else f"{name}.{overload}"
        if name in WITH_NUMBERS and isinstance(args[1], int | float):
            op = f"{name}.Scalar"
        args = [self._as_argument(value) for value in args]
        kwargs = {key: self._as_argument(value) for key, value in kwargs.items() if key != "pin_memory"}
        if any(isinstance(value, torch.dtype | torch.device | torch.layout) for value in _flat([args, kwargs])):
            raise NotExportable(f"it chooses a type or a device itself (aten.{op})", _place(node))
        result: Any = self._add(op, args, kwargs)
        if isinstance(written, fx.Node):
            self._values[written] = result
        if isinstance(node.meta.get("val"), list | tuple):
            return [self._add("getitem", [result, index], {}) for index in range(len(node.meta["val"]))]
        return result

    def _add(self, op: str, args: list[Any], kwargs: dict[str, Any]) -> Ref:
        self._nodes.append(Node(op, args, kwargs))
        return Ref(len(self._nodes) - 1)

    def _value(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            found = argument.meta.get("val")
            if isinstance(found, torch.SymInt):
                return self._size(found)
            return self._values[argument]
        return argument

    def _size(self, size: Any) -> Any:
        """A number, or a multiple of the number of images."""
        if not isinstance(size, torch.SymInt):
            return size
        expression = size.node.expr
        (symbol,) = expression.free_symbols
        times = expression.subs(symbol, 1)
        if expression != times * symbol or int(times) != times:
            raise NotExportable(f"it computes a size from the number of images in its own way ({expression})")
        return Batch(int(times))

    def _as_argument(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._as_argument(each) for each in value]
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in self._kept:
            name = self._originals.get(id(value)) or f"computed.{sum(n.startswith('computed.') for n in self.tensors)}"
            self.tensors[name] = value
            self._kept[id(value)] = Weight(name)
            self._alive.append(value)
        return self._kept[id(value)]


def _name(node: fx.Node) -> str:
    """`conv2d`, of aten.conv2d.default. Raises NotExportable for what is not aten's."""
    if node.target is operator.getitem:
        return "getitem"
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        raise NotExportable(f"it has an operator of its own ({target})", _place(node))
    return str(target._schema.name.partition("::")[2])


def _place(node: fx.Node) -> str:
    """FILE:LINE of the network's code that asked for it, or nothing."""
    lines = [line for line in (node.stack_trace or "").splitlines() if line.lstrip().startswith("File ")]
    if not lines:
        return ""
    file, line = lines[-1].split('"')[1], lines[-1].rpartition("line ")[2].partition(",")[0]
    return f"{os.path.basename(file)}:{line}"


def _as_stored(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


# --- Fewer and quicker nodes ------------------------------------------------------------------------------------------


def _fold_batch_norms(nodes: list[Node], output: int, tensors: dict[str, torch.Tensor]) -> tuple[list[Node], int]:
    """conv2d or linear, and batch_norm of nothing else → the former alone, with weights of its own."""
    users = Counter(index for node in nodes for index in node.inputs)
    owners = Counter(name for node in nodes for name in node.weights)
    becomes: dict[int, int] = {}
    for index, node in enumerate(nodes):
        if node.op != "batch_norm" or node.inputs[:1] == [-1]:
            continue
        before = node.inputs[0]
        layer = nodes[before]
        if layer.op not in ("conv2d", "linear") or users[before] != 1 or before in becomes:
            continue
        weight = layer.args[1]
        if not isinstance(weight, Weight) or owners[weight.name] != 1:
            continue
        scale, shift = _scale_and_shift(node, tensors)
        bias = layer.args[2] if len(layer.args) > 2 and layer.args[2] is not None else None
        old = tensors[bias.name].double() if bias else 0.0
        folded = tensors[weight.name].double()
        tensors[weight.name] = folded * scale.view(-1, *[1] * (folded.dim() - 1))
        name = bias.name if bias and owners[bias.name] == 1 else f"{weight.name.removesuffix('.weight')}.folded_bias"
        tensors[name] = old * scale + shift
        layer.args = [*layer.args[:2], Weight(name), *layer.args[3:]]
        becomes[index] = before
    return [_renamed(node, becomes) for node in nodes], becomes.get(output, output)


def _scale_and_shift(norm: Node, tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, …) → per channel, float64."""
    gamma, beta, mean, var = (value and tensors[value.name].double() for value in norm.args[1:5])
    assert mean is not None, "torch.export has batch_norm by its own batch as another operator"
    assert var is not None
    scale = 1 / torch.sqrt(var + norm.args[7])
    scale = scale if gamma is None else scale * gamma
    shift = -mean * scale
    return scale, shift if beta is None else shift + beta


def _pool_first(nodes: list[Node]) -> None:
    """max_pool2d of a ReLU of nothing else → the ReLU of the max_pool2d."""
    users = Counter(index for node in nodes for index in node.inputs)
    for index, pool in enumerate(nodes):
        before = pool.inputs[0] if pool.op == "max_pool2d" else -1
        if before >= 0 and nodes[before].op == "relu" and users[before] == 1:
            nodes[before] = Node("max_pool2d", [nodes[before].args[0], *pool.args[1:]], pool.kwargs)
            nodes[index] = Node("relu", [Ref(before)], {})


def _renamed(node: Node, becomes: dict[int, int]) -> Node:
    def change(value: Any) -> Any:
        return Ref(becomes.get(value.node, value.node)) if isinstance(value, Ref) else value

    return Node(node.op, _mapped(node.args, change), _mapped(node.kwargs, change))


def _only_needed(nodes: list[Node], output: int) -> tuple[list[Node], int]:
    """Without the nodes that the output does not hang on."""
    needed, left = set(), [output]
    while left:
        index = left.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            left += nodes[index].inputs
    order = sorted(needed)
    becomes = {old: new for new, old in enumerate(order)} | {-1: -1}
    return [_renamed(nodes[index], becomes) for index in order], becomes[output]
