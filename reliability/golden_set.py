"""Distinct pictures, and weights that tell them apart: for comparing versions without trained weights.

A subject is a quarter of a photograph, or a texture; each has its own class. The network is random up to its last
layer, which keeps similar pictures together; the last layer is fitted to views of the subjects. The golden set has
other views.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance

from pipeline.artefact.model import MODEL
from pipeline.artefact.weights import Weights, network, untrained_state
from reliability.decoding import PREPROCESSING, decode
from reliability.pictures import encoded

State = dict[str, np.ndarray]

CLASSES = len(MODEL.classes)
PHOTOGRAPHS = sorted((Path(__file__).resolve().parents[1] / "docs" / "photographs").glob("*.jpg"))
SIDE = 400  # pixels of a texture
TEXTURES = 20
LEARNT, GOLDEN = 8, 60  # views of each subject to learn from; pictures in the golden set
RIDGE = 0.1  # of the mean square of the features
SHARPNESS = 14.0  # the factor for the fit's logits: the median first probability is then about 0.9
MOST_PIXELS = 1_000_000


def subjects() -> list[Image.Image]:
    """Forty subjects."""
    found = []
    for photograph in PHOTOGRAPHS:
        image = Image.open(photograph).convert("RGB")
        half_width, half_height = image.width // 2, image.height // 2
        for left, top in ((0, 0), (half_width, 0), (0, half_height), (half_width, half_height)):
            found.append(image.crop((left, top, left + half_width, top + half_height)))
    return found + [_texture(number) for number in range(TEXTURES)]


def class_of(subject: int) -> int:
    """A subject's class. Classes are spread over all thousand."""
    return (subject * 25 + 7) % CLASSES


def views(subject: Image.Image, seed: int) -> Iterator[bytes]:
    """Endless parts of it, some mirrored, some lighter or darker, as JPEG."""
    chance = random.Random(seed)
    while True:
        width, height = (round(side * chance.uniform(0.7, 1)) for side in subject.size)
        left, top = chance.randint(0, subject.width - width), chance.randint(0, subject.height - height)
        view = subject.crop((left, top, left + width, top + height))
        if chance.random() < 0.5:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        view = ImageEnhance.Brightness(view).enhance(chance.uniform(0.85, 1.15))
        yield encoded(view, "JPEG", quality=chance.choice([75, 85, 92]))


def golden() -> list[bytes]:
    """Views of all subjects in turn, other than those to learn from."""
    endless = [views(subject, seed=1000 + number) for number, subject in enumerate(subjects())]
    return [next(endless[number % len(endless)]) for number in range(GOLDEN)]


def fitted_state() -> State:
    """Weights that recognise the subjects."""
    learnt, classes = [], []
    for number, subject in enumerate(subjects()):
        for _, view in zip(range(LEARNT), views(subject, seed=number)):
            learnt.append(decode(view, MOST_PIXELS))
            classes.append(class_of(number))
    state = untrained_state()
    features = _hidden(state, learnt)  # (N, 4096)
    mean = features.mean(axis=0)
    centred = features - mean
    wanted = np.eye(CLASSES)[classes]  # (N, 1000)
    similar = centred @ centred.T  # (N, N): there are fewer views than features
    ridge = RIDGE * np.trace(similar) / len(learnt) * np.eye(len(learnt))
    weight = SHARPNESS * (centred.T @ np.linalg.solve(similar + ridge, wanted)).T  # (1000, 4096)
    last = {"classifier.6.weight": weight, "classifier.6.bias": -weight @ mean}
    return state | {name: np.ascontiguousarray(array, np.float32) for name, array in last.items()}


@torch.inference_mode()
def _hidden(state: State, pixels: list[np.ndarray]) -> np.ndarray:
    """RGB pixels → the last layer's input, float64 (N, 4096)."""
    model: Any = network(MODEL, Weights("golden", state))  # torchvision's AlexNet
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (PREPROCESSING.mean, PREPROCESSING.std))
    found = []
    for start in range(0, len(pixels), 16):
        batch = torch.from_numpy(np.stack(pixels[start : start + 16])).permute(0, 3, 1, 2) / 255
        features = model.avgpool(model.features((batch - mean) / std)).flatten(1)  # (N, 9216)
        found.append(model.classifier[:-1](features))
    return torch.cat(found).double().numpy()


def _texture(number: int) -> Image.Image:
    """Waves, checks or grain, in two random colours."""
    chance = np.random.Generator(np.random.PCG64(number))
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    angle, pitch = chance.uniform(0, np.pi), chance.uniform(4, 30)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kind = number % 4
    if kind == 0:
        share = 0.5 + 0.5 * np.sin(2 * np.pi * pitch * along)
    elif kind == 1:
        share = ((np.floor(pitch * along) + np.floor(pitch * across)) % 2).astype(np.float64)
    elif kind == 2:
        share = 0.5 + 0.5 * np.sin(2 * np.pi * pitch * np.hypot(x - 0.5, y - 0.5))
    else:
        cells = chance.random((round(pitch), round(pitch)))
        share = np.asarray(Image.fromarray((cells * 255).astype(np.uint8)).resize((SIDE, SIDE))) / 255
    one, other = chance.uniform(0, 255, (2, 3))
    pixels = share[..., None] * one + (1 - share[..., None]) * other
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
