"""AlexNet, the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

CLASSES = 1000

# Rows that are multiplied are a multiple of this. For one to three of them, in a thread, oneDNN and MKL have other
# kernels, which add up in another order (seen on AMD's Zen 4, with up to 16 threads).
ROWS = 4


class AlexNet(nn.Module):
    """torchvision.models.alexnet, https://arxiv.org/abs/1404.5997, without the dropout that inference leaves out.

    Input: normalised images (N, 3, crop, crop), any float dtype. Output: logits (N, 1000), float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtype = torch.float32
        # torchvision pools after ReLU. The other way round gives the same numbers, and ReLU has a quarter of the work.
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.ReLU(inplace=True),
        )
        # Identity stands where torchvision has dropout, so that the names in its state dict fit.
        self.classifier = nn.Sequential(
            nn.Identity(),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Identity(),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, CLASSES),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.convolve(images))

    def convolve(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, crop, crop) → features (N, 9216)."""
        return torch.flatten(self.features(images.to(self.dtype)), start_dim=1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, 9216) → logits (N, 1000), float32."""
        count = len(features)
        if missing := -count % ROWS:
            features = nn.functional.pad(features, (0, 0, 0, missing))  # (N, 9216) => (N + missing, 9216)
        hidden = self.classifier[:-1](features)
        with one_thread():  # several would add the products in another order: an answer must not hang on the load
            logits: torch.Tensor = self.classifier[-1](hidden.float())
        return logits[:count]

    def to_precision(self, precision: str) -> None:
        """`float32`; or `bfloat16`, but for the last layer: rounding logits costs more accuracy than it saves time."""
        if precision == "bfloat16":
            self.dtype = torch.bfloat16
            self.features.bfloat16()
            self.classifier[:-1].bfloat16()
            # Copies, else they keep the whole file mapped; transposed, a weight multiplies faster.
            last: Any = self.classifier[-1]
            last.weight = nn.Parameter(last.weight.t().contiguous().t())
            last.bias = nn.Parameter(last.bias.clone())


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
