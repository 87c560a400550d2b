"""timm's networks, as in a user's file: architecture: of_timm.py:resnet50d"""

from __future__ import annotations

import timm
from torch import nn


def resnet50d(num_classes: int) -> nn.Module:
    return timm.create_model("resnet50d", num_classes=num_classes)


def vit_small_patch16_224(num_classes: int) -> nn.Module:
    return timm.create_model("vit_small_patch16_224", num_classes=num_classes)


def mobilenetv4_conv_small(num_classes: int) -> nn.Module:
    return timm.create_model("mobilenetv4_conv_small", num_classes=num_classes)


def convnextv2_atto(num_classes: int) -> nn.Module:
    return timm.create_model("convnextv2_atto", num_classes=num_classes)
