"""Which part of a picture made a class: a map of numbers from 0 to 1, as many rows as columns.

Grad-CAM (https://arxiv.org/abs/1610.02391) on the last layer that is a map of the picture: its channels, each weighted
by how much the class hangs on it. It takes little more than a prediction, since only pooling and classifier are
differentiated. A network without such a layer (ViT) is asked again and again, each time with another part of the
picture covered (https://arxiv.org/abs/1311.2901, section 4.2), where it is quick enough for that.
"""

from __future__ import annotations

import time
from typing import Callable, TypeVar

import numpy as np
import torch

from vision.model.classifier import Classifier
from vision.model.network import FAULTS, bounded

MOST_WINDOWS, LEAST_WINDOWS = 7, 4  # in a row of the picture, each covered once
FAINT = 1e-3  # a logarithm of a probability that moves by less has not moved
AMPLE_S, LONGEST_S = 2.0, 5.0  # for more windows than the least; and for those: a batch of predictions takes as long
SLOW_S = 1.0  # a map that took longer is not made a second time for the sake of its time
SLOW = (
    "this model explains nothing: it has no last layer with rows and columns, and to ask it anew for each part of the "
    "picture takes too long; send it to :predict"
)

Made = TypeVar("Made")


class Explainer:
    """Explains what a classifier says.

    covered: the colour, red, green and blue from 0 to 1, that hides a part of the picture: the mean of all pictures.

    `refusal` is a sentence where this classifier cannot be explained, else None. `image_s`: the least that one image
    took one thread, in seconds of its own.
    """

    def __init__(self, classifier: Classifier, covered: list[float]) -> None:
        self._classifier = classifier
        self._covered = np.array(covered) * 255
        self.image_s = float("inf")
        self._noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (classifier.side,) * 2 + (3,), np.uint8)
        self._by_gradient = classifier.layer is not None and self._can_trace_back()
        self._windows = 0 if self._by_gradient else self._affordable_windows()
        self.refusal = None if self._by_gradient or self._windows else SLOW

    @property
    def description(self) -> str:
        """For the log."""
        if self.refusal:
            return "explained_by=nothing"
        by = "grad-cam" if self._by_gradient else f"occlusion-{self._windows}x{self._windows}"
        return f"explained_by={by} ms_an_explanation={self.image_s * 1000:.1f}"

    def heat(self, image: np.ndarray, class_index: int) -> np.ndarray:
        """RGB pixels, uint8 (crop, crop, 3) → how much each part speaks for the class, float32 (rows, rows), 0 to 1.

        The largest is 1; all are 0 where no part speaks for it. With as many threads as torch is set to.
        Raises ArithmeticError where the network's numbers are not finite.
        """
        explain = self._grad_cam if self._by_gradient else self._occluded
        heat, seconds = self._timed(lambda: explain(image, class_index))
        self.image_s = min(self.image_s, seconds)
        if not np.isfinite(heat).all():
            raise ArithmeticError("the network's map is not finite: are these weights trained for this model?")
        heat, most = heat.clip(min=0), heat.max()
        return heat / most if most > 0 else heat

    def _grad_cam(self, image: np.ndarray, class_index: int) -> np.ndarray:
        made, gradient = self._classifier.traced_back(image, class_index)
        weights = gradient.mean(dim=(1, 2))  # of the channels
        heat: np.ndarray = torch.einsum("c,chw->hw", weights, made).numpy()
        return heat

    def _occluded(self, image: np.ndarray, class_index: int) -> np.ndarray:
        """By how much the logarithm of the class's probability falls."""
        edges = [len(image) * edge // self._windows for edge in range(self._windows + 1)]
        spans = [slice(*edge) for edge in zip(edges, edges[1:])]
        pictures = [image]
        for rows in spans:
            for columns in spans:
                picture = image.copy()
                picture[rows, columns] = self._covered
                pictures.append(picture)
        whole, *others = self._classifier.logits(pictures).log_softmax(dim=1)[:, class_index].tolist()
        falls = np.array([whole - other for other in others], dtype=np.float32)
        if falls.max() < FAINT:
            falls[:] = 0
        return falls.reshape(self._windows, self._windows)

    def _can_trace_back(self) -> bool:
        """Tried with one image; and once more for its time, since the first one is slow."""
        try:
            with bounded(self._classifier.device):
                _, self.image_s = self._timed(lambda: self._grad_cam(self._noise, 0))
                if self.image_s < SLOW_S:
                    _, self.image_s = self._timed(lambda: self._grad_cam(self._noise, 0))
        except FAULTS:
            return False
        return True

    def _affordable_windows(self) -> int:
        """In a row; 0 where even the least take too long. Notes how long they take."""
        _, seconds = self._timed(lambda: self._classifier.logits([self._noise] * 2))
        for windows in range(MOST_WINDOWS, LEAST_WINDOWS - 1, -1):
            self.image_s = (windows**2 + 1) * seconds / 2
            if self.image_s <= (AMPLE_S if windows > LEAST_WINDOWS else LONGEST_S):
                return windows
        return 0

    def _timed(self, work: Callable[[], Made]) -> tuple[Made, float]:
        """What it makes, and how long that takes one thread: on a processor without the time in which others had it."""
        on_processor = self._classifier.device.type == "cpu"
        clock, threads = (time.thread_time, torch.get_num_threads()) if on_processor else (time.monotonic, 1)
        began = clock()
        made = work()
        return made, (clock() - began) * threads
