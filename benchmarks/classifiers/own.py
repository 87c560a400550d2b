"""A user's own network, as in a user's file: architecture: own.py:build"""

from __future__ import annotations

import torch
from torch import nn


class Attending(nn.Module):
    """Convolutions, a residual connection, and attention that weighs the places of the image."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 7, stride=4, padding=3), nn.BatchNorm2d(32), nn.GELU())
        self.block = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.GELU())
        self.down = nn.Conv2d(32, 64, 3, stride=4, padding=1)
        self.attention = nn.Linear(64, 1)
        self.head = nn.Linear(64, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stem(images)
        features = self.down(features + self.block(features))
        places = features.flatten(2).transpose(1, 2)  # (N, 64, H, W) => (N, H · W, 64)
        weights = self.attention(places).softmax(dim=1)
        logits: torch.Tensor = self.head((places * weights).sum(dim=1))
        return logits


def build(num_classes: int) -> nn.Module:
    return Attending(num_classes)
