"""scripts/package.sh as a user runs it."""

from __future__ import annotations

import filecmp
import json
import os
import platform
import signal
import subprocess
import zipfile
from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipeline.artefact.version import Version
from pipeline.artefact.weights import Weights
from pipeline.commands.files import version_files
from pipeline.commands.package import _figure
from pipeline.shared.digests import sha256_of
from tests.support.int8_pictures import write_pictures

pytestmark = pytest.mark.slow

Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]


NETWORK = """
from torch import nn

def build(classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, classes))
"""
MODEL = """
name: pets
architecture: net.py:build
weights: pets.pth
labels: pets.csv
preprocessing: {resize: 40, crop: 32}
"""
BY_DEFAULT = (
    "Preprocessing: interpolation bilinear, mean 0.485 0.456 0.406, std 0.229 0.224 0.225, as is usual with ImageNet.\n"
)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A model file, in a folder with every file that it names."""
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "net.py").write_text(NETWORK)
    (folder / "pets.yaml").write_text(MODEL)
    (folder / "pets.csv").write_text("index,wnid,label\n1,,beagle\n0,n02123045,tabby\n2,n02124075,Egyptian cat\n")
    torch.save({"2.weight": torch.arange(144.0).view(3, 48) / 100, "2.bias": torch.zeros(3)}, folder / "pets.pth")
    return folder / "pets.yaml"


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The archive of an earlier build."""
    archive = tmp_path / "store" / "alexnet.mar"
    archive.parent.mkdir()
    archive.write_bytes(b"the archive before")
    return archive


def untouched(previous: Path) -> bool:
    return previous.read_bytes() == b"the archive before" and os.listdir(previous.parent) == [previous.name]


def test_it_prints_what_it_made_and_makes_the_same_each_time(script: Script, directory: Path, tmp_path: Path) -> None:
    done = script("package", "--weights", "untrained", "--output", "made/alexnet.mar")  # next to where it is run
    made = tmp_path / "made" / "alexnet.mar"
    assert done.returncode == 0
    assert done.stderr == "The weights are untrained: this archive's predictions are meaningless.\n"
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(told) == ["archive", "version", "model", "weights", "proof", "size", "sha256"]
    with made.open("rb") as written:
        assert told["sha256"] == file_digest(written, "sha256").hexdigest()
    assert told["archive"] == "made/alexnet.mar"
    assert told["version"] == Version.of(version_files(made)).name
    assert told["model"] == "alexnet: alexnet with 1000 classes"
    assert told["weights"] == "untrained"
    assert told["size"].split()[:2] == [str(made.stat().st_size), "bytes"]
    assert filecmp.cmp(made, directory / "model-store" / "alexnet.mar", shallow=False)  # another process's


def test_nothing_but_a_file_is_replaced(script: Script, only_error: OnlyError, tmp_path: Path) -> None:
    """With sufficient rights, a file would replace /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        said = only_error(script("package", "--weights", "untrained", "--output", name))
        assert said == f"{name} exists and is not a file: give --output the name of a file"
    assert (tmp_path / "pipe").is_fifo()


def test_empty_weights_are_no_folder(script: Script, only_error: OnlyError) -> None:
    said = only_error(script("package", "--weights", ""))
    assert said == "--weights is empty: give it imagenet, untrained, or the path of a file"


def test_of_several_state_dicts_it_says_which_it_took(script: Script, pets: Path, tmp_path: Path) -> None:
    state = torch.load(pets.with_name("pets.pth"), weights_only=True)
    torch.save({"model": state, "model_ema": state | {"2.bias": torch.ones(3)}}, pets.with_name("pets.pth"))
    done = script("package", pets, "--output", tmp_path / "a.mar")
    assert done.returncode == 0
    assert "\nweights  file pets.pth (model_ema)\n" in done.stdout
    assert done.stderr == "The file has other weights too, which were ignored: model.\n" + BY_DEFAULT


def test_without_a_network_it_says_what_to_do(
    script: Script, only_error: OnlyError, previous: Path, tmp_path: Path, free_port: int
) -> None:
    nowhere = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port}", "TORCH_HOME": str(tmp_path / "torch")}
    sentence = only_error(script("package", "--output", previous, environment=nowhere))
    assert sentence.startswith("the weights could not be downloaded from https://")
    assert "--weights untrained" in sentence
    assert untouched(previous)
    assert [file for file in (tmp_path / "torch").rglob("*") if file.is_file()] == []


def test_a_cache_that_cannot_be_made_is_named(script: Script, only_error: OnlyError, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    environment = {"TORCH_HOME": str(tmp_path / "file")}
    sentence = only_error(script("package", "--output", tmp_path / "alexnet.mar", environment=environment))
    assert f"({tmp_path / 'file'}" in sentence


def test_a_file_that_holds_no_weights_is_named(script: Script, only_error: OnlyError, previous: Path) -> None:
    sentence = only_error(script("package", "--weights", previous, "--output", previous))
    assert sentence == f"{previous} is text that begins with 'the archive before': look into it"
    assert untouched(previous)


def test_a_misspelt_origin_of_weights_is_told_with_the_choices(
    script: Script, only_error: OnlyError, previous: Path
) -> None:
    sentence = only_error(script("package", "--weights", "imagnet", "--output", previous))
    assert sentence.startswith("no weights at imagnet: ")
    for choice in (".pth", ".safetensors", "imagenet", "untrained"):
        assert choice in sentence


@pytest.mark.parametrize("arguments", [["--weights"], ["--weight", "untrained"], ["a.yaml", "b.yaml"]])
def test_wrong_usage_has_exit_status_2(script: Script, arguments: list[str]) -> None:
    done = script("package", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[0] in done.stderr or "b.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_made_is_named(script: Script, only_error: OnlyError, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sentence = only_error(script("package", "--weights", "untrained", "--output", tmp_path / "file" / "alexnet.mar"))
    assert sentence == f"{tmp_path / 'file'} is not a folder: give --output a file in one"


def test_a_full_disk_leaves_the_archive_that_was_there_and_is_named(
    script: Script, only_error: OnlyError, pets: Path, previous: Path
) -> None:
    done = script("package", pets, "--output", previous, limits="ulimit -f 100")
    assert only_error(done) == f"{previous}: File too large"
    assert untouched(previous)


def test_a_signal_while_it_is_written_leaves_the_archive_that_was_there(
    checkout: Path, previous: Path, user_environment: None, eventually: Callable[[Callable[[], Any]], Any]
) -> None:
    command = [str(checkout / "scripts" / "package.sh"), "--weights", "untrained", "--output", str(previous)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as packaging:
        eventually(lambda: len(os.listdir(previous.parent)) > 1)
        packaging.send_signal(signal.SIGTERM)
        said, _ = packaging.communicate(timeout=60)
    assert (packaging.returncode, said) == (128 + signal.SIGTERM, "")
    assert untouched(previous)


def test_nohup_is_heeded(checkout: Path, tmp_path: Path, eventually: Callable[[Callable[[], Any]], Any]) -> None:
    """A terminal that closes sends SIGHUP; users who ignore it want the command to continue."""
    output = tmp_path / "alexnet.mar"
    command = ["sh", "-c", 'trap "" HUP; exec "$0" "$@"', str(checkout / "scripts" / "package.sh")]
    command += ["--weights", "untrained", "--output", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as packing:
        eventually(lambda: any(tmp_path.glob(".alexnet.mar.*")))
        packing.send_signal(signal.SIGHUP)
        packing.communicate(timeout=60)
    assert packing.returncode == 0
    assert output.is_file()


# --- A user's own classifier ------------------------------------------------------------------------------------------


def entry(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(archive) as opened:
        return opened.read(name)


def test_a_model_file_is_packed_with_what_it_names(script: Script, pets: Path, tmp_path: Path) -> None:
    done = script("package", pets, "--output", "one.mar")
    assert (done.returncode, done.stderr) == (0, BY_DEFAULT)
    assert "\nmodel    pets: net.py:build with 3 classes\nweights  file pets.pth\n" in done.stdout
    assert json.loads(entry(tmp_path / "one.mar", "classes.json")) == [
        ["n02123045", "tabby"],
        [None, "beagle"],
        ["n02124075", "Egyptian cat"],
    ]
    assert json.loads(entry(tmp_path / "one.mar", "MAR-INF/MANIFEST.json"))["model"]["modelName"] == "pets"
    elsewhere = pets.parent.rename(tmp_path / "elsewhere") / "pets.yaml"
    assert script("package", elsewhere, "--output", "two.mar").returncode == 0
    assert filecmp.cmp(tmp_path / "one.mar", tmp_path / "two.mar", shallow=False)
    assert str(tmp_path).encode() not in (tmp_path / "one.mar").read_bytes()


def test_check_says_what_would_be_packed_and_packs_nothing(script: Script, pets: Path, tmp_path: Path) -> None:
    there = sorted(tmp_path.rglob("*"))
    done = script("package", pets, "--check", "--output", "one.mar")
    assert (done.returncode, done.stderr) == (0, BY_DEFAULT)
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts] == there
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(told) == ["model", "weights", "proof", "classes", "images", "size", "work", "memory", "speed"]
    assert told["classes"] == "from tabby to Egyptian cat (labels of pets.csv)"
    assert told["images"] == "32 × 32 from the middle of 40, bilinear"
    assert told["size"].startswith("147 parameters; the archive would take ")
    assert told["work"] == "2.88e-07 GFLOP per image (a multiply-add counts as two)"
    assert told["memory"].endswith(" MB per worker (estimated)")
    assert told["speed"].endswith(
        " images/s per core (measured on this machine: only the network, in float32, one image at a time)"
    )


def test_options_go_before_the_model_file_and_labels_have_to_fit(
    script: Script, only_error: OnlyError, pets: Path, tmp_path: Path
) -> None:
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    for check in ([], ["--check"]):
        done = script("package", pets, "--labels", "two.txt", "--output", "a.mar", *check)
        assert only_error(done) == (
            "the weights (file pets.pth) have 3 outputs, but there are 2 labels of two.txt: "
            "give one label for each output, in order, with labels: or --labels FILE"
        )
    done = script(
        "package", pets, "--labels", "two.txt", "--weights", "untrained", "--name", "cats", "--output", "a.mar"
    )
    assert done.returncode == 0
    assert "\nmodel    cats: net.py:build with 2 classes\nweights  untrained\n" in done.stdout


def test_fine_tuned_alexnet_needs_no_model_file(script: Script, tmp_path: Path, untrained: Weights) -> None:
    last = {"classifier.6.weight": torch.eye(3, 4096), "classifier.6.bias": torch.zeros(3)}
    torch.save(
        {name: torch.from_numpy(it).half() for name, it in untrained.state.items()} | last, tmp_path / "flowers.pth"
    )
    (tmp_path / "labels.txt").write_text("rose\ntulip\nlily\n")
    done = script(
        "package", "--weights", "flowers.pth", "--labels", "labels.txt", "--name", "flowers", "--output", "f.mar"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nmodel    flowers: alexnet with 3 classes\n" in done.stdout
    assert json.loads(entry(tmp_path / "f.mar", "classes.json")) == [[None, "rose"], [None, "tulip"], [None, "lily"]]


@pytest.mark.parametrize(("value", "shown"), [(8492.3, "8,490"), (72.36, "72.4"), (0.029731, "0.0297"), (1.0, "1")])
def test_figures_have_three_digits(value: float, shown: str) -> None:
    assert _figure(value) == shown


# --- Weights in bfloat16 ----------------------------------------------------------------------------------------------


def dtypes(archive: Path) -> dict[str, str]:
    """The types of the weights in an archive, by their names there."""
    content = entry(archive, "weights.safetensors")
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: said["dtype"] for name, said in head.items() if name != "__metadata__"}


def test_weights_in_bfloat16_have_half_the_size_and_a_proof_of_their_own(
    script: Script, convolutional: Path, tmp_path: Path
) -> None:
    done = script("package", convolutional, "--weights-precision", "bfloat16", "--output", tmp_path / "a.mar")
    assert done.returncode == 0, done.stderr
    assert "\nweights  file pets.pth, in bfloat16\n" in done.stdout
    assert dtypes(tmp_path / "a.mar") == {
        "0.weight|channels_last": "BF16",
        "0.bias": "BF16",
        "3.weight|channels_last": "BF16",
        "3.bias": "BF16",
        "6.weight|transposed": "F32",
        "6.bias": "F32",
    }
    proof = json.loads(entry(tmp_path / "a.mar", "proof.json"))
    assert proof["weights"] == "bfloat16"
    assert proof["float32"] == proof["bfloat16"]  # one precision's bounds, which both keep
    assert yaml.safe_load(entry(tmp_path / "a.mar", "model.yaml"))["bfloat16"] is True

    assert script("package", convolutional, "--output", tmp_path / "b.mar").returncode == 0
    assert set(dtypes(tmp_path / "b.mar").values()) == {"F32"}
    assert "weights" not in json.loads(entry(tmp_path / "b.mar", "proof.json"))
    again = script("package", convolutional, "--weights-precision", "bfloat16", "--output", tmp_path / "c.mar")
    assert again.returncode == 0
    assert filecmp.cmp(tmp_path / "a.mar", tmp_path / "c.mar", shallow=False)


def test_a_network_that_bfloat16_changes_keeps_its_weights(
    script: Script, only_error: OnlyError, convolutional: Path, previous: Path
) -> None:
    state = torch.load(convolutional.with_name("pets.pth"), weights_only=True)
    state["0.bias"] += 100  # bfloat16 rounds away a half of it or nothing, and the next layer subtracts the rest
    state["3.bias"] -= 100 * state["3.weight"].sum(dim=(1, 2, 3))
    torch.save(state, convolutional.with_name("pets.pth"))
    for more in ([], ["--check"]):
        said = only_error(
            script("package", convolutional, "--weights-precision", "bfloat16", "--output", previous, *more)
        )
        assert said.startswith(
            "this network differs too much in bfloat16, so its weights must stay float32: float32 11 of "
        )
        assert said.endswith(": pack it without --weights-precision bfloat16")
    assert untouched(previous)


# --- Int8 -------------------------------------------------------------------------------------------------------------

CONVOLUTIONS = """
import torch
import yaml
from torch import nn

def build(classes):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 14 * 14, classes),
    )
"""
needs_int8 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="int8 is for x86-64 processors")


@pytest.fixture
def convolutional(pets: Path) -> Path:
    """The same with a network that has convolutions, and that answers noise confidently."""
    pets.with_name("net.py").write_text(CONVOLUTIONS)
    random = torch.Generator().manual_seed(5)
    shapes = {"0.weight": (8, 3, 3, 3), "0.bias": (8,), "3.weight": (8, 8, 3, 3), "3.bias": (8,)}
    state = {name: torch.randn(shape, generator=random) / 5 for name, shape in shapes.items()}
    state |= {"6.weight": torch.randn(3, 1568, generator=random) / 50, "6.bias": torch.zeros(3)}
    torch.save(state, pets.with_name("pets.pth"))
    return pets


@needs_int8
def test_photographs_make_an_int8_network_beside_the_float_one(
    script: Script, convolutional: Path, tmp_path: Path
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 24)
    (pictures / "README.md").write_text("# Mine\n")
    done = script("package", convolutional, "--int8", pictures, "--output", tmp_path / "a.mar")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "Skipped in the photographs' folder, not images: README.md.\n" + BY_DEFAULT
    told = "int8     convolutions and linear layers in int8: 100.0% the same first class, 0.0"
    assert told in done.stdout
    assert "as this machine serves it" in done.stdout
    facts = yaml.safe_load(entry(tmp_path / "a.mar", "model.yaml"))
    assert facts["int8"] is True
    proof = json.loads(entry(tmp_path / "a.mar", "proof.json"))["int8"]
    assert (proof["passed"], proof["photographs"]) == (True, {"ranges": 12, "proof": 12})
    digests = {sha256_of(file) for file in pictures.glob("*.png")}
    assert {answer["sha256"] for answer in proof["answers"]} < digests
    assert json.loads(entry(tmp_path / "a.mar", "int8.json"))["input"] == "uint8"
    assert entry(tmp_path / "a.mar", "int8.safetensors")

    # The same photographs under other names make the same archive.
    for index, file in enumerate(sorted(pictures.glob("*.png"), reverse=True)):
        file.rename(pictures / f"of mine {index}.jpeg")
    again = script("package", convolutional, "--int8", pictures, "--output", tmp_path / "b.mar")
    assert again.returncode == 0
    assert filecmp.cmp(tmp_path / "a.mar", tmp_path / "b.mar", shallow=False)


@needs_int8
def test_where_linear_layers_lose_too_much_they_stay_as_they_are(
    script: Script, convolutional: Path, tmp_path: Path
) -> None:
    """Its classes differ by less than the steps of their shared weights."""
    state, random = torch.load(convolutional.with_name("pets.pth"), weights_only=True), torch.Generator().manual_seed(1)
    state["6.weight"] = state["6.weight"][:1] * 30 + torch.randn(3, 1568, generator=random) / 2000
    torch.save(state, convolutional.with_name("pets.pth"))
    pictures = write_pictures(tmp_path / "pictures", 24)
    done = script("package", convolutional, "--int8", pictures, "--output", tmp_path / "a.mar")
    assert done.returncode == 0, done.stderr
    assert "\nint8     convolutions alone in int8: 100.0% the same first class, " in done.stdout
    operators = [node[0] for node in json.loads(entry(tmp_path / "a.mar", "int8.json"))["nodes"]]
    assert "linear" in operators
    assert json.loads(entry(tmp_path / "a.mar", "proof.json"))["int8"]["layers"] == "convolutions alone"


@needs_int8
def test_an_int8_network_that_answers_otherwise_is_refused_with_figures(
    script: Script, only_error: OnlyError, convolutional: Path, previous: Path, tmp_path: Path
) -> None:
    """Its logits are small differences between two channels, which eight bits cannot represent."""
    state, random = torch.load(convolutional.with_name("pets.pth"), weights_only=True), torch.Generator().manual_seed(1)
    state["3.weight"][1] = state["3.weight"][0] + torch.randn(8, 3, 3, generator=random) / 1000
    state["3.bias"][:2] = 0
    ways = torch.randn(3, 196, generator=random)
    state["6.weight"] = torch.cat([ways, -ways, torch.zeros(3, 6 * 196)], 1) * 20
    torch.save(state, convolutional.with_name("pets.pth"))
    pictures = write_pictures(tmp_path / "pictures", 20)
    said = only_error(script("package", convolutional, "--int8", pictures, "--output", previous))
    assert said.startswith(
        "this network differs too much in int8, so it is not packed: convolutions and linear layers "
    )
    assert "the bounds are at least 99.5%, and at most 0.005: pack it without --int8, or " in said
    assert "convolutions alone in int8: " in said
    assert untouched(previous)


def test_too_few_photographs_are_told_before_anything_is_packed(
    script: Script, only_error: OnlyError, pets: Path, previous: Path, tmp_path: Path
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 5)
    said = only_error(script("package", pets, "--int8", pictures, "--output", previous))
    assert said == f"{pictures} has 5 different photographs: --int8 needs at least 20"
    said = only_error(script("package", pets, "--int8", "nowhere", "--output", previous))
    assert said == "nowhere is not a folder: give --int8 one with at least 20 photographs"
    assert untouched(previous)
