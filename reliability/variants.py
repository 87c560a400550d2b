"""Versions of one model: some fifty damaged ones, each in a different way, and fifty equal ones.

`python -P -m reliability.variants FOLDER NAME` answers the golden set in FOLDER as another processor would, if its
variables are in the environment.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pipeline.artefact.contents import CLASSES_FILE, PROGRAM_FILE, WEIGHTS_FILE, write_weights
from pipeline.artefact.model import MODEL, MODEL_NAME
from pipeline.artefact.program import export
from pipeline.artefact.weights import Weights, network
from reliability.decoding import PREPROCESSING
from reliability.golden_set import MOST_PIXELS, State
from vision.image import decoder
from vision.image.preprocessing import Preprocessing
from vision.model.classifier import Classifier
from vision.model.facts import Facts
from vision.worker.settings import Settings, read_settings

Labels = list[tuple[str, str]]
Pixels = np.ndarray  # uint8 (224, 224, 3)

HANDLER = Path(__file__).resolve().parents[1] / "handler"
LAYERS = [f"features.{number}" for number in (0, 3, 6, 8, 10)] + [f"classifier.{number}" for number in (1, 4, 6)]
BATCHES = (2, 3, 4, 5, 8, 16, 32)
PRECISIONS = ("float32", "bfloat16")
THREADS = (1, 2)

# The instructions that oneDNN and PyTorch may use, if the processor has them. Neither applies on Arm.
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
PROCESSORS = {
    "SSE 4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX-512 VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX-512 BF16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "AMX": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"},
    "PyTorch without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "PyTorch with AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
}


@dataclass(frozen=True)
class Variant:
    """kind: what was changed, for the table; name: the details. The rest is the change itself."""

    kind: str
    name: str
    state: Callable[[State], State] | None = None
    labels: Callable[[Labels], Labels] = lambda labels: labels
    pixels: Callable[[Pixels], Pixels] = lambda pixels: pixels
    preprocessing: Preprocessing = PREPROCESSING
    precision: str = "float32"
    threads: int = 2
    batch: int = 16


def probabilities(variant: Variant, state: State, images: list[bytes], scratch: Path) -> np.ndarray:
    """Image files → float32 (N, 1000), as a server of this version computes them.

    scratch: a folder for only this state, in which its files are written once.
    """
    served = scratch / "served"
    if not served.exists():
        served.mkdir()
        program = export(network(MODEL, Weights("file golden", state)), PREPROCESSING.crop)
        (served / PROGRAM_FILE).write_bytes(program.graph)
        write_weights(program.tensors, "file golden", served / WEIGHTS_FILE)
    if variant.state:
        changed = scratch / "changed"
        changed.mkdir(exist_ok=True)
        shutil.copy(served / PROGRAM_FILE, changed)  # its tensors have the state's names
        write_weights(variant.state(state), "file golden", changed / WEIGHTS_FILE)
        served = changed
    settings = replace(_settings(), precision=variant.precision, max_batch=variant.batch)
    before = torch.get_num_threads()
    torch.set_num_threads(variant.threads)
    try:
        facts = Facts(MODEL_NAME, CLASSES_FILE, variant.preprocessing, bfloat16=True)
        classifier = Classifier(served, facts, settings, None)
        opened = [decoder.open_image(image, "body", MOST_PIXELS) for image in images]
        pixels = [variant.pixels(decoder.decode(image, variant.preprocessing)) for image in opened]
        return np.asarray(classifier.probabilities(pixels))
    finally:
        torch.set_num_threads(before)


def _settings() -> Settings:
    return read_settings(yaml.safe_load((HANDLER / "model-config.yaml").read_text()))


# --- Equal ones -------------------------------------------------------------------------------------------------------


def equal_here() -> list[Variant]:
    """The eighteen that this processor computes."""
    found = [
        Variant("batches of another size", f"{precision}, {batch}", precision=precision, batch=batch)
        for precision in PRECISIONS
        for batch in BATCHES
    ]
    found += [Variant("one thread", precision, precision=precision, threads=1, batch=1) for precision in PRECISIONS]
    found += [
        Variant("weights rounded", "to float16", state=lambda state: _each(state, _through(torch.float16))),
        Variant("weights rounded", "to bfloat16", state=lambda state: _each(state, _through(torch.bfloat16))),
    ]
    return found


def equal_elsewhere(processor: str) -> list[Variant]:
    """The four of a process that was started with variables from PROCESSORS."""
    return [
        Variant("another processor", f"{processor}, {precision}, {threads}", precision=precision, threads=threads)
        for precision in PRECISIONS
        for threads in THREADS
    ]


def _through(dtype: torch.dtype) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.asarray(torch.from_numpy(array).to(dtype).float())


def _each(state: State, change: Callable[[np.ndarray], np.ndarray]) -> State:
    return {name: change(array) for name, array in state.items()}


# --- Damaged ones -----------------------------------------------------------------------------------------------------


def damaged() -> list[Variant]:
    return [*_labels(), *_weights(), *_normalisation(), *_classes(), *_pictures(), *_last_bias()]


def _labels() -> Iterator[Variant]:
    kind = "labels in another order"
    yield Variant(kind, "shifted by one", labels=lambda labels: [*labels[1:], labels[0]])
    yield Variant(kind, "shifted by one the other way", labels=lambda labels: [labels[-1], *labels[:-1]])
    yield Variant(kind, "by their names", labels=lambda labels: sorted(labels, key=lambda label: label[1]))
    yield Variant(kind, "halves exchanged", labels=lambda labels: [*labels[500:], *labels[:500]])


def _weights() -> Iterator[Variant]:
    for layer in LAYERS:
        yield _of_layer("the weights of a layer are zero", layer, np.zeros_like)
    for layer in LAYERS:
        yield _of_layer("the weights of a layer are shuffled", layer, _shuffled)
    for layer in ("features.10", "classifier.1", "classifier.4"):
        yield _of_layer("half of the units of a layer are dropped", layer, _half_dropped)
    for layer in ("features.0", "features.6", "classifier.1", "classifier.6"):
        yield _of_layer("noise as large as the weights of a layer", layer, _noisy)
    kind = "kernels in another layout"
    for layer in ("features.0", "features.3"):
        yield _of_layer(kind, layer, lambda weight: weight[:, :, ::-1, ::-1])
    yield _of_layer(kind, "features.6", lambda weight: weight.transpose(0, 1, 3, 2))
    yield _of_layer(kind, "features.8", lambda weight: weight[::-1])


def _of_layer(kind: str, layer: str, change: Callable[[np.ndarray], np.ndarray]) -> Variant:
    name = f"{layer}.weight"
    return Variant(kind, layer, state=lambda state: state | {name: np.ascontiguousarray(change(state[name]))})


def _chance() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(0))


def _shuffled(weight: np.ndarray) -> np.ndarray:
    return _chance().permuted(weight).reshape(weight.shape)


def _noisy(weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight + _chance().standard_normal(weight.shape, np.float32) * weight.std())


def _half_dropped(weight: np.ndarray) -> np.ndarray:
    kept = np.arange(len(weight)) % 2 == 0
    return np.asarray(weight * kept.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float32))


def _normalisation() -> Iterator[Variant]:
    mean, std, nothing, whole = PREPROCESSING.mean, PREPROCESSING.std, [0.0] * 3, [1.0] * 3

    def of(name: str, mean: Any = mean, std: Any = std, pixels: Callable[[Pixels], Pixels] | None = None) -> Variant:
        own = replace(PREPROCESSING, mean=mean, std=std)
        return Variant("another normalisation", name, preprocessing=own, pixels=pixels or (lambda pixels: pixels))

    yield of("none", nothing, whole)
    yield of("no mean", mean=nothing)
    yield of("no standard deviation", std=whole)
    yield of("one half for both", [0.5] * 3, [0.5] * 3)
    yield of("from 0 to 255", nothing, [1 / 255] * 3)
    yield of("mean and standard deviation exchanged", std, mean)
    yield of("negative", pixels=lambda pixels: 255 - pixels)
    yield of("BGR", pixels=lambda pixels: np.ascontiguousarray(pixels[..., ::-1]))
    yield of("GBR", pixels=lambda pixels: np.ascontiguousarray(pixels[..., [1, 2, 0]]))
    yield of("BRG", pixels=lambda pixels: np.ascontiguousarray(pixels[..., [2, 0, 1]]))
    yield of("grey", pixels=lambda pixels: np.repeat(pixels.mean(-1, keepdims=True).astype(np.uint8), 3, -1))


def _classes() -> Iterator[Variant]:
    ordered = np.arange(1000)
    half = _chance().permutation(ordered)[:500]
    at_random = ordered.copy()
    at_random[half] = np.roll(half, 1)
    for name, order in {
        "halves": np.roll(ordered, 500),
        "in pairs": ordered ^ 1,
        "the first half, reversed": np.concatenate([ordered[499::-1], ordered[500:]]),
        "half of them, at random": at_random,
    }.items():
        yield Variant("classes swapped", name, state=lambda state, order=order: _reordered(state, order))  # type: ignore[misc]


def _reordered(state: State, order: np.ndarray) -> State:
    return state | {name: state[name][order] for name in ("classifier.6.weight", "classifier.6.bias")}


def _pictures() -> Iterator[Variant]:
    kind = "pictures seen otherwise"
    yield Variant(kind, "lying", pixels=lambda pixels: np.ascontiguousarray(pixels.transpose(1, 0, 2)))
    yield Variant(kind, "upside down", pixels=lambda pixels: np.ascontiguousarray(pixels[::-1]))
    yield Variant(kind, "coarse", pixels=lambda pixels: pixels[::8, ::8].repeat(8, 0).repeat(8, 1))
    yield Variant(kind, "twice as near", preprocessing=replace(PREPROCESSING, resize=512))


def _last_bias() -> Iterator[Variant]:
    name = "classifier.6.bias"
    favour = np.eye(1, 1000, 3, dtype=np.float32)[0]
    kind = "another bias of the last layer"
    yield Variant(kind, "one class favoured", state=lambda state: state | {name: state[name] + 10 * favour})
    yield Variant(kind, "none", state=lambda state: state | {name: np.zeros_like(state[name])})
    yield Variant(kind, "shuffled", state=lambda state: state | {name: _shuffled(state[name])})


# --- Another processor ------------------------------------------------------------------------------------------------


def main(folder: Path, processor: str) -> None:
    """FOLDER/state.npz and FOLDER/pictures → FOLDER/PROCESSOR.npz, an array for each variant."""
    with np.load(folder / "state.npz") as file:
        state = dict(file)
    images = [file.read_bytes() for file in sorted((folder / "pictures").iterdir())]
    found = {it.name: probabilities(it, state, images, folder) for it in equal_elsewhere(processor)}
    np.savez(folder / f"{processor}.npz", **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
