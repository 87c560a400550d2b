"""The same weights for all: as this project's archive, as the stock archive, and as files."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import pictures
from benchmarks.environments import environment
from benchmarks.places import CHECKOUT, HANDLER, PEERS, WEIGHTS
from pipeline.artefact.contents import CLASSES_FILE, MODEL_FILE, PROGRAM_FILE, WEIGHTS_FILE
from pipeline.artefact.download import cache_directory
from pipeline.artefact.model import MODEL, Published
from pipeline.artefact.weights import load_weights
from pipeline.shared.errors import PipelineError


@dataclass(frozen=True)
class Int8:
    """The archive with an int8 program beside the float one; `served` and `contents` as Prepared has them."""

    served: Path
    contents: Path


@dataclass(frozen=True)
class Prepared:
    """origin: `imagenet` or `untrained`. served: this project's directory in KServe's layout. stock: a model store.

    contents: a folder with the network, its classes and its facts, as they are in this project's archive.
    int8: None where it was not asked for.
    """

    origin: str
    served: Path
    stock: Path
    pth: Path
    contents: Path
    int8: Int8 | None = None


def prepare(say: Callable[[str], None], stock: bool = True, int8: bool = False) -> Prepared:
    """Made anew at every run, but for the stock archive, which takes long: it depends on nothing that changes here.

    stock: whether the stock archive is needed, for which a peer's environment is installed. int8: whether the one with
    int8 is. Raises PipelineError where packaging refuses it.

    The ImageNet weights where torch.hub's cache has them; otherwise the untrained ones, which are as fast.
    """
    say("preparing weights and archives")
    assert isinstance(MODEL.weights, Published)
    cached = (cache_directory() / MODEL.weights.url.rsplit("/", 1)[1]).is_file()
    weights = load_weights("imagenet" if cached else "untrained", lambda *_: None)
    directory = WEIGHTS / weights.origin
    prepared = Prepared(
        weights.origin,
        directory / "served",
        directory / "stock",
        directory / "alexnet.pth",
        directory / "contents",
    )
    _configure(prepared.served)
    from pipeline.artefact.packing import pack  # torch takes seconds

    archive, _ = pack(HANDLER, weights, MODEL, prepared.served / "model-store" / "alexnet.mar", say)
    with zipfile.ZipFile(archive.path) as packed:
        packed.extractall(prepared.contents, (PROGRAM_FILE, WEIGHTS_FILE, CLASSES_FILE, MODEL_FILE))
    if int8:
        prepared = replace(prepared, int8=_int8(directory / "int8", weights.origin, say))
    if stock and not (prepared.stock / "alexnet.mar").is_file():
        import torch

        torch.save({name: torch.from_numpy(array) for name, array in weights.state.items()}, prepared.pth)
        _make_stock_archive(prepared, say)
    return prepared


def has_int8() -> bool:
    """Whether this checkout's packaging makes such archives."""
    from pipeline.commands.package import package

    return "int8" in inspect.signature(package).parameters


def _int8(directory: Path, origin: str, say: Callable[[str], None]) -> Int8:
    """As a user makes it: with scripts/package.sh, from photographs that are not those of the load."""
    say("packing with int8")
    made = Int8(directory / "served", directory / "contents")
    _configure(made.served)
    archive = made.served / "model-store" / "alexnet.mar"
    archive.parent.mkdir(exist_ok=True)
    photographs = pictures.files(pictures.CALIBRATION)[0].parent
    command: list[object] = [sys.executable, "-P", "-m", "pipeline", "package", "--weights", origin]
    words = [str(word) for word in [*command, "--int8", photographs, "--output", archive]]
    variables = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(words, cwd=CHECKOUT, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"scripts/package.sh --int8 failed:\n{done.stderr.strip()[-1500:]}")
    shutil.rmtree(made.contents, ignore_errors=True)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(made.contents)
    return made


def _configure(served: Path) -> None:
    (served / "config").mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "config.properties", served / "config")


def _make_stock_archive(prepared: Prepared, say: Callable[[str], None]) -> None:
    """As TorchServe's examples/image_classifier/alexnet makes it."""
    python = environment("torchserve_stock", say)
    say("making the stock archive (once)")
    index = prepared.pth.with_name("index_to_name.json")
    index.write_text(json.dumps({str(number): named for number, named in enumerate(MODEL.classes)}))
    part = prepared.stock.with_name("part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    command = [python.parent / "torch-model-archiver", "--model-name", "alexnet", "--version", "1.0"]
    command += ["--model-file", PEERS / "torchserve_stock" / "model.py", "--serialized-file", prepared.pth]
    command += ["--handler", "image_classifier", "--extra-files", index, "--export-path", part]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"torch-model-archiver failed:\n{done.stderr.strip()[-1500:]}")
    part.rename(prepared.stock)
