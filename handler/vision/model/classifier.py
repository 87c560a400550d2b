"""The network on one device at one precision: loads it, warms it up, and computes probabilities."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vision.model import int8
from vision.model.devices import AUTO, FLOAT32, INT8, choose_device, choose_precision
from vision.model.facts import Facts
from vision.model.network import Network, one_thread
from vision.model.quicker import Measured, measured
from vision.model.weights import OF_INT8, PROGRAM, WEIGHTS, load
from vision.worker.settings import Settings

MOST_RESULTS_BYTES = 512 * 2**20  # intermediate results of a batch in the network
COMPARED, LONGEST_COMPARED_S = 8, 0.2  # images, and their time in both networks; slow networks compare fewer
LONGEST_WARM_UP_S = 5.0  # for the largest batch; a slower network is warmed up with a smaller one
SEEN_TOGETHER = 9  # the fewest images with which `_warm_up` can make its comparison


class Classifier:
    """An archive's network, on one device at one precision, loaded and warmed up.

    directory: holds program.json and weights.safetensors.
    facts: from the archive's model.yaml.
    settings: only `precision`, `device` and `max_batch` are used.
    gpu_id: the GPU that TorchServe assigns to this worker, or None.
    warm_size: the usual largest number of images at once; the warm-up tries it, and a single image.
    Raises ValueError for a setting or a file that does not fit, with a sentence for the server's log.
    """

    def __init__(
        self, directory: Path, facts: Facts, settings: Settings, gpu_id: int | None, warm_size: int = 1
    ) -> None:
        self.device = choose_device(settings.device, gpu_id)
        self.precision = choose_precision(settings.precision, self.device, facts.bfloat16)
        if self.precision == FLOAT32:  # with TF32, convolutions on a GPU would round to 10 bits
            torch.backends.cudnn.allow_tf32 = False
        self.side = facts.preprocessing.crop
        # A whole row of pixels, R G B R G B …: normalising three numbers at a time takes three times as long.
        colours = (facts.preprocessing.mean, facts.preprocessing.std)
        mean, std = (torch.tensor(each).repeat(self.side) * 255 for each in colours)
        self._scale, self._shift = 1 / std, -mean / std
        # The floating-point network; an 8-bit one cannot be differentiated.
        self._network, self._origin = self._load(directory, PROGRAM, WEIGHTS)
        self._traced, self.layer, self.classes = self._network, self._network.layer, self._network.classes
        self.image_s = float("inf")  # the shortest time one thread took for an image, in seconds, probes included
        self._measured = ""
        if settings.precision == INT8 or (settings.precision == AUTO and facts.int8):
            self._take_int8(directory, facts, must=settings.precision == INT8, size=warm_size)
        self.max_batch = max(1, min(settings.max_batch, MOST_RESULTS_BYTES // max(1, self._network.image_bytes)))
        self._least = self._warm_up(warm_size)

    @property
    def description(self) -> str:
        """One line for the log: what runs, where, and at which precision."""
        return (
            f"precision={self.precision} device={self.device} threads={torch.get_num_threads()} "
            f"max_batch={self.max_batch} classes={self.classes} ms_an_image={self.image_s * 1000:.1f} "
            f"images_at_least={self._least} {self._measured}"
            f"weights={self._origin.get('weights', 'unknown')} sha256={self._origin.get('sha256', 'unknown')}"
        )

    def probabilities(self, pixels: list[np.ndarray]) -> torch.Tensor:
        """RGB pixels, N ≥ 1 arrays of uint8 (crop, crop, 3) → probabilities, float32 (N, classes), on the CPU.

        If a row is not finite, `ranking.top_k` refuses it, so that the others keep their answers.
        """
        return self.logits(pixels).softmax(dim=1)

    def logits(self, pixels: list[np.ndarray]) -> torch.Tensor:
        """The same, before the softmax.

        At most `max_batch` images go through the network at a time, with torch's current number of threads.
        """
        batches = (pixels[start : start + self.max_batch] for start in range(0, len(pixels), self.max_batch))
        return torch.cat([self._forward(batch) for batch in batches])

    def traced_back(self, image: np.ndarray, class_index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """RGB pixels, uint8 (crop, crop, 3) → the output of `layer`, and the gradient of the class's logit there.

        Both float32 (channels, rows, columns), on the CPU. Raises RuntimeError if torch cannot differentiate it.
        """
        assert self.layer is not None, "only called if there is such a layer"
        maps = self._traced.traced_back(self._normalised([image]), class_index)
        made, gradient = (each[0].permute(2, 0, 1) if self.layer.channels_last else each[0] for each in maps)
        return made.float().cpu(), gradient.float().cpu()

    @torch.inference_mode()
    def _forward(self, pixels: list[np.ndarray]) -> torch.Tensor:
        return self._logits(pixels + pixels[:1] * (self._least - len(pixels)))[: len(pixels)].cpu()

    def _logits(self, images: list[np.ndarray]) -> torch.Tensor:
        # On a processor, CPU time rather than elapsed time: decisions at the start must not depend on the load.
        on_processor = self.device.type == "cpu"
        clock, threads = (time.thread_time, torch.get_num_threads()) if on_processor else (time.monotonic, 1)
        began = clock()
        logits: torch.Tensor = self._network(self._input(images, self._network))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # calls return before the result is computed
        self.image_s = min(self.image_s, (clock() - began) * threads / len(images))
        return logits

    def _input(self, images: list[np.ndarray], network: Network) -> torch.Tensor:
        if network.on_pixels:
            return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return self._normalised(images)

    def _normalised(self, images: list[np.ndarray]) -> torch.Tensor:
        side = self.side
        batch = torch.empty(len(images), side, side * 3, dtype=self._traced.dtype)
        for image, normalised in zip(images, batch):  # one by one, to stay in the processor's cache
            rows = torch.from_numpy(image.astype(np.float32)).view(side, side * 3)
            normalised.copy_(rows.mul_(self._scale).add_(self._shift))
        # (N, H, W · C) => (N, C, H, W), already channels_last
        return batch.view(-1, side, side, 3).permute(0, 3, 1, 2).to(self.device)

    @torch.inference_mode()
    def _warm_up(self, warm_size: int) -> int:
        """The minimum batch for the network, so that an answer has the same bits in any batch.

        The first call takes twice as long, so it is made here rather than in a client's request; an unseen size adds
        10 ms. Some processors may convolve one to three images with different kernels, whose sums round differently.
        Which ones is not documented, so it is tested here; smaller batches are then padded with copies.
        """
        noise = self._noise()
        lone = self._logits([noise])
        affordable = int(LONGEST_WARM_UP_S / self.image_s)
        if affordable < SEEN_TOGETHER:
            return 1  # padding would cost clients too much with a network this slow
        several = min(max(4, min(warm_size, affordable)), max(2, self.max_batch))
        rows = {1: lone[0], **{size: self._logits([noise] * size)[0] for size in (several, 2, 3) if size <= several}}
        return max((size + 1 for size, row in rows.items() if not torch.equal(row, rows[several])), default=1)

    def _noise(self) -> np.ndarray:
        return np.random.Generator(np.random.PCG64(0)).integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)

    def _load(self, directory: Path, program_name: str, weights_name: str) -> tuple[Network, dict[str, str]]:
        as_run = self.precision if self.device.type == "cpu" else FLOAT32
        program, weights, origin = load(directory, as_run, program_name, weights_name)
        if program.side != self.side:
            raise ValueError(f"{program_name} is for {program.side} pixels, but model.yaml crops {self.side}")
        try:
            return Network(program, weights, self.precision, self.device), origin
        except ValueError as error:
            raise ValueError(f"{program_name} does not fit these weights: {error}") from None

    def _take_int8(self, directory: Path, facts: Facts, must: bool, size: int) -> None:
        """Switches to 8 bits if that is quicker. must: switch in any case.

        Raises ValueError if it must and cannot.
        """
        try:
            reason = _no_int8(facts, self.device)
            if reason:
                raise ValueError(reason)
            network, origin = self._load(directory, *OF_INT8)
            if network.classes != self.classes:
                raise ValueError(f"{OF_INT8[0]} has {network.classes} classes, {PROGRAM} has {self.classes}")
        except ValueError as error:
            if must:
                raise ValueError(f"model-config.yaml: handler.precision is int8: {error}") from None
            self._measured = f"int8={str(error)!r} "
            return
        if not must:
            names = f"{self.precision} {origin.get('sha256')}"
            found = self._compared(directory, names, network, size)
            if found is None or not found.other_is_quicker:
                return
        self._network, self.precision = network, INT8

    @torch.inference_mode()
    def _compared(self, directory: Path, names: str, other: Network, size: int) -> Measured | None:
        """How long one thread takes for a few images, at most `size`, in each network."""
        noise = self._noise()

        def computed(network: Network, count: int) -> float:
            began = time.monotonic()
            network(self._input([noise] * count, network))
            return time.monotonic() - began

        with one_thread():
            # The first run is slow.
            seconds = [computed(network, 1) for network in (self._network, other) for _ in range(2)]
            count = max(1, min(size, COMPARED, int(LONGEST_COMPARED_S / (seconds[1] + seconds[3]))))
            found = measured(
                directory, names, partial(computed, self._network, count), partial(computed, other, count), count
            )
        if found:
            each = {self.precision: found.usual, INT8: found.other}
            said = ",".join(f"{name}:{1000 * seconds:.1f}ms" for name, seconds in each.items())
            self._measured = f"measured={said} "
        return found


def _no_int8(facts: Facts, device: torch.device) -> str | None:
    """Why 8 bits cannot be used here, or None if they can."""
    if not facts.int8:
        return "this archive has no 8-bit network; package it with --int8 PHOTOGRAPHS, or use auto"
    if device.type != "cpu":
        return "8-bit networks run on processors only, and this worker has a GPU; use auto"
    return int8.refusal()
