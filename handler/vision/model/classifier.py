"""The network on one device at one precision: loaded, warmed up, and asked for probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from vision.image.preprocessing import Preprocessing
from vision.model.alexnet import AlexNet
from vision.model.devices import choose_device, choose_precision
from vision.worker.settings import Settings


class Classifier:
    """AlexNet on one device at one precision, loaded and warmed up.

    weights_file: a .safetensors file with AlexNet's state dict, float32.
    preprocessing: of it, `crop`, `mean` and `std`.
    settings: of them, `precision`, `device` and `max_batch`.
    gpu_id: the GPU that TorchServe gives this worker, or None.
    warm_size: the largest number of images that comes at once as a rule; the warm-up tries it, and a single one.
    Raises ValueError for a setting or a weights file that does not fit, with a sentence for the server's log.
    """

    def __init__(
        self,
        weights_file: Path,
        preprocessing: Preprocessing,
        settings: Settings,
        gpu_id: int | None,
        warm_size: int = 1,
    ) -> None:
        self.device = choose_device(settings.device, gpu_id)
        self.precision = choose_precision(settings.precision, self.device)
        self.max_batch = settings.max_batch
        model, self._origin = _load(weights_file)
        model.to_precision(self.precision)
        self._model = model.to(memory_format=torch.channels_last).to(self.device).eval()  # type: ignore[call-overload]
        self._side = preprocessing.crop  # of the square that goes into the network
        # A row of pixels as the image has it, R G B R G B …: three numbers at a time take thrice as long.
        mean, std = (torch.tensor(each).repeat(self._side) * 255 for each in (preprocessing.mean, preprocessing.std))
        self._scale, self._shift = 1 / std, -mean / std
        self._copies = self._warm_up(warm_size)

    @property
    def description(self) -> str:
        """One line for the log: what runs, where, and how precisely."""
        return (
            f"precision={self.precision} device={self.device} threads={torch.get_num_threads()} "
            f"max_batch={self.max_batch} weights={self._origin.get('weights', 'unknown')} "
            f"sha256={self._origin.get('sha256', 'unknown')}"
        )

    def probabilities(self, pixels: list[np.ndarray]) -> torch.Tensor:
        """RGB pixels, N ≥ 1 arrays of uint8 (crop, crop, 3) → probabilities, float32 (N, 1000), on the CPU.

        At most `max_batch` images go through the network together, with as many threads as torch is set to. A row may
        hold what is not finite: `ranking.top_k` refuses it, so that the others keep their answers.
        """
        batches = (pixels[start : start + self.max_batch] for start in range(0, len(pixels), self.max_batch))
        return torch.cat([self._forward(batch) for batch in batches])

    @torch.inference_mode()
    def _forward(self, pixels: list[np.ndarray]) -> torch.Tensor:
        images = pixels * self._copies if len(pixels) == 1 else pixels
        logits: torch.Tensor = self._model(self._normalised(images))
        return logits[: len(pixels)].softmax(dim=1).cpu()

    def _normalised(self, images: list[np.ndarray]) -> torch.Tensor:
        side = self._side
        batch = torch.empty(len(images), side, side * 3, dtype=self._model.dtype)
        for image, normalised in zip(images, batch):  # one by one, in the processor's cache
            rows = torch.from_numpy(image.astype(np.float32)).view(side, side * 3)
            normalised.copy_(rows.mul_(self._scale).add_(self._shift))
        # (N, H, W · C) => (N, C, H, W), which is channels_last already
        return batch.view(-1, side, side, 3).permute(0, 3, 1, 2).to(self.device)

    @torch.inference_mode()
    def _warm_up(self, warm_size: int) -> int:
        """How many of a lone image go through the network, so that its answer has the bits that any company gives it.

        The first call takes twice as long: here, rather than in a client's request; a size not seen adds 10 ms. Some
        processors may convolve one image alone with other kernels, whose sums round differently. No documentation says
        which do, so it is seen here: then two of it go through.
        """
        noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (self._side, self._side, 3), dtype=np.uint8)
        several = max(2, min(warm_size, self.max_batch))
        features = [self._model.convolve(self._normalised([noise] * size)) for size in (1, several)]
        for found in features:
            self._model.classify(found)
        if torch.equal(features[0][0], features[1][0]):
            return 1
        self._model(self._normalised([noise] * 2))
        return 2


def _load(weights_file: Path) -> tuple[AlexNet, dict[str, str]]:
    """The model, its weights still in the memory map of the file, and what the file says of their origin."""
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        model = AlexNet()
    try:
        with safe_open(str(weights_file), framework="pt") as file:
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, assign=True)  # noqa: SIM118
            return model, file.metadata() or {}
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]  # torch lists every name, a line each
        raise ValueError(f"{weights_file.name} does not hold AlexNet's weights: {reason}") from None
