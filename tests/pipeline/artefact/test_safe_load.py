"""What a checkpoint may hold in addition to weights; anything that would execute code is named, and not loaded."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import io
import os
import pathlib
import pickle
import shlex
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.package.package_exporter import PackageExporter

from pipeline.artefact.checkpoint import read_checkpoint
from tests.pipeline.artefact.weight_files import OLD, SHAPES, refusal, state, tarred

# --- Values next to the weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1),
        np.int64(1),
        np.bool_(True),
        np.random.default_rng(1).standard_normal(3),
        np.array(["a"]),
        ("MT19937", np.arange(624, dtype=np.uint32), 624, 0, 0.0),
        pathlib.Path("/a/b"),
        pathlib.PureWindowsPath("C:/a"),
        dt.timedelta(seconds=1),
        dt.datetime.now(dt.UTC),
        collections.defaultdict(list, a=[1]),
        collections.deque([1, 2], maxlen=3),
        collections.Counter("ab"),
        {1, 2},
        frozenset({1}),
        SimpleNamespace(a=1),
        torch.torch_version.TorchVersion("2.13.0"),
        torch.device("cpu"),
        torch.float16,
        b"bytes",
        b"",
        range(3),
        slice(1, 2),
        1 << 100,
        float,
        None,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_values_beside_the_weights_do_no_harm(tmp_path: Path, value: object, old: bool) -> None:
    torch.save({"model": state(), "beside": value}, tmp_path / "a.pth", _use_new_zipfile_serialization=not old)
    assert read_checkpoint(tmp_path / "a.pth", SHAPES).state.keys() == SHAPES.keys()


class Filling:
    """Pickled as a call: list(range(…))."""

    def __reduce__(self) -> tuple[type, tuple[range]]:
        return list, (range(1 << 62),)


def test_a_range_is_never_counted_out(tmp_path: Path) -> None:
    torch.save({"model": state(), "beside": Filling()}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth", SHAPES).state.keys() == SHAPES.keys()


def test_numpys_names_before_version_2_are_known(tmp_path: Path) -> None:
    torch.save({"model": state(), "best": np.float64(1)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pth").read_bytes()
    assert b"numpy._core.multiarray" in content
    (tmp_path / "a.pth").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_checkpoint(tmp_path / "a.pth", SHAPES).place == "model"


# --- What would execute code ------------------------------------------------------------------------------------------


class Bomb:
    """Loading its pickle makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


class Call:
    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Config(dict[str, Any]):
    """A class that only the training code has, such as omegaconf's."""


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    "around", [lambda bomb: {"a": bomb}, lambda bomb: bomb, lambda bomb: {"model": state(), "a": bomb}]
)
def test_what_would_execute_something_is_not_loaded(
    tmp_path: Path, options: dict[str, Any], around: Callable[[Bomb], object]
) -> None:
    target = tmp_path / "executed"
    torch.save(around(Bomb(target)), tmp_path / "a.pth", **options)
    assert refusal(tmp_path / "a.pth") == (
        "holds posix.mkdir, which loading it would call: do not load it with any program"
    )
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists()  # it would have


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open, subprocess.run, os.system, sys.exit])
def test_calls_of_python_are_named(tmp_path: Path, function: Callable[..., Any]) -> None:
    torch.save({"model": state(), "a": Call(function, "1")}, tmp_path / "a.pth")
    assert "which loading it would call: do not load it with any program" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "before 1.6"])
def test_parentheses_that_were_forgotten_are_no_attack(tmp_path: Path, options: dict[str, Any]) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.save(nn.Linear(3, 2).state_dict, tmp_path / "a.pth", **options)
    assert refusal(tmp_path / "a.pth") == (
        "holds a method, as torch.save(model.state_dict, …) saves it: call it: torch.save(model.state_dict(), …)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_classes_beside_the_weights_are_named_and_the_line_leads_to_a_file_that_is_taken(
    tmp_path: Path, options: dict[str, Any], key: str
) -> None:
    """As in Lightning's hyper_parameters."""
    file = tmp_path / "a.ckpt"
    torch.save({"epoch": 1, key: state(), "hyper_parameters": {"config": Config(lr=1)}}, file, **options)
    sentence = refusal(file)
    assert sentence.startswith(
        f"holds more than tensors and values ({Config.__module__}.Config), and loading it could execute anything: "
        "if you trust it, and its classes can be imported, run python -c "
    )
    assert follow(sentence, tmp_path).state.keys() == SHAPES.keys()


def follow(sentence: str, folder: Path) -> Any:
    """Runs the command that an error advises, and reads its result."""
    _, _, program = shlex.split(sentence.partition(" run ")[2].rpartition(", and give --weights that")[0])
    script = f"import sys; sys.path[:] = {sys.path!r}; {program}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=folder, check=True, timeout=60)
    return read_checkpoint(folder / "weights.pth", SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("wrap", [lambda module: module, nn.DataParallel], ids=["plain", "DataParallel"])
def test_a_whole_module_is_told_so_and_the_line_leads_to_a_file_that_is_taken(
    tmp_path: Path, options: dict[str, Any], wrap: Callable[[nn.Module], nn.Module]
) -> None:
    module = wrap(nn.Linear(3, 2))
    with warnings.catch_warnings(action="ignore"):
        torch.save(module, tmp_path / "a.pth", **options)
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    sentence = refusal(tmp_path / "a.pth")
    assert sentence.startswith(f"is a whole module ({name}) instead of its state dict, and loading one could execute")
    np.testing.assert_array_equal(follow(sentence, tmp_path).state["bias"], module.state_dict().popitem()[1].numpy())


@pytest.mark.slow
def test_torchscript_is_told_so_and_the_line_leads_to_a_file_that_is_taken(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.Linear(3, 2)), tmp_path / "a.pt")
    sentence = refusal(tmp_path / "a.pt")
    assert sentence.startswith("is TorchScript: run python -c ")
    assert follow(sentence, tmp_path).state.keys() == SHAPES.keys()


@pytest.mark.slow
def test_an_exported_program_is_told_so_and_the_line_leads_to_a_file_that_is_taken(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),))
    torch.export.save(program, tmp_path / "a.pt2")
    sentence = refusal(tmp_path / "a.pt2")
    assert sentence.startswith("is a torch.export program, and loading one could execute anything: if you trust")
    assert follow(sentence, tmp_path).state.keys() == SHAPES.keys()


def before_0_2(values: dict[str, torch.Tensor]) -> bytes:
    """A file that today's torch.load still reads, if it may execute its content; nothing writes such files."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> str | None:
            return next((str(key) for key, tensor in enumerate(values.values()) if tensor is value), None)

    numbers = range(len(values))
    storages, tensors, pickled = pickle.dumps(len(values)), pickle.dumps(len(values)), io.BytesIO()
    for key, tensor in zip(numbers, values.values(), strict=True):
        storages += pickle.dumps((100 + key, "cpu", torch.FloatStorage))
        storages += struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes()
        shape_and_stride = (*tensor.shape, *tensor.stride())
        tensors += pickle.dumps((key, 100 + key, "torch.FloatTensor"))
        tensors += struct.pack(f"<ii{len(shape_and_stride)}qq", tensor.dim(), 0, *shape_and_stride, 0)
    Pickler(pickled, 2).dump(values)
    members = {"sys_info": pickle.dumps({}), "pickle": pickled.getvalue(), "tensors": tensors}
    members["storages"] = storages + pickle.dumps([])
    return tarred(*members, contents=members)


@pytest.mark.slow
def test_a_file_of_pytorch_before_0_2_is_told_so_and_the_line_leads_to_a_file_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(before_0_2(dict(state())))
    sentence = refusal(tmp_path / "a.pth")
    assert sentence.startswith("was saved by PyTorch before 0.2, as a tar archive, and loading it could execute")
    assert follow(sentence, tmp_path).state.keys() == SHAPES.keys()


SPREAD = """
import torch
from torch.distributed.tensor import DeviceMesh, distribute_tensor
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
torch.save({"weight": distribute_tensor(torch.ones(2, 3), DeviceMesh("cpu", [0]))}, "a.pth")
torch.distributed.destroy_process_group()
"""
READ = """
from pathlib import Path
from pipeline.artefact.checkpoint import read_checkpoint
read_checkpoint(Path("a.pth"), {"weight": (2, 3)})
"""


@pytest.mark.slow
def test_tensors_that_are_spread_over_processes_are_told_so(tmp_path: Path, importable: dict[str, str]) -> None:
    """In separate processes: a process that has imported those tensors may load them."""
    python = [sys.executable, "-W", "ignore", "-P", "-c"]
    subprocess.run([*python, SPREAD], cwd=tmp_path, check=True, timeout=60)
    done = subprocess.run([*python, READ], cwd=tmp_path, env=importable, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1].startswith(
        "pipeline.shared.errors.NoStateDict: a.pth holds tensors that are sharded across processes (DTensor): save them"
    )


def test_a_torch_package_is_told_so(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"), PackageExporter(tmp_path / "a.pt") as exporter:
        exporter.save_pickle("model", "model.pkl", {"a": 1})
    assert refusal(tmp_path / "a.pt").startswith("is a torch.package, and loading one could execute anything: ")


@pytest.mark.slow
def test_names_that_shells_and_python_read_survive(tmp_path: Path) -> None:
    file = tmp_path / 'it\'s $HOME "ü".pth'
    torch.save({"state_dict": state(), "args": argparse.Namespace(config=Config())}, file)
    assert follow(refusal(file), tmp_path).state.keys() == SHAPES.keys()
