"""A float program and photographs → the int8 program, in the format that handler/vision/model/program.py reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.artefact.int8.equalisation import equalise
from pipeline.artefact.int8.evaluation import Watch, as_float64, convolution, evaluate
from pipeline.artefact.int8.pixels import on_pixels
from pipeline.artefact.int8.plan import LAYERS, POOL, Layer, Plan, arguments, plan, pooling, relu_first, simplified
from pipeline.artefact.int8.rounding import rounded_bias, rounded_weights
from pipeline.artefact.int8.statistics import Scales, Taken, batches, ranges_of, scales_of, taken_by_layers
from pipeline.artefact.model import Preprocessing
from pipeline.artefact.nodes import Node, Ref, Weight, mapped
from pipeline.artefact.program import Program, program_text
from pipeline.artefact.simplified import only_needed
from pipeline.shared.errors import NotExportable

PIXELS = {"input": "uint8"}  # not in program.json


def quantised(
    program: Program,
    preprocessing: Preprocessing,
    pixels: np.ndarray,
    kinds: frozenset[str] = LAYERS,
    say: Callable[[str], None] = lambda _: None,
) -> Program:
    """pixels: uint8 (N, side, side, 3), of photographs. kinds: the operators that become int8, from `plan.LAYERS`.

    The same photographs make the same program on any processor. Raises NotExportable if nothing can be int8.
    """
    tensors = as_float64(program.tensors)
    found = plan(*_prepared(program, tensors, preprocessing), kinds)
    if not found.layers:
        raise NotExportable("nothing in it can be int8; only convolutions and linear layers of (N, in) can")
    _give_own_weights(found, tensors)
    logits = torch.zeros((), dtype=torch.float64)

    def run(watch: Watch) -> None:
        nonlocal logits
        logits = torch.cat([evaluate(found.nodes, found.output, tensors, batch, watch) for batch in batches(pixels)])

    say("int8: measuring ranges on the photographs")
    ranges = ranges_of(run, found)
    equalise(found, tensors, ranges)
    scales = scales_of(found, ranges)
    say("int8: measuring each layer's mean inputs")
    taken = taken_by_layers(run, found, scales)
    say("int8: rounding the weights")
    made, last_bias = _rounded(found, tensors, scales, taken)
    if last_bias is None:
        return _packed(*made, program.side)
    say("int8: correcting the mean error of rounding")
    nodes, output, own = made
    held = as_float64(own)
    answers = torch.cat([evaluate(nodes, output, held, batch) for batch in batches(pixels)])
    own[last_bias] = rounded_bias(held[last_bias] + (logits - answers).mean(dim=0)).numpy()
    return _packed(nodes, output, own, program.side)


def _prepared(
    program: Program, tensors: dict[str, torch.Tensor], preprocessing: Preprocessing
) -> tuple[list[Node], int]:
    """Ready for planning: takes pixels, has no operators without effect, and ReLUs directly after int8 layers."""
    shapes: dict[int, tuple[int, ...]] = {}
    one = torch.zeros(1, 3, program.side, program.side, dtype=torch.float64)
    evaluate(program.nodes, program.output, tensors, one, lambda index, result: shapes.update({index: result.shape}))
    nodes, output = simplified(program.nodes, program.output, shapes)
    nodes, output = only_needed(relu_first(nodes, output), output)
    return on_pixels(nodes, output, tensors, preprocessing)


def _give_own_weights(found: Plan, tensors: dict[str, torch.Tensor]) -> None:
    """Gives each layer a weight and a bias that it shares with nobody."""
    for layer in found.layers.values():
        node = found.nodes[layer.node]
        given = arguments(node)
        weight, bias = given[1], given[2]
        assert isinstance(weight, Weight), "it is a layer"
        name = f"{layer.node}:{weight.name.partition(':')[0]}"
        tensors[name] = tensors[weight.name]
        outputs = len(tensors[name])
        tensors[f"{name}:bias"] = (
            tensors[bias.name] if isinstance(bias, Weight) else torch.zeros(outputs, dtype=torch.float64)
        )
        found.nodes[layer.node] = Node(
            node.op, [given[0], Weight(name), Weight(f"{name}:bias"), *given[3:]], {}, node.place, node.rank
        )


# --- The int8 program -------------------------------------------------------------------------------------------------


def _rounded(
    found: Plan, tensors: dict[str, torch.Tensor], scales: Scales, taken: dict[int, Taken]
) -> tuple[tuple[list[Node], int, dict[str, np.ndarray]], str | None]:
    """→ nodes, output and tensors; and the name of the bias that is added last of all, if there is one."""
    nodes: list[Node] = []
    own: dict[str, np.ndarray] = {}
    now: dict[int, int] = {-1: -1}  # a node of the float program → its node here
    rounded: dict[int, int] = {}  # and → the node that rounds it for an int8 layer
    within = {layer.node for layer in found.layers.values()} - found.layers.keys()

    def add(op: str, args: list[Any], node: Node, kwargs: dict[str, Any] | None = None) -> int:
        nodes.append(Node(op, args, kwargs or {}, node.place, node.rank))
        return len(nodes) - 1

    def input_of(layer: Layer) -> list[Any]:
        index = found.input_of(layer)
        if found.are_pixels(index):
            return [Ref(now[index]), 1.0, 0]
        scale, zero_point = scales[found.scale_of[index]]
        if index in found.bytes:
            return [Ref(now[index]), scale, zero_point]
        if index not in rounded:
            rounded[index] = add("int8.quantize", [Ref(now[index]), scale, zero_point], found.nodes[layer.node])
        return [Ref(rounded[index]), scale, zero_point]

    for index, node in enumerate(found.nodes):
        if index in within:
            continue
        if layer := found.layers.get(index):
            result: list[Any] = [*scales[found.scale_of[index]]] if index in found.bytes else [None, 0]
            weights = _layers_weights(found, layer, tensors, taken[found.input_of(layer)])
            own |= weights
            others = arguments(found.nodes[layer.node])[3:] if found.nodes[layer.node].op == "conv2d" else []
            op = f"int8.{found.nodes[layer.node].op}"
            now[index] = add(
                op, [*input_of(layer), *map(Weight, weights), *others, layer.relu, *result], found.nodes[layer.node]
            )
            continue

        def change(value: Any) -> Any:
            return Ref(now[value.node]) if isinstance(value, Ref) else value

        args, kwargs = mapped(node.args, change), mapped(node.kwargs, change)
        if index in found.bytes and node.op == POOL:
            sizes = [[each[0], each[-1]] for each in pooling(node)[1:4]]
            now[index] = add("int8.max_pool2d", [args[0], *sizes], node)
        else:
            now[index] = add(node.op, args, node, kwargs)
            own |= {
                name: tensors[name].float().numpy() if tensors[name].is_floating_point() else tensors[name].numpy()
                for name in node.weights
            }
    last = nodes[now[found.output]]
    last_bias = last.weights[-1] if last.op in ("int8.conv2d", "int8.linear") else None
    return (nodes, now[found.output], own), last_bias


def _layers_weights(found: Plan, layer: Layer, tensors: dict[str, torch.Tensor], taken: Taken) -> dict[str, np.ndarray]:
    """A layer's weight, int8; its scale and bias for each output, float32. In this order, by name."""
    name, bias_name = found.weights_of(layer.node)
    weight = tensors[name]
    whole, scale = rounded_weights(weight.numpy())
    real = torch.from_numpy(whole).double() * torch.from_numpy(scale).double().view(-1, *[1] * (weight.dim() - 1))
    node = found.nodes[layer.node]
    # The bias compensates for rounding's mean error: https://arxiv.org/abs/1906.04721, section 4.2.
    moved = _applied(node, taken.real, weight) - _applied(node, taken.rounded, real)
    bias = tensors[bias_name] + moved
    return {name: whole, f"{name}:scale": scale, bias_name: rounded_bias(bias).numpy()}


def _applied(node: Node, taken: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A layer's mean output for mean inputs: it is linear."""
    if node.op == "linear":
        return functional.linear(taken, weight)
    _, _, _, stride, padding, dilation, groups = arguments(node)
    return convolution(taken[None], weight, None, stride, padding, dilation, groups)[0].mean(dim=(1, 2))


def _packed(nodes: list[Node], output: int, tensors: dict[str, np.ndarray], side: int) -> Program:
    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    text = program_text(nodes, output, side, PIXELS)
    return Program(text, contiguous, tuple(node.place for node in nodes), nodes, output, side)
