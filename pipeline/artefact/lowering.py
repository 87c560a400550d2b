"""torch.export's graph → nodes, and the tensors that they need. What does not depend on the images is computed here."""

from __future__ import annotations

import operator
import os
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import fx

from pipeline.artefact.nodes import Batch, Node, Ref, Weight, flat, mapped
from pipeline.shared.errors import NotExportable

# These can draw random numbers, but do not in inference.
SILENT = {"dropout", "feature_dropout", "alpha_dropout", "scaled_dot_product_attention"}
# These do nothing in inference; conversions do nothing if they convert to the same type.
CONVERSIONS = {"_to_copy", "to", "type_as"}
IDENTITIES = CONVERSIONS | {
    *("alias", "contiguous", "clone", "detach", "lift_fresh_copy", "dropout", "feature_dropout", "alpha_dropout"),
}
COPIES = {"clone", "lift_fresh_copy"}
# Parts of a network that are blocks: with torch.autocast(enabled=False), with torch.no_grad().
BLOCKS = {"wrap_with_autocast", "wrap_with_set_grad_enabled"}
# Only the shape of their second argument matters.
LIKE_ANOTHER = {"expand_as": "expand", "view_as": "view", "reshape_as": "view"}
CHECKS = {"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size"}
# These have another overload if the second argument is a number, not a tensor.
WITH_NUMBERS = ("add", "sub", "mul", "div")
# These create tensors. Only the type of new_…'s first argument matters.
NEW_TENSORS: dict[str, Callable[..., torch.Tensor]] = {
    "zeros": torch.zeros,
    "ones": torch.ones,
    "full": torch.full,
    "new_zeros": torch.zeros,
    "new_ones": torch.ones,
    "new_full": torch.full,
}


class Lowering:
    """tensors: the weights so far, by name; those that were computed here are float64."""

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        self._module = exported.graph_module
        signature = exported.graph_signature
        names = (
            dict(signature.inputs_to_parameters)
            | dict(signature.inputs_to_buffers)
            | dict(signature.inputs_to_lifted_tensor_constants)
        )
        held = {**exported.constants, **exported.state_dict}
        self.tensors: dict[str, torch.Tensor] = {}
        self._values: dict[fx.Node, Any] = {}  # Ref, a list of them, or torch.Tensor if independent of the images
        self._nodes: list[Node] = []
        self._place = ""
        self._numbers = count()  # for the names of computed tensors
        self._copies: set[fx.Node] = set()
        self._order = {node: index for index, node in enumerate(self._module.graph.nodes)}
        self._sharing: dict[int | None, list[fx.Node]] = defaultdict(list)  # by their memory
        self._named: dict[int, list[fx.Node]] = defaultdict(list)  # by their node in the program
        for node in self._order:
            self._sharing[_memory(node)].append(node)
        self._batch: Any = None  # torch.export's symbol for the number of images
        self._kept: dict[int, Weight] = {}
        self._originals: dict[int, str] = {}
        self._alive: list[torch.Tensor] = []  # so that no id() is reused
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
                self._batch = node.meta["val"].shape[0].node.expr

    def run(self) -> tuple[list[Node], int]:
        """→ the nodes, and the index of the output."""
        return self._nodes, self._output(self._walked(self._module))

    def _walked(self, module: fx.GraphModule) -> Any:
        """→ what its graph returns, in torch.fx's form."""
        for node in module.graph.nodes:
            if node.op == "call_function":
                self._place = _place(node) or self._place
                name = getattr(node.target, "__name__", "")
                value = self._values[node] = self._block(node) if name in BLOCKS else self._lowered(node)
                if isinstance(value, Ref):
                    self._named[value.node].append(node)
            elif node.op == "output":
                return node.args[0]
            elif node.op == "get_attr":
                self._values[node] = getattr(module, str(node.target))
        raise AssertionError("a graph has an output")

    def _block(self, node: fx.Node) -> Any:
        """Inlines its nodes."""
        arguments = [self._value(each) for each in node.args]
        at = next(index for index, each in enumerate(arguments) if isinstance(each, fx.GraphModule))
        if "autocast" in str(node.target) and arguments[2]:
            raise NotExportable("it computes part of its answer in another precision (torch.autocast)", self._place)
        inner, given = arguments[at], arguments[at + 1 :]
        inputs = [each for each in inner.graph.nodes if each.op == "placeholder"]
        self._values |= dict(zip(inputs, given, strict=True))
        return [self._value(each) for each in self._walked(inner)]

    def _output(self, outputs: Any) -> int:
        if len(outputs) != 1 or not isinstance(outputs[0], fx.Node):
            raise NotExportable("it does not return one tensor, the logits (N, classes)")
        found, shape = self._values[outputs[0]], outputs[0].meta["val"].shape
        if not isinstance(found, Ref) or found.node < 0 or len(shape) != 2 or isinstance(shape[1], torch.SymInt):
            raise NotExportable(f"it returns {tuple(map(str, shape))}, not the logits (N, classes)")
        return found.node

    def _lowered(self, node: fx.Node) -> Any:
        if isinstance(node.meta.get("val"), torch.SymInt):
            return None  # its users see from its value how it depends on the number of images
        name = self._name(node)
        if name in CHECKS:
            return None
        args = mapped(list(node.args), self._value)
        kwargs = {key: mapped(value, self._value) for key, value in node.kwargs.items()}
        if node.target is operator.getitem and isinstance(args[0], list | tuple):
            return args[0][args[1]]
        if name in NEW_TENSORS:
            return self._new(name, args[name.startswith("new_") :], node)
        of_images = any(isinstance(value, Ref | Batch) for value in flat([args, kwargs]))
        self._check_written(node, of_images)
        if not of_images:
            return self._computed(node, args, kwargs)
        if name.rstrip("_") in SILENT and args[2:3] == [True]:
            raise NotExportable(f"it draws random numbers (aten.{name}: give it training=self.training)", self._place)
        if name in IDENTITIES or name.rstrip("_") in IDENTITIES:
            source: Any = node.args[0]
            if name in COPIES:
                self._copies.add(node)
            if name in CONVERSIONS and source.meta["val"].dtype != node.meta["val"].dtype:
                raise NotExportable(f"it converts images to {node.meta['val'].dtype}", self._place)
            return args[0]
        if name in LIKE_ANOTHER:
            shape = [self._size(size) for size in node.meta["val"].shape]
            return self._add(LIKE_ANOTHER[name], [self._as_argument(args[0]), shape], {})
        return self._applied(node, name, args, kwargs)

    def _name(self, node: fx.Node) -> str:
        """aten.conv2d.default → `conv2d`. Raises NotExportable for operators that are not aten's."""
        if node.target is operator.getitem:
            return "getitem"
        target: Any = node.target
        if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
            raise NotExportable(f"it has a custom operator ({target})", self._place)
        name = str(target._schema.name.partition("::")[2])
        if torch.Tag.nondeterministic_seeded in target.tags and name.rstrip("_") not in SILENT:
            raise NotExportable(f"it draws random numbers (aten.{name})", self._place)
        return name

    def _check_written(self, node: fx.Node, of_images: bool) -> None:
        """Raises NotExportable if an operator writes into memory that is read later under another name: a program has
        no memory, so that name would keep its old value. Tensors independent of the images really are written into.
        """
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable:
            return
        written: Any = node.args[0]
        value = self._values.get(written)
        same = (
            [each for each in self._named.get(value.node, ()) if each not in self._copies]
            if isinstance(value, Ref)
            else []
        )
        if written.op == "placeholder" and value != Ref(-1):
            raise NotExportable(
                "it changes its own state in inference: is it in training mode? call eval() before returning it",
                self._place,
            )
        for other in {*self._sharing.get(_memory(written) or 0, ()), *(same if written not in self._copies else ())}:
            if other is written:
                continue
            if other.op == "placeholder" and self._values.get(other) != Ref(-1):
                raise NotExportable(
                    "it changes its own state in inference: is it in training mode? call eval() before returning it",
                    self._place,
                )
            before = self._order[other] < self._order.get(node, 0)
            if of_images and before and self._is_read_after(other, node):
                raise NotExportable(f"it writes into part of a tensor ({node.target})", self._place)

    def _is_read_after(self, node: fx.Node, now: fx.Node) -> bool:
        return any(self._order.get(user, 0) > self._order.get(now, 0) for user in node.users)

    def _new(self, name: str, args: list[Any], node: fx.Node) -> Any:
        """A tensor with one row for each image is made with one row, and expanded."""
        kind = node.meta["val"].dtype
        made = NEW_TENSORS[name](
            [1 if isinstance(size, Batch) else size for size in args[0]],
            *args[1:],
            dtype=torch.float64 if kind == torch.float32 else kind,
        )
        return made if Batch not in map(type, args[0]) else self._add("expand", [self._as_argument(made), args[0]], {})

    def _computed(self, node: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Computes a value that does not depend on the images."""
        double = lambda value: (  # noqa: E731
            value.double() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value
        )
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        target: Any = node.target
        with torch.no_grad():
            return target(*mapped(args, double), **mapped(kwargs, double))

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
        if name == "batch_norm" and args[5]:
            raise NotExportable(
                "its batch norm uses the statistics of each batch, not those from training", self._place
            )
        if any(isinstance(value, torch.dtype | torch.device | torch.layout) for value in flat([args, kwargs])):
            raise NotExportable(f"it chooses a type or a device on its own (aten.{op})", self._place)
        found = node.meta.get("val")
        result: Any = self._add(op, args, kwargs, found.dim() if isinstance(found, torch.Tensor) else 0)
        if isinstance(written, fx.Node):
            self._values[written] = result
        if isinstance(node.meta.get("val"), list | tuple):
            return [self._add("getitem", [result, index], {}) for index in range(len(node.meta["val"]))]
        return result

    def _add(self, op: str, args: list[Any], kwargs: dict[str, Any], rank: int = 0) -> Ref:
        self._nodes.append(Node(op, args, kwargs, self._place, rank))
        return Ref(len(self._nodes) - 1)

    def _value(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            found = argument.meta.get("val")
            if isinstance(found, torch.SymInt):
                return self._size(found)
            return self._values[argument]
        return argument

    def _size(self, size: Any) -> Any:
        """An integer, or a multiple of the number of images."""
        if not isinstance(size, torch.SymInt):
            return size
        expression = size.node.expr
        if not expression.free_symbols:
            return int(expression)
        times = expression.subs(self._batch, 1)
        if times.free_symbols or expression != times * self._batch or int(times) != times:
            raise NotExportable(f"it computes a size in an unsupported way ({expression})", self._place)
        return Batch(int(times))

    def _as_argument(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._as_argument(each) for each in value]
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in self._kept:
            name = self._originals.get(id(value)) or f"computed:{next(self._numbers)}"
            self.tensors[name] = value
            self._kept[id(value)] = Weight(name)
            self._alive.append(value)
        return self._kept[id(value)]


def _memory(node: fx.Node) -> int | None:
    """A key that is equal for nodes that share memory."""
    value = node.meta.get("val")
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None


def _place(node: fx.Node) -> str:
    """FILE:LINE in the network's code, or empty."""
    lines = [line for line in (node.stack_trace or "").splitlines() if line.lstrip().startswith("File ")]
    if not lines:
        return ""
    file, line = lines[-1].split('"')[1], lines[-1].rpartition("line ")[2].partition(",")[0]
    return f"{os.path.basename(file)}:{line}"
