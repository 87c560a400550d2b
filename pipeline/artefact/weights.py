"""Where a network's weights come from, and whether they fit.

Weights are a state dict: the network's names → float32 arrays with its shapes (and tables of whole numbers, if a file
has them); see layout.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artefact.labels import imagenet_classes
from pipeline.artefact.model import ENTRY, MODEL, OF_A_FILE, Model, Published
from pipeline.shared.errors import MisfitWeights, PipelineError, WeightsElsewhere
from pipeline.shared.progress import Progress

if TYPE_CHECKING:  # torch takes seconds, and reading an archive's metadata does not need it
    from torch import nn

    from pipeline.artefact.layout import Layout

# Of the first sixty seeds, the one that gives photographs the most different classes with confidence: this makes
# agreement with torchvision meaningful. (In most random networks, two classes alternate by a hair.)
UNTRAINED_SEED = 15
LOGITS_DEVIATION = 3

URL = re.compile(r"(?!file:)([A-Za-z][A-Za-z0-9+.-]+)://")
DOWNLOADS = {
    "gs": "gcloud storage cp",
    "http": "curl -fLO",
    "https": "curl -fLO",
    "s3": "aws s3 cp",
    "hf": "hf download",
}


@dataclass(frozen=True)
class Weights:
    """A state dict that fits its network, and its origin: `imagenet`, `untrained`, one of torchvision's names,
    `url URL`, `file NAME` or `file NAME (PLACE IN IT)`. passed_over: the places of others in the file.
    """

    origin: str
    state: dict[str, np.ndarray]
    passed_over: tuple[str, ...] = ()

    @property
    def trained(self) -> bool:
        return self.origin != "untrained"


def load_weights(source: str | Path | Published, progress: Progress, model: Model = MODEL) -> Weights:
    """`imagenet` (the model file's or torchvision's), `untrained`, one of torchvision's names (`IMAGENET1K_V1`), a file
    made by torch.save or safetensors, or published weights → Weights of the model's architecture.

    Raises PipelineError if they are unavailable or do not fit.
    """
    if source == "":  # such as an unset shell variable; as a path it would be this folder
        raise PipelineError("--weights is empty: give it imagenet, untrained, or the path of a file")
    if not OF_A_FILE.fullmatch(model.architecture):
        from pipeline.artefact import zoo

        zoo.check_name(model.architecture, f"{model.file}: ")
    if source == "untrained":
        classes = len(model.classes) or 1000
        return Weights("untrained", untrained_state(model=model, classes=classes))
    if isinstance(source, str) and (url := URL.match(source)):
        raise WeightsElsewhere(source, DOWNLOADS.get(url[1].lower()))
    file, origin = _file(source, progress, model)
    from pipeline.artefact.architecture import layout
    from pipeline.artefact.checkpoint import read_checkpoint

    expected = layout(model.architecture, model.preprocessing.crop, model.folder)
    chosen = read_checkpoint(file, expected.shapes, expected.may_have)
    try:
        check_state(chosen.state, expected, model.architecture, file)
    except MisfitWeights as misfit:
        if misfit.finite and not OF_A_FILE.fullmatch(model.architecture):
            from pipeline.artefact.recognition import advice

            raise misfit.with_advice(advice(file, model.architecture)) from None
        raise
    place = f" ({chosen.place})" if chosen.place else ""
    fixed = {name: array for name, array in chosen.besides.items() if array.shape == expected.whole_numbers.get(name)}
    return Weights(f"{origin}{place}", chosen.state | fixed, tuple(chosen.passed_over))


def _file(source: str | Path | Published, progress: Progress, model: Model) -> tuple[Path, str]:
    """The file of a source, and the name of its origin."""
    from pipeline.artefact.download import cache_directory, downloaded

    if source == "imagenet":
        source = model.weights if isinstance(model.weights, Published) else "DEFAULT"
    if isinstance(source, str) and ENTRY.fullmatch(source):
        from pipeline.artefact import zoo

        if OF_A_FILE.fullmatch(model.architecture):
            raise PipelineError(
                f"{model.file}: weights: {source} is torchvision's, and {model.architecture} is not: "
                "give the file of its own weights"
            )
        entry = zoo.entry(model.architecture, source, f"{model.file}: ")
        if entry.meta["categories"] is None:
            raise PipelineError(f"{model.file}: weights: {entry} has no classes: write IMAGENET1K_V1")
        return downloaded(Published(entry.url, _digits_in_name(entry.url)), progress), str(entry)
    if isinstance(source, Published):
        if source == MODEL.weights:
            return downloaded(source, progress), "imagenet"
        cache = cache_directory() / source.sha256[:8]  # no file of torch.hub's has the same name there
        return downloaded(source, progress, cache), f"url {source.url}"
    file = Path(source)
    name = "".join(letter if letter.isprintable() else "?" for letter in file.name)
    return file, f"file {name}"


def _digits_in_name(url: str) -> str:
    """The first digits of the SHA-256, which torch.hub puts into file names."""
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", url)
    return digits[1] if digits else "?"


def untrained_state(seed: int = UNTRAINED_SEED, model: Model = MODEL, classes: int = 1000) -> dict[str, np.ndarray]:
    """Random weights from a fixed seed.

    AlexNet's are scaled as in He et al. (https://arxiv.org/abs/1502.01852): N(0, 2 / fan-in), and biases are zero. The
    signal then keeps its size through the layers, and the logits spread. Other networks keep their initial weights,
    except for the last layer of torchvision's: ViT's begins with zeros, and others' with very small numbers.
    """
    from pipeline.artefact.architecture import layout, module

    crop = model.preprocessing.crop
    if model.architecture != "alexnet":
        network = module(model.architecture, classes, crop, model.folder)
        if not OF_A_FILE.fullmatch(model.architecture):
            _spread_logits(network, layout(model.architecture, crop), crop, seed)
        return {name: tensor.numpy() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    random = np.random.Generator(np.random.PCG64(seed))
    state = {}
    for name, known in layout("alexnet", crop).shapes.items():
        shape = tuple(classes if size is None else size for size in known)
        if name.endswith("bias"):
            state[name] = np.zeros(shape, dtype=np.float32)
        else:
            fan_in = math.prod(shape[1:])
            state[name] = random.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / fan_in))
    return state


def _spread_logits(network: nn.Module, expected: Layout, crop: int, seed: int) -> None:
    """Gives the last layer random weights, scaled by the power of two that makes noise's logits deviate by about 3."""
    import torch

    random = np.random.Generator(np.random.PCG64(seed))
    state = network.state_dict()  # shares its memory with the network
    last = [state[name] for name, shape in expected.shapes.items() if None in shape]
    for tensor in last:
        drawn = random.standard_normal(tuple(tensor.shape), dtype=np.float32)
        tensor.copy_(torch.from_numpy(drawn) / math.sqrt(tensor[0].numel()) if tensor.dim() > 1 else torch.zeros(()))
    noise = torch.from_numpy(random.standard_normal((2, 3, crop, crop), dtype=np.float32))
    with torch.inference_mode():
        deviation = float(network(noise).std(dim=1).mean())
    if math.isfinite(deviation) and deviation > 0:
        for tensor in last:
            tensor.mul_(2.0 ** round(math.log2(LOGITS_DEVIATION / deviation)))


def check_state(state: dict[str, np.ndarray], expected: Layout, architecture: str, file: Path) -> None:
    """Raises MisfitWeights unless the names, shapes and values make a usable network."""
    from pipeline.artefact.layout import matches

    shapes = expected.shapes
    misfits = [f"{name} is missing" for name in shapes if name not in state]
    misfits += [f"{name} is not one of its weights" for name in state if name not in shapes]
    for name in shapes.keys() & state.keys():
        if not matches(state[name].shape, shapes[name]):
            known = tuple(size or "classes" for size in shapes[name])
            misfits.append(f"{name} has shape {state[name].shape}, not {known}".replace("'", ""))
        elif not np.isfinite(state[name]).all():
            misfits.append(f"{name} has values that are not finite")
    if not misfits and len(counts := expected.classes(state)) > 1:
        misfits.append(f"its last layer has both {' and '.join(map(str, sorted(counts)))} classes")
    if misfits:
        raise MisfitWeights(file, architecture, misfits)


# --- The network and its classes --------------------------------------------------------------------------------------


def with_classes(model: Model, weights: Weights) -> Model:
    """The model with the classes that its weights answer with.

    Raises PipelineError if they have no labels, or the number of labels is wrong.
    """
    outputs = _outputs(model, weights)
    of_torchvision = ENTRY.fullmatch(weights.origin) is not None
    if model.classes:
        if len(model.classes) != outputs:
            raise PipelineError(
                f"the weights ({weights.origin}) have {outputs} outputs, but there are {len(model.classes)} "
                f"{model.labels}: give one label for each output, in order, with labels: or --labels FILE"
            )
        return model
    if outputs == 1000:
        note = "" if of_torchvision else "labels: ImageNet's, as there are 1000 outputs and no labels were given"
        notes = (*model.notes, note) if note else model.notes
        return replace(model, classes=imagenet_classes(), labels="labels of ImageNet", notes=notes)
    raise PipelineError(
        f"{model.file}: labels is missing, and the weights ({weights.origin}) have {outputs} outputs: "
        f"give a list of {outputs} labels in order, or a file with one label per line"
    )


def _outputs(model: Model, weights: Weights) -> int:
    from pipeline.artefact.architecture import layout, outputs

    counts = layout(model.architecture, model.preprocessing.crop, model.folder).classes(weights.state)
    return counts.pop() if counts else outputs(model.architecture, model.preprocessing.crop, model.folder)


def network(model: Model, weights: Weights) -> nn.Module:
    """The model's network with these weights: float32, in eval mode, on the CPU. Its classes must be known."""
    import torch

    from pipeline.artefact.architecture import module

    built = module(model.architecture, len(model.classes), model.preprocessing.crop, model.folder)
    own: dict[str, Any] = built.state_dict()  # shares its memory with the network
    for name, array in weights.state.items():
        own[name].copy_(torch.from_numpy(array))
    return built
