"""Which part of a picture led to a class: a square map of numbers from 0 to 1.

Grad-CAM (https://arxiv.org/abs/1610.02391) on the last layer that is a map of the picture: its channels, each weighted
by how much the class depends on it. It takes little longer than a prediction, because only pooling and classifier are
differentiated. A network without such a layer (ViT) is run repeatedly, each time with a different part of the picture
covered (https://arxiv.org/abs/1311.2901, section 4.2), if it is fast enough.
"""

from __future__ import annotations

import time
from typing import Callable, TypeVar

import numpy as np
import torch

from vision.model.classifier import Classifier
from vision.model.network import FAULTS, bounded

MOST_WINDOWS, LEAST_WINDOWS = 7, 4  # per row of the picture, each covered once
FAINT = 1e-3  # smaller changes of a log probability count as none
AMPLE_S, LONGEST_S = 2.0, 5.0  # for more than the fewest windows; for the fewest: as long as a batch of predictions
SLOW_S = 1.0  # a map that took longer is not timed a second time
SLOW = (
    "this model cannot be explained: it has no last layer with rows and columns, and asking it again for each part of "
    "the picture takes too long; use :predict"
)

Made = TypeVar("Made")


class Explainer:
    """Explains a classifier's answers.

    covered: the colour that hides a part of the picture, red, green and blue from 0 to 1: the mean of all pictures.

    `refusal`: a sentence if this classifier cannot be explained, else None. `image_s`: the shortest time that one
    thread took for an image, in seconds.
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
        """RGB pixels, uint8 (crop, crop, 3) → how much each part supports the class, float32 (rows, rows), 0 to 1.

        The largest is 1; all are 0 if no part supports it. Uses torch's current number of threads.
        Raises ArithmeticError if the network's numbers are not finite.
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
        weights = gradient.mean(dim=(1, 2))  # one per channel
        heat: np.ndarray = torch.einsum("c,chw->hw", weights, made).numpy()
        return heat

    def _occluded(self, image: np.ndarray, class_index: int) -> np.ndarray:
        """How much the log probability of the class falls when each part is covered."""
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
        """Tries it with one image, and again for the timing, since the first run is slow."""
        try:
            with bounded(self._classifier.device):
                _, self.image_s = self._timed(lambda: self._grad_cam(self._noise, 0))
                if self.image_s < SLOW_S:
                    _, self.image_s = self._timed(lambda: self._grad_cam(self._noise, 0))
        except FAULTS:
            return False
        return True

    def _affordable_windows(self) -> int:
        """Per row; 0 if even the fewest take too long. Sets `image_s`."""
        _, seconds = self._timed(lambda: self._classifier.logits([self._noise] * 2))
        for windows in range(MOST_WINDOWS, LEAST_WINDOWS - 1, -1):
            self.image_s = (windows**2 + 1) * seconds / 2
            if self.image_s <= (AMPLE_S if windows > LEAST_WINDOWS else LONGEST_S):
                return windows
        return 0

    def _timed(self, work: Callable[[], Made]) -> tuple[Made, float]:
        """The result, and how long one thread takes for it; on a processor in CPU time."""
        on_processor = self._classifier.device.type == "cpu"
        clock, threads = (time.thread_time, torch.get_num_threads()) if on_processor else (time.monotonic, 1)
        began = clock()
        made = work()
        return made, (clock() - began) * threads
