"""Widens channels with narrow ranges, so that one scale fits all: https://arxiv.org/abs/1906.04721, section 4.1.

If only ReLU, pooling and flattening are between two layers, a channel may be divided by any positive number in the
first layer's weights and multiplied by it in the second's: the network stays the same. Weights have a scale for each
output, so the ranges of the values between the layers gain, at the expense of the second layer's inputs.
"""

from __future__ import annotations

from collections import defaultdict

import torch

from pipeline.artefact.int8.plan import POOL, Plan, users_of
from pipeline.artefact.int8.statistics import Ranges

# Factors are approximately powers of the fourth root of two. They have few bits, so that every processor rounds them,
# and what they divide, in the same way.
QUARTERS = torch.tensor([1, 1.1875, 1.40625, 1.6875], dtype=torch.float64)
MOST_STEPS = 4 * len(QUARTERS)


def equalise(plan: Plan, tensors: dict[str, torch.Tensor], ranges: Ranges) -> None:
    """Changes the layers' weights and biases, float64, and the ranges of their values. No layer shares a tensor."""
    users, members = users_of(plan.nodes), defaultdict(list)
    for index in sorted(plan.bytes):
        members[plan.scale_of[index]].append(index)
    layers = {layer.node: layer for layer in plan.layers.values()}
    for group in members.values():
        makers = [index for index in group if index in plan.layers]
        if len(makers) != 1 or plan.layers[makers[0]].at_most is not None:
            continue
        if not all(index == makers[0] or _keeps_channels(plan, index) for index in group):
            continue
        least, most = ranges[makers[0]]
        consumers = [layers[user].node for index in group for user in users[index] if user in layers]
        inputs = [_inputs(plan, tensors, each).view(len(most), -1).amax(dim=1) for each in consumers]
        factors = _factors(torch.maximum(-least, most), torch.stack(inputs).amax(dim=0))
        weight, bias = plan.weights_of(plan.layers[makers[0]].node)
        tensors[weight] = tensors[weight] / factors.view(-1, *[1] * (tensors[weight].dim() - 1))
        tensors[bias] = tensors[bias] / factors
        ranges[makers[0]] = least / factors, most / factors
        for each in consumers:
            name, _ = plan.weights_of(each)
            rows = _by_input(plan, tensors, each)
            tensors[name] = (rows * _for_each_input(factors, rows)).view(tensors[name].shape)


def _keeps_channels(plan: Plan, index: int) -> bool:
    node = plan.nodes[index]
    return node.op == POOL or (node.rank == 2 and node.op in ("view", "flatten.using_ints"))


def _factors(activation: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The number to divide each channel's activations by, so that they are as large as the weights that use them."""
    used = (activation > 0) & (weight > 0)
    steps = torch.zeros_like(activation)
    if used.any():
        steps[used] = torch.log2(activation[used] / weight[used]) / 2
        steps[used] -= steps[used].mean()
    whole = (steps * len(QUARTERS)).round().clamp(-MOST_STEPS, MOST_STEPS).int()
    return torch.ldexp(QUARTERS[whole % len(QUARTERS)], whole // len(QUARTERS))


def _by_input(plan: Plan, tensors: dict[str, torch.Tensor], node: int) -> torch.Tensor:
    """A layer's weight as (groups, outputs, inputs, places)."""
    weight = tensors[plan.weights_of(node)[0]]
    groups = plan.groups_of(node)
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _inputs(plan: Plan, tensors: dict[str, torch.Tensor], node: int) -> torch.Tensor:
    """The largest weight of each input, relative to the largest of its output."""
    rows = _by_input(plan, tensors, node).abs()
    largest = rows.amax(dim=(2, 3), keepdim=True)
    return (rows / torch.where(largest > 0, largest, 1.0)).amax(dim=(1, 3)).flatten()


def _for_each_input(factors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """In a flattened map, each channel is several inputs."""
    inputs = rows.shape[0] * rows.shape[2]
    return factors.repeat_interleave(inputs // len(factors)).view(rows.shape[0], 1, rows.shape[2], 1)
