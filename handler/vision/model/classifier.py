"""The network on one device at one precision: loaded, warmed up, and asked for probabilities."""

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

MOST_RESULTS_BYTES = 512 * 2**20  # of what the network makes of the images that go through it together
COMPARED, LONGEST_COMPARED_S = 8, 0.2  # images, and of them in both networks; slower ones are compared with fewer
LONGEST_WARM_UP_S = 5.0  # of the largest batch; a network that is slower than that is warmed up with a smaller one
SEEN_TOGETHER = 9  # images that at least go through the network for what `_warm_up` sees


class Classifier:
    """What an archive holds, on one device at one precision, loaded and warmed up.

    directory: with program.json and weights.safetensors.
    facts: of the archive's model.yaml.
    settings: of them, `precision`, `device` and `max_batch`.
    gpu_id: the GPU that TorchServe gives this worker, or None.
    warm_size: the largest number of images that comes at once as a rule; the warm-up tries it, and a single one.
    Raises ValueError for a setting or a file that does not fit, with a sentence for the server's log.
    """

    def __init__(
        self, directory: Path, facts: Facts, settings: Settings, gpu_id: int | None, warm_size: int = 1
    ) -> None:
        self.device = choose_device(settings.device, gpu_id)
        self.precision = choose_precision(settings.precision, self.device, facts.bfloat16)
        if self.precision == FLOAT32:  # which convolutions on a GPU would round to 10 bits
            torch.backends.cudnn.allow_tf32 = False
        self.side = facts.preprocessing.crop
        # A row of pixels as the image has it, R G B R G B …: three numbers at a time take thrice as long.
        colours = (facts.preprocessing.mean, facts.preprocessing.std)
        mean, std = (torch.tensor(each).repeat(self.side) * 255 for each in colours)
        self._scale, self._shift = 1 / std, -mean / std
        # In floating-point numbers: of another network, this is the one that can be differentiated.
        self._network, self._origin = self._load(directory, PROGRAM, WEIGHTS)
        self._traced, self.layer, self.classes = self._network, self._network.layer, self._network.classes
        self.image_s = float("inf")  # the least that one image took one thread, in seconds; the probes' question counts
        self._measured = ""
        if settings.precision == INT8 or (settings.precision == AUTO and facts.int8):
            self._take_int8(directory, facts, must=settings.precision == INT8, size=warm_size)
        self.max_batch = max(1, min(settings.max_batch, MOST_RESULTS_BYTES // max(1, self._network.image_bytes)))
        self._least = self._warm_up(warm_size)

    @property
    def description(self) -> str:
        """One line for the log: what runs, where, and how precisely."""
        return (
            f"precision={self.precision} device={self.device} threads={torch.get_num_threads()} "
            f"max_batch={self.max_batch} classes={self.classes} ms_an_image={self.image_s * 1000:.1f} "
            f"images_at_least={self._least} {self._measured}"
            f"weights={self._origin.get('weights', 'unknown')} sha256={self._origin.get('sha256', 'unknown')}"
        )

    def probabilities(self, pixels: list[np.ndarray]) -> torch.Tensor:
        """RGB pixels, N ≥ 1 arrays of uint8 (crop, crop, 3) → probabilities, float32 (N, classes), on the CPU.

        A row may hold what is not finite: `ranking.top_k` refuses it, so that the others keep their answers.
        """
        return self.logits(pixels).softmax(dim=1)

    def logits(self, pixels: list[np.ndarray]) -> torch.Tensor:
        """The same, before the softmax.

        At most `max_batch` images go through the network together, with as many threads as torch is set to.
        """
        batches = (pixels[start : start + self.max_batch] for start in range(0, len(pixels), self.max_batch))
        return torch.cat([self._forward(batch) for batch in batches])

    def traced_back(self, image: np.ndarray, class_index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """RGB pixels, uint8 (crop, crop, 3) → what `layer` makes of them, and the gradient of the class's logit there.

        Both float32 (channels, rows, columns), on the CPU. Raises RuntimeError where torch cannot differentiate that.
        """
        assert self.layer is not None, "asked only where there is such a layer"
        maps = self._traced.traced_back(self._normalised([image]), class_index)
        made, gradient = (each[0].permute(2, 0, 1) if self.layer.channels_last else each[0] for each in maps)
        return made.float().cpu(), gradient.float().cpu()

    @torch.inference_mode()
    def _forward(self, pixels: list[np.ndarray]) -> torch.Tensor:
        return self._logits(pixels + pixels[:1] * (self._least - len(pixels)))[: len(pixels)].cpu()

    def _logits(self, images: list[np.ndarray]) -> torch.Tensor:
        # On a processor without the time in which others had it: what is seen at the start must not hang on the load.
        on_processor = self.device.type == "cpu"
        clock, threads = (time.thread_time, torch.get_num_threads()) if on_processor else (time.monotonic, 1)
        began = clock()
        logits: torch.Tensor = self._network(self._input(images, self._network))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # which returns before it has computed
        self.image_s = min(self.image_s, (clock() - began) * threads / len(images))
        return logits

    def _input(self, images: list[np.ndarray], network: Network) -> torch.Tensor:
        if network.on_pixels:
            return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return self._normalised(images)

    def _normalised(self, images: list[np.ndarray]) -> torch.Tensor:
        side = self.side
        batch = torch.empty(len(images), side, side * 3, dtype=self._traced.dtype)
        for image, normalised in zip(images, batch):  # one by one, in the processor's cache
            rows = torch.from_numpy(image.astype(np.float32)).view(side, side * 3)
            normalised.copy_(rows.mul_(self._scale).add_(self._shift))
        # (N, H, W · C) => (N, C, H, W), which is channels_last already
        return batch.view(-1, side, side, 3).permute(0, 3, 1, 2).to(self.device)

    @torch.inference_mode()
    def _warm_up(self, warm_size: int) -> int:
        """How many images go through the network at least, so that an answer has the bits that any company gives it.

        The first call takes twice as long: here, rather than in a client's request; a size not seen adds 10 ms. Some
        processors may convolve one to three images with other kernels, whose sums round differently. No documentation
        says which do, so it is seen here: then a few of the same go through.
        """
        noise = self._noise()
        lone = self._logits([noise])
        affordable = int(LONGEST_WARM_UP_S / self.image_s)
        if affordable < SEEN_TOGETHER:
            return 1  # a network this slow is not asked twice what a lone client waits for
        several = min(max(4, min(warm_size, affordable)), max(2, self.max_batch))
        rows = {1: lone[0], **{size: self._logits([noise] * size)[0] for size in (several, 2, 3) if size <= several}}
        return max((size + 1 for size, row in rows.items() if not torch.equal(row, rows[several])), default=1)

    def _noise(self) -> np.ndarray:
        return np.random.Generator(np.random.PCG64(0)).integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)

    def _load(self, directory: Path, program_name: str, weights_name: str) -> tuple[Network, dict[str, str]]:
        as_run = self.precision if self.device.type == "cpu" else FLOAT32
        program, weights, origin = load(directory, as_run, program_name, weights_name)
        if program.side != self.side:
            raise ValueError(f"{program_name} is for {program.side} pixels, and model.yaml crops {self.side}")
        try:
            return Network(program, weights, self.precision, self.device), origin
        except ValueError as error:
            raise ValueError(f"{program_name} is no network for these weights: {error}") from None

    def _take_int8(self, directory: Path, facts: Facts, must: bool, size: int) -> None:
        """Computes in 8 bits from now on, where that is the quicker. must: whatever it is.

        Raises ValueError where it must, and cannot.
        """
        try:
            reason = _no_int8(facts, self.device)
            if reason:
                raise ValueError(reason)
            network, origin = self._load(directory, *OF_INT8)
            if network.classes != self.classes:
                raise ValueError(f"{OF_INT8[0]} has {network.classes} classes, and {PROGRAM} {self.classes}")
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
        """How long a few images, `size` at most, take one thread in each."""
        noise = self._noise()

        def computed(network: Network, count: int) -> float:
            began = time.monotonic()
            network(self._input([noise] * count, network))
            return time.monotonic() - began

        with one_thread():
            # The first time is slow.
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
    """Why nothing is computed in 8 bits here, in words."""
    if not facts.int8:
        return "this archive has no network of 8 bits; package it with --int8 PHOTOGRAPHS, or use auto"
    if device.type != "cpu":
        return "a network of 8 bits is for the processor, and this worker has a GPU; use auto"
    return int8.refusal()
