"""Replaces nodes by fewer and faster ones that compute the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from pipeline.artefact.nodes import Node, Ref, Weight, mapped


def fold_batch_norms(nodes: list[Node], output: int, tensors: dict[str, torch.Tensor]) -> tuple[list[Node], int]:
    """conv2d or linear followed by a batch_norm → only the first, with new weights, if nothing else needs either."""
    users = _users(nodes, output)
    owners = Counter(name for node in nodes for name in node.weights)
    becomes: dict[int, int] = {}
    for index, node in enumerate(nodes):
        if node.op != "batch_norm" or node.inputs[:1] == [-1]:
            continue
        before = node.inputs[0]
        layer = nodes[before]
        # If a linear layer's result has more dimensions, batch_norm takes another one as the channels.
        is_layer = layer.op == "conv2d" or (layer.op == "linear" and layer.rank == 2)
        if not is_layer or users[before] != 1 or before in becomes:
            continue
        weight = layer.args[1]
        if not isinstance(weight, Weight) or owners[weight.name] != 1:
            continue
        scale, shift = _scale_and_shift(node, tensors)
        bias = layer.args[2] if len(layer.args) > 2 and layer.args[2] is not None else None
        old = tensors[bias.name].double() if bias else 0.0
        folded = tensors[weight.name].double()
        tensors[weight.name] = folded * scale.view(-1, *[1] * (folded.dim() - 1))
        name = bias.name if bias and owners[bias.name] == 1 else f"{weight.name.removesuffix('.weight')}:bias"
        tensors[name] = old * scale + shift
        layer.args = [*layer.args[:2], Weight(name), *layer.args[3:]]
        becomes[index] = before
    return [_renamed(node, becomes) for node in nodes], becomes.get(output, output)


def _users(nodes: list[Node], output: int) -> Counter[int]:
    """How often each result is needed; the output also by the caller."""
    return Counter([*(index for node in nodes for index in node.inputs), output])


def _scale_and_shift(norm: Node, tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, …) → per channel, float64."""
    gamma, beta, mean, var = (value and tensors[value.name].double() for value in norm.args[1:5])
    assert mean is not None, "torch.export has another operator for batch_norm with the batch's statistics"
    assert var is not None
    scale = 1 / torch.sqrt(var + norm.args[7])
    scale = scale if gamma is None else scale * gamma
    shift = -mean * scale
    return scale, shift if beta is None else shift + beta


def pool_first(nodes: list[Node], output: int) -> None:
    """max_pool2d of a ReLU that nothing else needs → the ReLU of the max_pool2d."""
    users = _users(nodes, output)
    for index, pool in enumerate(nodes):
        before = pool.inputs[0] if pool.op == "max_pool2d" else -1
        if before >= 0 and nodes[before].op == "relu" and users[before] == 1:
            nodes[before] = Node(
                "max_pool2d", [nodes[before].args[0], *pool.args[1:]], pool.kwargs, pool.place, pool.rank
            )
            nodes[index] = Node("relu", [Ref(before)], {}, pool.place, pool.rank)


def _renamed(node: Node, becomes: dict[int, int]) -> Node:
    def change(value: Any) -> Any:
        return Ref(becomes.get(value.node, value.node)) if isinstance(value, Ref) else value

    return Node(node.op, mapped(node.args, change), mapped(node.kwargs, change), node.place, node.rank)


def only_needed(nodes: list[Node], output: int) -> tuple[list[Node], int]:
    """Removes the nodes that the output does not depend on."""
    needed, left = set(), [output]
    while left:
        index = left.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            left += nodes[index].inputs
    order = sorted(needed)
    becomes = {old: new for new, old in enumerate(order)} | {-1: -1}
    return [_renamed(nodes[index], becomes) for index in order], becomes[output]
