"""The model that is packed and served: models/NAME.yaml, the single source of what is known about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefact import labels as label_files
from pipeline.artefact.model_file import check_known, read_mapping, wrong
from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import PipelineError

KEYS = ("name", "architecture", "weights", "labels", "preprocessing")
MOST_PIXELS = 2048  # of a side; torchvision's largest is 600
TURNS_INPUTS = ("googlenet", "inception_v3")  # see OPTIONS in architecture.py
TURNS_INPUTS_NOTE = (
    "transform_input: on, as torchvision sets it for its own weights and models fine-tuned from them; "
    "a model trained from scratch, with weights=None, needs architecture: file.py:function"
)
OF_TORCHVISION = "https://download.pytorch.org/"
OF_A_FILE = re.compile(r".+\.py:\w+")
ENTRY = re.compile(r"(\w+_Weights\.)?[A-Z][A-Z0-9_]*")  # torchvision's names: DEFAULT, ResNet18_Weights.IMAGENET1K_V1

# The name is used for an InferenceService, TorchServe, URLs and files; see pipeline/deployment/names.py.
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 47
TAKEN_ENDINGS = ("-predictor", "-metrics", "-public", "-candidate")


@dataclass(frozen=True)
class Preprocessing:
    """resize: pixels of the short side; crop: pixels of the square in the middle; interpolation: bilinear or bicubic,
    antialiased; mean and std: for red, green and blue, from 0 (black) to 1 (full colour).
    """

    resize: int
    crop: int
    interpolation: str
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Published:
    """Weights on the web. sha256: the file's, in 64 hexadecimal digits, or its first eight (torchvision's)."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Model:
    """What is known before weights are loaded.

    architecture: as the user gave it. weights: `untrained`, `imagenet`, one of torchvision's names, a file, or
    published weights. classes: (WordNet id or None, label) for each output; empty if none were given: see
    `weights.with_classes`. labels: their source, in words. notes: defaults that were applied, in sentences.
    """

    file: Path
    name: str
    architecture: str
    weights: str | Path | Published
    classes: list[tuple[str | None, str]]
    labels: str
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The file's folder, where its relative paths begin."""
        return self.file.parent


def read_model(file: Path, name: str | None = None, weights: str | None = None, labels: Path | None = None) -> Model:
    """name, weights, labels: a command's options, which override the file.

    Raises PipelineError, which names the key and what is wrong with it.
    """
    said = read_mapping(file)
    for key in said:
        check_known(file, str(key), KEYS)
    if name is not None:
        said["name"] = name
    _check_name(said.get("name"), f"{file}: name" if name is None else "--name")
    architecture = said.get("architecture")
    if not isinstance(architecture, str) or not (
        OF_A_FILE.fullmatch(architecture) or re.fullmatch(r"[\w-]+", architecture)
    ):
        raise wrong(
            file,
            "architecture",
            architecture,
            "the name of a torchvision classifier, such as resnet18, or file.py:function",
        )
    source = _weights_of_option(weights) if weights not in (None, "imagenet") else _weights(file, said, architecture)
    if weights == "imagenet" and not isinstance(source, Published):
        source = "DEFAULT"
    classes, labels_from = _classes(file, said.get("labels"), labels)
    given = said.get("preprocessing")
    preprocessing, notes = _preprocessing(file, {} if given is None else given, architecture, source)
    if architecture in TURNS_INPUTS:
        notes = (*notes, TURNS_INPUTS_NOTE)
    return Model(file, said["name"], architecture, source, classes, labels_from, preprocessing, notes)


# --- Its keys ---------------------------------------------------------------------------------------------------------


def _check_name(name: object, place: str) -> None:
    good = f"up to {LONGEST_NAME} lower-case letters, digits and hyphens, a letter first, no hyphen last, such as pets"
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise wrong("", place, name, good)
    for ending in TAKEN_ENDINGS:
        if name.endswith(ending):
            raise PipelineError(
                f"{place} must not end in {ending}: in a cluster, this ending marks parts of other services"
            )


def _weights(file: Path, said: dict[Any, Any], architecture: str) -> str | Path | Published:
    weights = said.get("weights")
    good = "a file, one of torchvision's names such as IMAGENET1K_V1, untrained, or {url: https://…, sha256: …}"
    if "weights" not in said and not OF_A_FILE.fullmatch(architecture):
        return "DEFAULT"
    if isinstance(weights, dict):
        return _published(file, weights)
    if not isinstance(weights, str) or not weights.strip() or "\0" in weights:
        raise wrong(file, "weights", weights, good)
    if re.match(r"\w[\w+.-]+://", weights):
        good = f"write weights: {{url: {weights[:200]}, sha256: …}}"
        download = "download it first, and write the file's name"
        raise PipelineError(f"{file}: weights is a URL: {good if weights.startswith('https:') else download}")
    if weights == "imagenet":
        return "DEFAULT"
    return weights if weights == "untrained" or ENTRY.fullmatch(weights) else file.parent / weights


def _weights_of_option(weights: str) -> str | Path | Published:
    return (
        weights
        if weights in ("", "untrained", "imagenet") or ENTRY.fullmatch(weights) or "://" in weights
        else Path(weights)
    )


def _published(file: Path, weights: dict[Any, Any]) -> Published:
    for key in weights:
        check_known(file, str(key), ("url", "sha256"), "weights.")
    url, sha256 = weights.get("url"), weights.get("sha256")
    if not isinstance(url, str) or not re.fullmatch(r"https://[^/\s]+/(\S*/)?[\w.+%-]+", url):
        raise wrong(file, "weights.url", url, "an https URL of a file")
    # torchvision has eight digits in its files' names. For anybody else's files, eight are too few.
    in_name = re.search(r"-([0-9a-f]{8,64})\.\w+$", url) if url.startswith(OF_TORCHVISION) else None
    if sha256 is None and in_name:
        return Published(url, in_name[1])
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise wrong(file, "weights.sha256", sha256, "64 hexadecimal digits in quotes, as sha256sum prints them")
    return Published(url, sha256)


def _classes(file: Path, said: object, option: Path | None) -> tuple[list[tuple[str | None, str]], str]:
    if option is not None:
        return label_files.read_labels(option), f"labels of {option.name}"
    if said is None:
        return [], ""
    if not isinstance(said, str) or not said.strip() or "\0" in said:
        return label_files.from_data(said, f"{file}: labels"), "labels of the model file"
    try:
        return label_files.read_labels(file.parent / said), f"labels of {Path(said).name}"
    except PipelineError as error:
        raise PipelineError(f"{file}: labels: {error}") from None


def _preprocessing(
    file: Path, said: object, architecture: str, weights: str | Path | Published
) -> tuple[Preprocessing, tuple[str, ...]]:
    if not isinstance(said, dict):
        raise wrong(file, "preprocessing", said, "a mapping, such as {resize: 256, crop: 224}")
    for key in said:
        check_known(file, str(key), tuple(PREPROCESSING), "preprocessing.")
    for key, (is_right, expected) in PREPROCESSING.items():
        if key in said and not is_right(said[key]):
            raise wrong(file, f"preprocessing.{key}", said[key], expected)
    missing = [key for key in PREPROCESSING if key not in said]
    defaults, whose = usual_preprocessing(architecture, weights, f"{file}: ") if missing else ({}, "")
    values: dict[str, Any] = {key: said.get(key, defaults.get(key)) for key in PREPROCESSING}
    if values["crop"] > values["resize"]:
        of_whom = f" ({values['resize']}, by default)" if "resize" in missing else f" ({values['resize']})"
        raise PipelineError(
            f"{file}: preprocessing.crop must be at most preprocessing.resize{of_whom}: {values['crop']} is more"
        )
    for key in ("mean", "std"):
        values[key] = [float(each) for each in values[key]]
    notes = (
        (f"preprocessing: {', '.join(f'{key} {_plain(values[key])}' for key in missing)}, as {whose}",)
        if missing
        else ()
    )
    return Preprocessing(**values), notes


def _plain(value: object) -> str:
    return " ".join(f"{each:.4g}" for each in value) if isinstance(value, list) else str(value)


def usual_preprocessing(
    architecture: str, weights: str | Path | Published, place: str = ""
) -> tuple[dict[str, Any], str]:
    """The default preprocessing, and its source: for torchvision's weights, by name or URL, their own; for a file, that
    of the newest weights (DEFAULT), from which fine-tuning usually starts; for a user's own network, ImageNet's.
    """
    if OF_A_FILE.fullmatch(architecture):
        usual = {"resize": 256, "crop": 224, "interpolation": "bilinear"}
        mean_and_std = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        return usual | mean_and_std, "is usual with ImageNet"
    from pipeline.artefact import zoo  # takes two seconds, and a complete model file does not need it

    entry = zoo.entry(architecture, place=place)
    if isinstance(weights, str) and ENTRY.fullmatch(weights):
        entry = zoo.entry(architecture, weights, place)
    elif isinstance(weights, Published):
        entry = next((each for each in zoo.entries(architecture) if each.url == weights.url), entry)
    preset = entry.transforms()
    found = {
        "resize": preset.resize_size[0],
        "crop": preset.crop_size[0],
        "interpolation": preset.interpolation.value,
        "mean": list(preset.mean),
        "std": list(preset.std),
    }
    return found, f"torchvision has it for {entry}"


def _are_pixels(value: object) -> bool:
    return type(value) is int and 0 < value <= MOST_PIXELS


def _are_channels(lowest: float) -> Callable[[object], bool]:
    def right(value: object) -> bool:
        if not isinstance(value, list) or len(value) != 3:
            return False
        return all(type(each) in (int, float) and lowest <= each <= 10 for each in value)

    return right


# Key → whether a value is valid, and what would be.
PREPROCESSING: dict[str, tuple[Callable[[object], bool], str]] = {
    "resize": (_are_pixels, f"a whole number from 1 to {MOST_PIXELS}, such as 256"),
    "crop": (_are_pixels, f"a whole number from 1 to {MOST_PIXELS}, such as 224"),
    "interpolation": (lambda value: value in ("bilinear", "bicubic"), "bilinear or bicubic"),
    "mean": (_are_channels(-10), "three numbers, for colours from 0 to 1, such as [0.485, 0.456, 0.406]"),
    "std": (_are_channels(1e-6), "three numbers above 0, for colours from 0 to 1, such as [0.229, 0.224, 0.225]"),
}

MODEL = read_model(CHECKOUT / "models" / "alexnet.yaml")
MODEL_NAME = MODEL.name
