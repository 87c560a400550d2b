"""A network by name: one of torchvision's classifiers (`resnet18`), or the network that a function in a user's file
returns (`net.py:build`). Packaging executes that file; serving never does.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.overrides import TorchFunctionMode

from pipeline.artefact import zoo
from pipeline.artefact.layout import MARK, Layout
from pipeline.shared.errors import PipelineError
from pipeline.shared.text import one_line

OF_A_FILE = re.compile(r"(?P<file>.+\.py):(?P<function>\w+)")
SEED = 15  # for the random numbers that a network draws while it is built

# What torchvision's own builders do when weights are requested: no auxiliary heads, and inputs converted from
# ImageNet's mean and deviation to those that these two were trained with. `init_weights` takes seconds, and warns.
AS_TRAINED = {"aux_logits": False, "transform_input": True, "init_weights": False}
OPTIONS: dict[str, dict[str, bool]] = {"googlenet": AS_TRAINED, "inception_v3": AS_TRAINED}


def module(architecture: str, classes: int, crop: int, folder: Path = Path()) -> nn.Module:
    """A network that answers float32 (N, 3, crop, crop) with logits (N, classes); float32, in eval mode, on the CPU.

    Its weights are the initial ones, and the same each time. folder: where a user's file is looked for.
    Raises PipelineError if there is no such network, or it answers with something else.
    """
    with _repeatable():
        network = _build(architecture, classes, crop, folder)
    network = network.eval().float().requires_grad_(False)
    if OF_A_FILE.fullmatch(architecture) or crop != _usual_crop(architecture):
        _check_answer(network, architecture, classes, crop)
    return network


@cache
def layout(architecture: str, crop: int, folder: Path = Path()) -> Layout:
    """Names and shapes of its weights, without the memory for them. Raises PipelineError as `module` does.

    Cached: building a network of many layers takes seconds, and there are three callers.
    """
    with _repeatable():
        try:
            with _WithoutMemory():
                network = _build(architecture, MARK, crop, folder)
        except PipelineError:
            if not OF_A_FILE.fullmatch(architecture):
                raise
            network = _build(architecture, MARK, crop, folder)  # for example, it computes with its weights
    return Layout.of(network)


def outputs(architecture: str, crop: int, folder: Path = Path()) -> int:
    """How many classes a network has, if its number of classes is fixed."""
    with _repeatable():
        network = _build(architecture, MARK, crop, folder).eval().float()
    return _answer(network, architecture, crop).shape[1]


def _build(architecture: str, classes: int, crop: int, folder: Path) -> nn.Module:
    if of_a_file := OF_A_FILE.fullmatch(architecture):
        return _from_file(of_a_file, classes, folder)
    zoo.check_name(architecture)
    options: dict[str, Any] = dict(OPTIONS.get(architecture, {}))
    if architecture.startswith("vit_"):
        options["image_size"] = crop
    elif architecture.startswith("maxvit"):
        options["input_size"] = (crop, crop)
    try:
        network: nn.Module = zoo.torchvision.models.get_model(
            architecture, weights=None, num_classes=classes, **options
        )
    except (ValueError, RuntimeError, AssertionError) as error:
        raise PipelineError(_not_at(architecture, crop, error)) from None
    return network


def _not_at(architecture: str, crop: int, error: Exception) -> str:
    return (
        f"{architecture} does not take images of {crop} pixels ({one_line(error, 100)}): "
        f"preprocessing.crop could be {_usual_crop(architecture)}"
    )


def _usual_crop(architecture: str) -> int:
    return zoo.entry(architecture).transforms().crop_size[0] if architecture in zoo.names() else 224


# --- A user's file ----------------------------------------------------------------------------------------------------


def _from_file(named: re.Match[str], classes: int, folder: Path) -> nn.Module:
    function = _function(named, folder)
    arguments = dict.fromkeys(_classes_parameter(function)[:1], classes)
    with _told(named, folder):
        network = function(**arguments)
    if not isinstance(network, nn.Module):
        raise PipelineError(f"{named[0]} returns a {type(network).__name__}: it must return a torch.nn.Module")
    if any(isinstance(tensor, UninitializedTensorMixin) for tensor in (*network.parameters(), *network.buffers())):
        raise PipelineError(f"{named[0]} has layers without sizes (Lazy…): use Linear, Conv2d and so on, with sizes")
    return network


def _classes_parameter(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return []
    named = [name for name in ("classes", "num_classes") if name in parameters]
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    return named or (["num_classes"] if takes_any else [])  # as timm.create_model does


def _function(named: re.Match[str], folder: Path) -> Callable[..., Any]:
    file = folder / named["file"]
    if not file.is_file():
        raise PipelineError(f"architecture: there is no file {file}: write file.py:function")
    with _told(named, folder):
        loaded = _executed(file.resolve())
    found: Any = getattr(loaded, named["function"], None)
    if not callable(found):
        functions = [each for each, value in vars(loaded).items() if callable(value) and not each.startswith("_")]
        near = difflib.get_close_matches(named["function"], functions, n=1, cutoff=0)
        meant = f": did you mean {near[0]}?" if near else ""
        raise PipelineError(f"architecture: {file} has no function {named['function']}{meant}")
    function: Callable[..., Any] = found
    return function


@cache
def _executed(file: Path) -> ModuleType:
    """Executes a file only once, however often its function is called."""
    name = f"architecture_{file.stem}"
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None  # because it ends in .py
    assert specification.loader is not None
    loaded = importlib.util.module_from_spec(specification)
    sys.modules[name] = loaded  # dataclasses look themselves up there
    specification.loader.exec_module(loaded)
    return loaded


@contextmanager
def _told(named: re.Match[str], folder: Path) -> Iterator[None]:
    """Turns what the file raises into one line. The file can import its neighbours; its output goes to stderr."""
    file = (folder / named["file"]).resolve()
    sys.path.insert(0, str(file.parent))
    here = os.getcwd()
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"line {lines[-1]}, " if lines else ""
        said = f"{type(error).__name__}: {one_line(error, 200)}"
        raise PipelineError(f"{named['file']} fails ({where}{said})") from None
    finally:
        os.chdir(here)  # if the file changed the directory, the user's relative paths would be wrong
        if str(file.parent) in sys.path:
            sys.path.remove(str(file.parent))


# --- What it draws and what it answers --------------------------------------------------------------------------------


@contextmanager
def _repeatable() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(SEED)
        yield


class _WithoutMemory(TorchFunctionMode):
    """Layers create their weights with torch.empty, which allocates no memory here.

    torch.device("meta") would affect all tensors, even those from which RegNet computes its widths.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.empty:
            kwargs["device"] = "meta"
        return function(*args, **kwargs)


def _check_answer(network: nn.Module, architecture: str, classes: int, crop: int) -> None:
    answer = _answer(network, architecture, crop)
    if answer.shape[1] != classes:
        raise PipelineError(f"{architecture} answers with {answer.shape[1]} numbers, but there are {classes} classes")
    if (answer >= 0).all() and torch.allclose(answer.sum(dim=1), torch.ones(len(answer)), atol=1e-4):
        raise PipelineError(
            f"{architecture} answers with probabilities: remove the softmax at its end, as the server applies one"
        )


def _answer(network: nn.Module, architecture: str, crop: int) -> torch.Tensor:
    """Its answer to a black picture and a grey one."""
    pictures = torch.stack([torch.zeros(3, crop, crop), torch.full((3, crop, crop), 0.5)])
    try:
        with torch.inference_mode():
            answer = network(pictures)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, NotImplementedError) as error:
        raise PipelineError(_not_at(architecture, crop, error)) from None
    if not isinstance(answer, torch.Tensor) or answer.dim() != 2 or len(answer) != 2:
        what = f"a tensor of shape {tuple(answer.shape)}" if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise PipelineError(f"{architecture} answers two images with {what}: it must be logits of shape (2, classes)")
    return answer
