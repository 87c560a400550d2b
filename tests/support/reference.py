"""torchvision, the reference: its AlexNet, its transforms, its labels."""

from __future__ import annotations

import io

import torch
from PIL import Image, ImageOps

from pipeline.artefact.zoo import torchvision

ImageClassification = torchvision.transforms._presets.ImageClassification
AlexNet_Weights, alexnet = torchvision.models.AlexNet_Weights, torchvision.models.alexnet
WEIGHTS = AlexNet_Weights.IMAGENET1K_V1
TRANSFORM = WEIGHTS.transforms()


def upright_rgb(image_bytes: bytes) -> Image.Image:
    """The picture as a viewer shows it."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(image_bytes))).convert("RGB")


class Reference:
    """torchvision's own pipeline with a given state dict."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self._model = alexnet().eval()
        self._model.load_state_dict(state)

    @torch.inference_mode()
    def probabilities(self, images: list[bytes]) -> torch.Tensor:
        """Image files → float32 (N, 1000), sixteen at a time."""
        tensors = [TRANSFORM(upright_rgb(image)) for image in images]
        batches = [torch.stack(tensors[start : start + 16]) for start in range(0, len(tensors), 16)]
        return torch.cat([self._model(batch).softmax(dim=1) for batch in batches])


__all__ = ["TRANSFORM", "WEIGHTS", "ImageClassification", "Reference", "torchvision", "upright_rgb"]
