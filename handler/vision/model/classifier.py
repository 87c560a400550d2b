"""AlexNet: the module, where and how precisely it runs, its warm-up, and top-k."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from vision.protocol.answer import Prediction, ScoredClass
from vision.worker.settings import Settings

# The mean and standard deviation per channel, from torchvision/transforms/_presets.py, `ImageClassification`.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

CLASSES = 1000
SIDE = 224  # pixels, of the square that goes into the network

# Rows that are multiplied are a multiple of this. For one to three of them, in a thread, oneDNN and MKL have other
# kernels, which add up in another order (seen on AMD's Zen 4, with up to 16 threads).
ROWS = 4

CPU_INFO = Path("/proc/cpuinfo")  # Linux alone has it
# How it names the instructions that multiply bfloat16: AMX and AVX-512 on x86, the BF16 extension on Arm.
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")


class AlexNet(nn.Module):
    """torchvision.models.alexnet, https://arxiv.org/abs/1404.5997, without the dropout that inference leaves out.

    Input: normalised images (N, 3, 224, 224), any float dtype. Output: logits (N, 1000), float32.
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
        features = self.convolve(images)
        if missing := -len(features) % ROWS:
            features = nn.functional.pad(features, (0, 0, 0, missing))  # (N, 9216) => (N + missing, 9216)
        hidden = self.classifier[:-1](features)
        with one_thread():  # several would add the products in another order: an answer must not hang on the load
            logits: torch.Tensor = self.classifier[-1](hidden.float())
        return logits[: len(images)]

    def convolve(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, 224, 224) => features (N, 9216)."""
        return torch.flatten(self.features(images.to(self.dtype)), start_dim=1)

    def to_precision(self, precision: str) -> None:
        """`float32`; or `bfloat16`, but for the last layer: rounding logits costs more accuracy than it saves time."""
        if precision == "bfloat16":
            self.dtype = torch.bfloat16
            self.features.bfloat16()
            self.classifier[:-1].bfloat16()
            last: Any = self.classifier[
                -1
            ]  # a copy, else it keeps the whole file mapped; transposed, it multiplies faster
            last.weight = nn.Parameter(last.weight.t().contiguous().t())
            last.bias = nn.Parameter(last.bias.clone())


class Classifier:
    """AlexNet on one device at one precision, loaded and warmed up.

    weights_file: a .safetensors file with AlexNet's state dict, float32.
    settings: of them, `precision`, `device` and `max_batch`.
    gpu_id: the GPU that TorchServe gives this worker, or None.
    warm_size: the largest number of images that comes at once as a rule; the warm-up tries it, and a single one.
    Raises ValueError for a setting or a weights file that does not fit, with a sentence for the server's log.
    """

    def __init__(self, weights_file: Path, settings: Settings, gpu_id: int | None, warm_size: int = 1) -> None:
        self.device = _choose_device(settings.device, gpu_id)
        self.precision = _choose_precision(settings.precision, self.device)
        self.max_batch = settings.max_batch
        model, self._origin = _load(weights_file)
        model.to_precision(self.precision)
        self._model = model.to(memory_format=torch.channels_last).to(self.device).eval()  # type: ignore[call-overload]
        # A row of pixels as the image has it, R G B R G B …: three numbers at a time take thrice as long.
        mean, std = (torch.tensor(values).repeat(SIDE) * 255 for values in (MEAN, STD))
        self._scale, self._shift = 1 / std, -mean / std
        self._copies = self._copies_of_one()
        self._warm_up(warm_size)

    @property
    def description(self) -> str:
        """One line for the log: what runs, where, and how precisely."""
        return (
            f"precision={self.precision} device={self.device} threads={torch.get_num_threads()} "
            f"max_batch={self.max_batch} weights={self._origin.get('weights', 'unknown')} "
            f"sha256={self._origin.get('sha256', 'unknown')}"
        )

    def probabilities(self, pixels: list[np.ndarray]) -> torch.Tensor:
        """RGB pixels, N ≥ 1 arrays of uint8 (224, 224, 3) → probabilities, float32 (N, 1000), on the CPU.

        At most `max_batch` images go through the network together, with as many threads as torch is set to.
        """
        batches = (pixels[start : start + self.max_batch] for start in range(0, len(pixels), self.max_batch))
        probabilities = torch.cat([self._forward(batch) for batch in batches])
        if not probabilities.isfinite().all():
            raise ArithmeticError("the network's answer is not finite: are these weights trained for AlexNet?")
        return probabilities

    @torch.inference_mode()
    def _forward(self, pixels: list[np.ndarray]) -> torch.Tensor:
        images = pixels * self._copies if len(pixels) == 1 else pixels
        logits: torch.Tensor = self._model(self._normalised(images))
        return logits[: len(pixels)].softmax(dim=1).cpu()

    def _normalised(self, images: list[np.ndarray]) -> torch.Tensor:
        batch = torch.empty(len(images), SIDE, SIDE * 3, dtype=self._model.dtype)
        for image, normalised in zip(images, batch):  # one by one, in the processor's cache
            rows = torch.from_numpy(image.astype(np.float32)).view(SIDE, SIDE * 3)
            normalised.copy_(rows.mul_(self._scale).add_(self._shift))
        # (N, H, W · C) => (N, C, H, W), which is channels_last already
        return batch.view(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2).to(self.device)

    @torch.inference_mode()
    def _copies_of_one(self) -> int:
        """How many of a lone image go through the network, so that its answer has the bits that any company gives it.

        Two, where this processor convolves one image alone with other kernels, whose sums round differently: no
        documentation says which do, so it is tried.
        """
        noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
        alone = torch.cat([self._model.convolve(self._normalised([image])) for image in noise])
        return 1 if torch.equal(alone, self._model.convolve(self._normalised(list(noise)))) else 2

    def _warm_up(self, warm_size: int) -> None:
        """The first call takes twice as long: here, rather than in a client's request. A size not seen adds 10 ms."""
        black = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
        for size in {1, min(warm_size, self.max_batch)}:
            self._forward([black] * size)


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def top_k(probabilities: torch.Tensor, k: int, classes: list[tuple[str, str]]) -> Prediction:
    """Probabilities of one image, float32 (1000,) → its prediction, most probable class first.

    classes: `[WordNet id, label]` for each index.
    """
    values, indices = probabilities.topk(k)
    found = ((index, *classes[index], value) for value, index in zip(values.tolist(), indices.tolist()))
    return Prediction([ScoredClass(*each) for each in found])


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


def _choose_device(setting: str, gpu_id: int | None) -> torch.device:
    if setting != "auto":
        return torch.device(setting)
    if gpu_id is not None and torch.cuda.is_available():
        return torch.device("cuda", gpu_id)
    return torch.device("cpu")


def _choose_precision(setting: str, device: torch.device) -> str:
    if setting in ("float32", "bfloat16"):
        return setting
    if setting != "auto":
        raise ValueError(f"model-config.yaml: handler.precision is {setting!r}; use auto, float32 or bfloat16")
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _processor_multiplies_bfloat16() else "float32"


def _processor_multiplies_bfloat16() -> bool:
    try:
        flags = set(CPU_INFO.read_text().split())
    except OSError:
        return False
    return not flags.isdisjoint(BFLOAT16_FLAGS)
