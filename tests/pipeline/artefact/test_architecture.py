"""Networks by their names, and from users' files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.artefact import zoo
from pipeline.artefact.architecture import layout, module, outputs
from pipeline.shared.errors import PipelineError
from tests.support.reference import torchvision

LOGITS = "it must be logits of shape (2, classes)"
USERS_FILE = """
from torch import nn
from beside import WIDTH

def build(num_classes):
    print("building")
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_classes))

class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(*build(classes))

def fixed():
    return build(7)

def half(classes):
    return build(classes).half()

def computes(classes):
    net = build(classes)
    net[1].weight.data = net[1].weight.data / float(net[1].weight.data.norm())  # asks for a number
    return net

def one_more(classes):
    return build(classes + 1)

def maps(classes):
    return nn.Conv2d(3, classes, 3)

def several(classes):
    class Several(nn.Module):
        def forward(self, images):
            return {"logits": images}
    return Several()

def nothing():
    pass

def lazy(classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

def wrong(classes):
    raise ValueError("no\\nluck")

def leaves(classes):
    raise SystemExit(3)

def sure(classes):
    return nn.Sequential(build(classes), nn.Softmax(dim=1))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(USERS_FILE)
    (tmp_path / "beside.py").write_text("WIDTH = 11\n")
    return tmp_path


def refusal(architecture: str, folder: Path = Path(), classes: int = 5, crop: int = 32) -> str:
    with pytest.raises(PipelineError) as refused:
        module(architecture, classes, crop, folder)
    assert str(refused.value).isprintable()
    return str(refused.value)


# --- torchvision's ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"])
def test_the_layout_is_that_of_the_network(name: str) -> None:
    state = torchvision.models.get_model(name, weights=None, num_classes=5).state_dict()
    found = layout(name, 224)
    floats = {each: tuple(tensor.shape) for each, tensor in state.items() if tensor.is_floating_point()}
    assert {each: tuple(size or 5 for size in shape) for each, shape in found.shapes.items()} == floats
    assert found.whole_numbers.keys() == state.keys() - floats.keys()
    assert found.classes(state) == {5}


def test_a_network_answers_with_as_many_classes_at_any_size_and_is_the_same_each_time() -> None:
    one, other = (module("mobilenet_v3_small", 5, 96) for _ in range(2))
    state = torch.random.get_rng_state()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one(torch.zeros(3, 3, 96, 96)).shape == (3, 5)
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out_and_inputs_turned(name: str) -> None:
    crop = zoo.entry(name).transforms().crop_size[0]
    assert not any("aux" in each.lower() for each in layout(name, crop).shapes)
    network = module(name, 5, crop)
    assert network.transform_input


def test_a_vit_has_the_positions_of_its_images() -> None:
    assert layout("vit_b_16", 384).shapes["encoder.pos_embedding"] == (1, 577, 768)


@pytest.mark.parametrize(
    ("name", "crop", "beginning", "usual"),
    [
        ("vit_b_16", 225, "Input shape indivisible by patch size!", 224),
        ("alexnet", 16, "", 224),
        ("maxvit_t", 100, "", 224),
    ],
)
def test_a_size_that_a_network_does_not_take_is_told(name: str, crop: int, beginning: str, usual: int) -> None:
    said = refusal(name, crop=crop)
    assert said.startswith(f"{name} does not take images of {crop} pixels ({beginning}")
    assert said.endswith(f"): preprocessing.crop could be {usual}")


# --- A user's ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["build", "Net", "computes", "half"])
def test_a_users_function_is_told_the_number_of_classes(
    folder: Path, function: str, capfd: pytest.CaptureFixture[str]
) -> None:
    network = module(f"net.py:{function}", 5, 32, folder)
    assert network(torch.zeros(3, 3, 32, 32)).shape == (3, 5)
    assert layout(f"net.py:{function}", 32, folder).shapes["3.weight"] == (None, 11)
    told = capfd.readouterr()
    assert told.out == ""  # that is for results
    assert "building" in told.err


def test_a_users_function_may_know_the_number_of_classes(folder: Path) -> None:
    assert module("net.py:fixed", 7, 32, folder)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert layout("net.py:fixed", 32, folder).shapes["3.weight"] == (7, 11)
    assert outputs("net.py:fixed", 32, folder) == 7


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        ("net.py:fixed", "net.py:fixed answers with 7 numbers, but there are 5 classes"),
        ("net.py:one_more", "net.py:one_more answers with 6 numbers, but there are 5 classes"),
        (
            "net.py:maps",
            f"net.py:maps answers two images with a tensor of shape (2, 5, 30, 30): {LOGITS}",
        ),
        ("net.py:several", f"net.py:several answers two images with dict: {LOGITS}"),
        (
            "net.py:lazy",
            "net.py:lazy has layers without sizes (Lazy…): use Linear, Conv2d and so on, with sizes",
        ),
        (
            "net.py:sure",
            "net.py:sure answers with probabilities: remove the softmax at its end, as the server applies one",
        ),
        ("net.py:nothing", "net.py:nothing returns a NoneType: it must return a torch.nn.Module"),
        ("net.py:wrong", "net.py fails (line 43, ValueError: no luck)"),
        ("net.py:leaves", "net.py fails (line 46, SystemExit: 3)"),
        ("net.py:biuld", "architecture: {folder}/net.py has no function biuld: did you mean build?"),
        ("net.py:WIDTH", "architecture: {folder}/net.py has no function WIDTH: did you mean wrong?"),
        ("nett.py:build", "architecture: there is no file {folder}/nett.py: write file.py:function"),
        ("none.py:build", "none.py fails (line 1, ModuleNotFoundError: No module named 'not_there')"),
        ("syntax.py:build", "syntax.py fails (SyntaxError: '(' was never closed (syntax.py, line 1))"),
    ],
)
def test_what_is_wrong_with_a_users_file_is_told_in_a_line(folder: Path, architecture: str, sentence: str) -> None:
    (folder / "none.py").write_text("import not_there\n")
    (folder / "syntax.py").write_text("def build(\n")
    assert refusal(architecture, folder) == sentence.format(folder=folder)


def test_a_file_that_changes_the_folder_changes_nothing_for_others(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import os\nfrom torch import nn\nos.chdir('/')\n"
        "def build(classes):\n    os.chdir('/')\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))\n"
    )
    before = Path.cwd()
    module("net.py:build", 3, 8, tmp_path)
    assert Path.cwd() == before


def test_a_function_that_takes_anything_is_told_the_number_of_classes(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(**options):\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, options['num_classes']))\n"
    )
    assert module("net.py:build", 3, 8, tmp_path)(torch.zeros(1, 3, 8, 8)).shape == (1, 3)
