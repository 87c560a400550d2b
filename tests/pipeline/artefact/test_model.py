"""What models/*.yaml may contain, and the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.artefact import zoo
from pipeline.artefact.labels import imagenet_classes
from pipeline.artefact.model import LONGEST_NAME, MODEL, TAKEN_ENDINGS, Preprocessing, Published, read_model
from pipeline.deployment import names
from pipeline.shared.errors import PipelineError
from tests.support.reference import TRANSFORM

WHOLE: dict[str, Any] = {
    "name": "pets",
    "architecture": "resnet18",
    "weights": "pets.pth",
    "labels": ["abyssinian", "beagle"],
    "preprocessing": {
        "resize": 256,
        "crop": 224,
        "interpolation": "bicubic",
        "mean": [0, 0.5, 1],
        "std": [1, 0.5, 0.25],
    },
}


def written(folder: Path, said: object) -> Path:
    file = folder / "mine.yaml"
    file.write_text(said if isinstance(said, str) else yaml.safe_dump(said))
    return file


def changed(place: str, value: Any) -> dict[str, Any]:
    """WHOLE with one value changed, or (None) removed."""
    said = {**WHOLE, "preprocessing": dict(WHOLE["preprocessing"])}
    *above, last = place.split(".")
    parent = said[above[0]] if above else said
    if value is None:
        del parent[last]
    else:
        parent[last] = value
    return said


def refusal(file: Path) -> str:
    with pytest.raises(PipelineError) as refused:
        read_model(file)
    sentence = str(refused.value)
    assert sentence.isprintable()  # one line
    assert sentence.startswith(str(file))
    return sentence.removeprefix(str(file)).removeprefix(": ").strip()


# --- What is right ----------------------------------------------------------------------------------------------------


def test_the_first_model_is_what_torchvision_was_trained_with() -> None:
    assert MODEL.architecture == "alexnet"
    (resize,), (crop,) = TRANSFORM.resize_size, TRANSFORM.crop_size
    assert MODEL.preprocessing == Preprocessing(
        resize, crop, TRANSFORM.interpolation.value, TRANSFORM.mean, TRANSFORM.std
    )
    assert MODEL.classes == imagenet_classes()
    assert MODEL.notes == ()


def test_a_whole_file(tmp_path: Path) -> None:
    model = read_model(written(tmp_path, WHOLE))
    assert (model.name, model.architecture) == ("pets", "resnet18")
    assert model.weights == tmp_path / "pets.pth"  # next to the file, wherever it is read from
    assert model.classes == [(None, "abyssinian"), (None, "beagle")]
    assert model.preprocessing == Preprocessing(256, 224, "bicubic", [0.0, 0.5, 1.0], [1.0, 0.5, 0.25])
    assert {type(each) for each in model.preprocessing.mean + model.preprocessing.std} == {float}
    assert model.notes == ()


def test_name_and_architecture_are_enough(tmp_path: Path) -> None:
    model = read_model(written(tmp_path, {"name": "pets", "architecture": "resnet50"}))
    assert (model.weights, model.classes) == ("DEFAULT", [])
    assert (model.preprocessing.resize, model.preprocessing.crop) == (232, 224)
    (note,) = model.notes
    assert note.startswith("preprocessing: resize 232, crop 224, interpolation bilinear, ")
    assert note.endswith(", as torchvision has it for ResNet50_Weights.IMAGENET1K_V2")


def test_a_network_of_ones_own_is_prepared_for_as_with_imagenet(tmp_path: Path) -> None:
    said = {"name": "own", "architecture": "net.py:build", "weights": "untrained", "preprocessing": {"crop": 192}}
    model = read_model(written(tmp_path, said))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    assert model.preprocessing == Preprocessing(256, 192, "bilinear", mean, std)
    (note,) = model.notes
    assert note.endswith(", as is usual with ImageNet")
    assert "crop" not in note  # it was given


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("untrained", "untrained"),
        ("imagenet", "DEFAULT"),
        ("IMAGENET1K_V1", "IMAGENET1K_V1"),
        ("ResNet18_Weights.DEFAULT", "ResNet18_Weights.DEFAULT"),
        (
            {"url": "https://download.pytorch.org/models/net-0123abcd.pth"},
            Published("https://download.pytorch.org/models/net-0123abcd.pth", "0123abcd"),
        ),
        ({"url": "https://example.org/a", "sha256": "0" * 64}, Published("https://example.org/a", "0" * 64)),
    ],
)
def test_weights_that_are_no_file(tmp_path: Path, weights: Any, expected: object) -> None:
    assert read_model(written(tmp_path, changed("weights", weights))).weights == expected


def test_options_go_before_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("rose\ntulip\nlily\n")
    model = read_model(MODEL.file, "flowers", "flowers.pth", tmp_path / "labels.txt")
    assert (model.name, model.weights) == ("flowers", Path("flowers.pth"))
    assert model.classes == [(None, "rose"), (None, "tulip"), (None, "lily")]
    assert (model.architecture, model.preprocessing) == (MODEL.architecture, MODEL.preprocessing)
    assert read_model(MODEL.file, weights="untrained").weights == "untrained"
    assert read_model(MODEL.file, weights="imagenet") == MODEL
    with pytest.raises(PipelineError, match=r"^--name must be up to 47 lower-case letters"):
        read_model(MODEL.file, "My Flowers")


# --- Defaults ---------------------------------------------------------------------------------------------------------

ENTRIES = [(name, entry) for name in zoo.names() for entry in zoo.entries(name)]


def test_all_of_torchvisions_weights_are_prepared_for_as_torchvision_does(tmp_path: Path) -> None:
    assert (len(zoo.names()), len(ENTRIES)) == (80, 115)
    classes = [label for _, label in imagenet_classes()]
    presets = set()
    for architecture, entry in ENTRIES:
        said = {"name": "a", "architecture": architecture, "weights": str(entry)}
        found = read_model(written(tmp_path, said)).preprocessing
        preset = entry.transforms()
        assert [found.resize] == preset.resize_size, entry
        assert [found.crop] == preset.crop_size, entry
        assert found.interpolation == preset.interpolation.value, entry
        assert (tuple(found.mean), tuple(found.std)) == (tuple(preset.mean), tuple(preset.std)), entry
        assert preset.antialias, entry
        assert entry.meta["categories"] in (classes, None), entry  # None: VGG's features for SSD, without classes
        presets.add(str(found))
    assert len(presets) == 28


def test_weights_by_url_are_prepared_for_as_those_by_name(tmp_path: Path) -> None:
    entry = zoo.entry("vit_b_16", "IMAGENET1K_SWAG_E2E_V1")
    said = {"name": "a", "architecture": "vit_b_16", "weights": {"url": entry.url}}
    model = read_model(written(tmp_path, said))
    assert model.preprocessing.crop == 384
    assert isinstance(model.weights, Published)
    assert entry.url.endswith(f"-{model.weights.sha256}.pth")


# --- What is wrong ----------------------------------------------------------------------------------------------------

NAME = "name must be up to 47 lower-case letters, digits and hyphens, a letter first, no hyphen last, such as pets"
RESIZE = "preprocessing.resize must be a whole number from 1 to 2048, such as 256"
MEAN = "preprocessing.mean must be three numbers, for colours from 0 to 1, such as [0.485, 0.456, 0.406]"
STD = "preprocessing.std must be three numbers above 0, for colours from 0 to 1, such as [0.229, 0.224, 0.225]"
INTERPOLATION = "preprocessing.interpolation must be bilinear or bicubic"
ARCHITECTURE = "the name of a torchvision classifier, such as resnet18, or file.py:function"
ANOTHERS = "in a cluster, this ending marks parts of other services"
THERE_ARE = "the keys are resize, crop, interpolation, mean, std"
QUOTES = "is not (YAML reads yes, no, on and off as true or false: put text in quotes)"
WEIGHTS = (
    "weights must be a file, one of torchvision's names such as IMAGENET1K_V1, untrained, or "
    "{url: https://…, sha256: …}"
)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("name", "Alex Net", f"{NAME}: 'Alex Net' is not"),
        ("name", "p" * 48, f"{NAME}: '{'p' * 12}...{'p' * 13}' is not"),
        ("name", True, f"{NAME}: True {QUOTES}"),
        ("name", None, NAME.replace("must be", "is missing: it must be")),
        ("name", "pets-predictor", f"name must not end in -predictor: {ANOTHERS}"),
        (
            "architecture",
            None,
            f"architecture is missing: it must be {ARCHITECTURE}",
        ),
        ("weights", ["a"], f"{WEIGHTS}: ['a'] is not"),
        ("weights", "", f"{WEIGHTS}: '' is not"),
        (
            "weights",
            "https://example.org/a.pth",
            "weights is a URL: write weights: {url: https://example.org/a.pth, sha256: …}",
        ),
        ("weights", "gs://b/a.pth", "weights is a URL: download it first, and write the file's name"),
        (
            "weights",
            {"url": "http://example.org/a.pth"},
            "weights.url must be an https URL of a file: 'http://example.org/a.pth' is not",
        ),
        (
            "weights",
            {"url": "https://example.org/a.pth"},
            "weights.sha256 is missing: it must be 64 hexadecimal digits in quotes, as sha256sum prints them",
        ),
        ("weights", {"uri": "a"}, "weights.uri is not a key of a model file: did you mean url?"),
        ("labels", 2, "labels must be a list of labels, such as [cat, dog], or the name of a file with them"),
        ("labels", [True, False], "labels[0] is True, not text (yes, no, on, off or null in YAML): put it in quotes"),
        ("labels", ["a", 1], "labels[1] is the number 1, not text: put it in quotes, '1'"),
        ("labels", ["cat"], "labels has 1 label: a classifier has at least two classes, with a label each"),
        ("preprocessing", [256], "preprocessing must be a mapping, such as {resize: 256, crop: 224}: [256] is not"),
        ("preprocessing.resize", "256", f"{RESIZE}: to YAML, '256' is text, not a number"),
        ("preprocessing.resize", True, f"{RESIZE}: True {QUOTES}"),
        ("preprocessing.resize", 0, f"{RESIZE}: 0 is not"),
        ("preprocessing.resize", 256.0, f"{RESIZE}: 256.0 is not"),
        ("preprocessing.resize", 100_000, f"{RESIZE}: 100000 is not"),
        ("preprocessing.resize", 223, "preprocessing.crop must be at most preprocessing.resize (223): 224 is more"),
        ("preprocessing.interpolation", "lanczos", f"{INTERPOLATION}: 'lanczos' is not"),
        ("preprocessing.interpolation", ["bicubic"], f"{INTERPOLATION}: ['bicubic'] is not"),
        ("preprocessing.mean", [0.5, 0.5], f"{MEAN}: [0.5, 0.5] is not"),
        ("preprocessing.mean", 0.5, f"{MEAN}: 0.5 is not"),
        ("preprocessing.mean", [0.5, float("nan"), 0.5], f"{MEAN}: [0.5, nan, 0.5] is not"),
        ("preprocessing.mean", [0.5, 1e200, 0.5], f"{MEAN}: [0.5, 1e+200, 0.5] is not"),
        ("preprocessing.mean", [123.675, 116.28, 103.53], f"{MEAN}: [123.675, 116.28, 103.53] is not"),
        ("preprocessing.mean", [0.5, "1e-3", 0.5], f"{MEAN}: to YAML, '1e-3' is text, not a number"),
        ("preprocessing.std", [0.5, 0, 0.5], f"{STD}: [0.5, 0, 0.5] is not"),
        ("preprocessing.std", [0.5, float("inf"), 0.5], f"{STD}: [0.5, inf, 0.5] is not"),
        ("preprocessing.antialias", True, f"preprocessing.antialias is not a key of a model file: {THERE_ARE}"),
        ("preprocessing.crops", 224, "preprocessing.crops is not a key of a model file: did you mean crop?"),
        ("wieghts", "a.pth", "wieghts is not a key of a model file: did you mean weights?"),
    ],
)
def test_what_is_wrong_is_named_with_a_good_value(tmp_path: Path, place: str, value: Any, sentence: str) -> None:
    assert refusal(written(tmp_path, changed(place, value))) == sentence


def test_an_architecture_that_there_is_not_is_told_with_those_near_it(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, {"name": "a", "architecture": "ResNet-18"}))
    assert said.startswith("architecture: torchvision has no classifier 'ResNet-18': did you mean resnet18 or ")
    assert said.endswith("Write a network of your own as file.py:function")


def test_weights_that_torchvision_has_not_are_told_with_those_near_it(tmp_path: Path) -> None:
    said = {"name": "a", "architecture": "resnet18", "weights": "IMAGENET1K_V2"}
    has_not = "weights: torchvision has no IMAGENET1K_V2 for resnet18"
    good = "write IMAGENET1K_V1, or ./IMAGENET1K_V2 for a file of that name"
    assert refusal(written(tmp_path, said)) == f"{has_not}: {good}"


def test_a_crop_is_told_of_the_default_that_it_does_not_fit(tmp_path: Path) -> None:
    said = {"name": "a", "architecture": "resnet18", "preprocessing": {"crop": 300}}
    sentence = "preprocessing.crop must be at most preprocessing.resize (256, by default): 300 is more"
    assert refusal(written(tmp_path, said)) == sentence


def test_labels_that_are_wrong_are_told_with_both_files(tmp_path: Path) -> None:
    said = changed("labels", "labels.txt")
    there = tmp_path / "labels.txt"
    good = "one line for each class, in the order of the network's outputs"
    assert refusal(written(tmp_path, said)) == f"labels: no labels at {there}: write a text file with {good}"
    there.write_text("cat\n\ndog\n")
    assert refusal(written(tmp_path, said)) == f"labels: {there}: line 2 is empty: give each class a label"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty: it must have lines such as name: pets and architecture: resnet18"),
        ("[]", "is a list: it must have lines such as name: pets and architecture: resnet18"),
        ("name", "is one value: it must have lines such as name: pets and architecture: resnet18"),
        ("name: a\nname: b\n", "line 2: name appears twice"),
        ("preprocessing: {crop: 224,\n  crop: 192}\n", "line 2: crop appears twice"),
        ("name: [\n", "line 2: not YAML: expected the node content, but found '<stream end>'"),
        ("name: 2026-02-30\n", "is not YAML: models/alexnet.yaml shows what a model file looks like"),
        ("[" * 5000, "is not YAML: models/alexnet.yaml shows what a model file looks like"),
        ("? [a]\n: b\n", "line 1: not YAML: found unhashable key"),
        ("name: pets\n", f"architecture is missing: it must be {ARCHITECTURE}"),
    ],
)
def test_what_is_no_such_file_is_told_in_a_line(tmp_path: Path, content: str, sentence: str) -> None:
    assert refusal(written(tmp_path, content)) == sentence


def test_what_is_no_text_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "pets.pth"
    file.write_bytes(b"PK\x03\x04\xff\xfe")
    good = "is not a model file, which is YAML in UTF-8, like models/alexnet.yaml: give weights with --weights"
    assert refusal(file) == good
    with pytest.raises(PipelineError, match=r"^no model file at .*: start from a copy of models/alexnet.yaml$"):
        read_model(tmp_path / "nowhere.yaml")
    with pytest.raises(PipelineError, match="give the path of a model file"):
        read_model(tmp_path)


def test_values_within_values_without_end_are_told_in_a_line(tmp_path: Path) -> None:
    bomb = "".join(f"- &{chr(97 + n)} [{', '.join([f'*{chr(96 + n)}'] * 9) if n else 'x'}]\n" for n in range(20))
    said = "name: pets\narchitecture: resnet18\nweights:\n" + "".join(f"  {line}\n" for line in bomb.splitlines())
    assert refusal(written(tmp_path, said)).startswith("weights must be a file")


NAMES = ["a", "pets", "a-1", "a" * LONGEST_NAME, "a" * (LONGEST_NAME + 1), "-a", "a-", "1a", "A", "a_b", "a.b", "", "ä"]
ENDED = [f"a{ending}" for ending in (*TAKEN_ENDINGS, *names.TAKEN)]


@pytest.mark.parametrize("name", [*NAMES, "a\n", *ENDED])
def test_a_model_has_a_name_that_a_service_may_have(tmp_path: Path, name: str) -> None:
    def of_service() -> None:
        names.check_name(name)
        names.check_free_ending(name)

    verdicts = []
    for check in (of_service, lambda: read_model(written(tmp_path, changed("name", name)))):
        try:
            check()
            verdicts.append(True)
        except PipelineError:
            verdicts.append(False)
    assert verdicts[0] == verdicts[1]
