"""The same weights for everyone: in this project's archive, in the stock archive, and as files."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import pictures
from benchmarks.environments import environment
from benchmarks.places import CHECKOUT, HANDLER, PEERS, WEIGHTS
from pipeline.artefact.download import cache_directory
from pipeline.artefact.model import MODEL, Published
from pipeline.artefact.weights import Weights, load_weights
from pipeline.shared.errors import PipelineError


@dataclass(frozen=True)
class Int8:
    """The archive with an int8 program in addition to the float one; `served` and `contents` as in Prepared."""

    served: Path
    contents: Path


@dataclass(frozen=True)
class Prepared:
    """origin: `imagenet` or `untrained`. served: this project's directory in KServe's layout. stock: a model store.

    contents: a folder with the network, its classes and its facts, as in this project's archive.
    int8: None unless it was requested.
    """

    origin: str
    served: Path
    stock: Path
    pth: Path
    contents: Path
    int8: Int8 | None = None


def prepare(say: Callable[[str], None], stock: bool = True, int8: bool = False) -> Prepared:
    """Builds everything in every run, except for the stock archive, which is slow and depends on nothing that changes.

    stock: whether the stock archive is needed, for which a peer's environment is installed. int8: whether the int8
    archive is needed. Raises PipelineError if packaging refuses it.

    Uses the ImageNet weights if torch.hub's cache has them; otherwise untrained ones, which are as fast.
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
    _unpack(archive.path, prepared.contents)
    if int8:
        prepared = replace(prepared, int8=_int8(directory / "int8", weights, say))
    if stock and not (prepared.stock / "alexnet.mar").is_file():
        import torch

        torch.save({name: torch.from_numpy(array) for name, array in weights.state.items()}, prepared.pth)
        _make_stock_archive(prepared, say)
    return prepared


def _int8(directory: Path, weights: Weights, say: Callable[[str], None]) -> Int8:
    """Packs as scripts/package.sh --int8 does, from other photographs than the load's.

    Untrained weights answer differently in int8, and would be refused. As they are just as fast, their bounds are
    lifted.
    """
    from pipeline.artefact.int8.proof import BOUNDS, Bounds
    from pipeline.artefact.packing import pack  # torch takes seconds

    say("packing with int8")
    made = Int8(directory / "served", directory / "contents")
    _configure(made.served)
    photographs = pictures.files(pictures.CALIBRATION)[0].parent
    bounds = BOUNDS if weights.trained else Bounds(same=0, on_average=1)
    archive, _ = pack(
        HANDLER, weights, MODEL, made.served / "model-store" / "alexnet.mar", say, int8=photographs, bounds=bounds
    )
    _unpack(archive.path, made.contents)
    return made


def _unpack(archive: Path, contents: Path) -> None:
    shutil.rmtree(contents, ignore_errors=True)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(contents)


def _configure(served: Path) -> None:
    (served / "config").mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "config.properties", served / "config")


def _make_stock_archive(prepared: Prepared, say: Callable[[str], None]) -> None:
    """Made as in TorchServe's examples/image_classifier/alexnet."""
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
