"""Explains why an image got a class: a heat map, in the form that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vision.image.overlay import grey, overlay
from vision.model.explanation import Explainer
from vision.model.ranking import Class
from vision.protocol.answer import Explanation, Prediction, ScoredClass
from vision.protocol.request import GREY, GRID, Wish

DIGITS = 4  # decimal places of the numbers in a grid


def explain(
    explainer: Explainer,
    image: np.ndarray,
    prediction: Prediction,
    probabilities: torch.Tensor,
    wish: Wish,
    classes: Sequence[Class],
) -> Explanation:
    """image: RGB, uint8 (crop, crop, 3). prediction: its prediction; without a wish, the first class is explained.

    probabilities: float32 (classes,). Raises ArithmeticError if the network's numbers are not finite.
    """
    explained = prediction.classes[0]
    if wish.class_index is not None:
        explained = ScoredClass(wish.class_index, *classes[wish.class_index], float(probabilities[wish.class_index]))
    heat = explainer.heat(image, explained.index)
    if wish.form == GRID:
        numbers = [[round(number, DIGITS) for number in row] for row in heat.tolist()]
        return Explanation(explained, wish.form, "application/json", numbers)
    if wish.form == GREY:
        return Explanation(explained, wish.form, "image/png", grey(heat, len(image)))
    return Explanation(explained, wish.form, "image/jpeg", overlay(image, heat))
