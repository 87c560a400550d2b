"""A program for normalised images → the same program for the pixels themselves, from 0 to 255.

If it begins with a convolution, that takes the pixels directly: mean and standard deviation go into its weights. Its
border then has the colour that normalising would turn into 0, rounded to whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.artefact.int8.plan import PAD, arguments, users_of
from pipeline.artefact.model import Preprocessing
from pipeline.artefact.nodes import Node, Ref, Weight, mapped

WHITE = 255


def on_pixels(
    nodes: Sequence[Node], output: int, tensors: dict[str, torch.Tensor], preprocessing: Preprocessing
) -> tuple[list[Node], int]:
    """→ nodes, and the output. tensors: float64, by name; new ones are added."""
    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (preprocessing.mean, preprocessing.std))
    if not _begins_with_a_convolution(nodes, mean):
        return _normalised_first(nodes, output, tensors, mean, std)
    (first,) = users_of(nodes)[-1]
    _, weight, bias, stride, padding, dilation, groups = arguments(nodes[first])
    assert isinstance(weight, Weight)
    given, colour = tensors[weight.name], [round(float(each)) for each in mean * WHITE]
    tensors[f"{weight.name}:pixels"] = given / (WHITE * std).view(1, 3, 1, 1)
    shift = -(given * (mean / std).view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    tensors[f"{weight.name}:bias"] = shift + (tensors[bias.name] if isinstance(bias, Weight) else 0.0)
    own = [Weight(f"{weight.name}:pixels"), Weight(f"{weight.name}:bias"), stride, [0, 0], dilation, groups]
    place = nodes[first].place
    if padding == [0, 0]:
        return [*nodes[:first], Node("conv2d", [Ref(-1), *own], {}, place), *nodes[first + 1 :]], output
    moved = _moved(nodes, 1)
    moved[first] = Node("conv2d", [Ref(0), *own], {}, place)
    return [Node(PAD, [Ref(-1), padding, colour], {}, place), *moved], output + 1


def _begins_with_a_convolution(nodes: Sequence[Node], mean: torch.Tensor) -> bool:
    users = users_of(nodes)[-1]
    if len(users) != 1 or nodes[users[0]].op != "conv2d":
        return False
    _, weight, _, _, padding, _, groups = arguments(nodes[users[0]])
    has_colour = bool(((mean >= 0) & (mean <= 1)).all()) or padding == [0, 0]
    return isinstance(weight, Weight) and groups == 1 and has_colour


def _normalised_first(
    nodes: Sequence[Node], output: int, tensors: dict[str, torch.Tensor], mean: torch.Tensor, std: torch.Tensor
) -> tuple[list[Node], int]:
    tensors["normalised:mean"], tensors["normalised:std"] = ((WHITE * each).view(1, 3, 1, 1) for each in (mean, std))
    before = [
        Node("int8.dequantize", [Ref(-1), 1.0, 0], {}),
        Node("sub.Tensor", [Ref(0), Weight("normalised:mean")], {}),
        Node("div.Tensor", [Ref(1), Weight("normalised:std")], {}),
    ]
    return [*before, *_moved(nodes, 3, images=2)], output + 3


def _moved(nodes: Sequence[Node], by: int, images: int = -1) -> list[Node]:
    def change(value: object) -> object:
        if not isinstance(value, Ref):
            return value
        return Ref(images) if value.node == -1 else Ref(value.node + by)

    return [
        Node(node.op, mapped(node.args, change), mapped(node.kwargs, change), node.place, node.rank) for node in nodes
    ]
