"""Makes weights with which parity is meaningful, without downloading any.

With its initial weights, a network gives all photographs almost the same flat answer (ShuffleNet's logits differ by
0.05 %), so errors hardly show. Therefore batch norms get the statistics of photographs, and the last layer is scaled
until the logits spread.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import nn

from benchmarks.places import PHOTOGRAPHS
from pipeline.artefact import zoo
from pipeline.artefact.model import Preprocessing

SPREAD = 3.0  # the standard deviation of logits: some classes are then likely, and most are not
# The bias of batch norms: ReLU then passes most values, as in a trained network. With zero, each layer magnifies
# rounding: torch's own bfloat16 moves ShuffleNet's logits by their standard deviation; with one, by a twentieth of it.
SHIFT = 1.0
State = dict[str, torch.Tensor]


@torch.no_grad()
def calibrated(network: nn.Module, classes: int, images: torch.Tensor) -> tuple[State, str]:
    """network: with this many classes; it is modified. images: normalised, (N, 3, side, side), N at least 2.

    Returns its state dict, and the name of its last layer.
    """
    name, head = last_layer(network, classes)
    random = torch.Generator().manual_seed(0)
    nn.init.normal_(head.weight, std=head.weight[0].numel() ** -0.5, generator=random)  # ViT's is zero
    hooks = []
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            hooks.append(layer.register_forward_pre_hook(_learn))
            if layer.bias is not None:
                layer.bias.fill_(SHIFT)
    for parameter, values in network.named_parameters():
        if parameter.endswith("layer_scale"):  # ConvNeXt's, of 1e-6: its blocks would add nothing
            values.fill_(1.0)
    logits = network(images)
    for hook in hooks:
        hook.remove()
    head.weight *= SPREAD / logits.std()
    if head.bias is not None:
        head.bias *= SPREAD / logits.std()
    return network.eval().state_dict(), name


def _learn(norm: nn.BatchNorm2d, given: tuple[torch.Tensor]) -> None:
    """Does not learn from one number per image, which may be almost equal (timm has norms after the pooling)."""
    norm.train(given[0][0, 0].numel() > 1)


def with_fewer_classes(state: State, head: str, classes: int) -> State:
    """The same network with only the first of its classes."""
    cut = {name: state[name][:classes].clone() for name in (f"{head}.weight", f"{head}.bias") if name in state}
    return state | cut


def last_layer(network: nn.Module, classes: int) -> tuple[str, nn.Linear | nn.Conv2d]:
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return next((name, layer) for name, layer in reversed(layers) if len(layer.weight) == classes)


def photographs(preprocessing: Preprocessing) -> torch.Tensor:
    """This project's photographs, as the network's input: (5, 3, crop, crop)."""
    transforms = zoo.torchvision.transforms
    transform = transforms._presets.ImageClassification(
        crop_size=preprocessing.crop,
        resize_size=preprocessing.resize,
        mean=tuple(preprocessing.mean),
        std=tuple(preprocessing.std),
        interpolation=transforms.InterpolationMode(preprocessing.interpolation),
    )
    return torch.stack([transform(Image.open(photograph).convert("RGB")) for photograph in PHOTOGRAPHS])
