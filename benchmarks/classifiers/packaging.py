"""python -m benchmarks.classifiers.packaging NAME FOLDER: packs it with 1000 classes and with 5, as package.sh does.

Runs in a separate process, which frees its memory at the end. FOLDER then has 1000.mar, 5.mar and packed.json.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.classifiers.architectures import Architecture, all_of_them
from benchmarks.classifiers.calibration import calibrated, photographs, with_fewer_classes
from benchmarks.places import HANDLER
from pipeline.artefact.architecture import module
from pipeline.artefact.contents import PROGRAM_FILE
from pipeline.artefact.model import read_model
from pipeline.artefact.packing import pack
from pipeline.artefact.weights import load_weights, with_classes
from pipeline.shared.errors import PipelineError

MANY, FEW = 1000, 5
PACKED = "packed.json"


def packed(architecture: Architecture, folder: Path) -> dict[str, Any]:
    """What is known about it before it is served."""
    if architecture.file is not None:
        shutil.copy(architecture.file, folder)
    file = _model_file(architecture, MANY, folder)
    model = read_model(file)
    crop = model.preprocessing.crop
    network = module(model.architecture, MANY, crop, folder)
    state, head = calibrated(network, MANY, photographs(model.preprocessing))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    found = {"crop": crop, "parameters": parameters}
    torch.save(state, folder / f"{MANY}.pth")
    torch.save(with_fewer_classes(state, head, FEW), folder / f"{FEW}.pth")
    found["flop"] = _flop(network.to("meta"), crop)
    del network, state
    return found | {str(classes): _packed(architecture, classes, folder) for classes in (MANY, FEW)}


def _packed(architecture: Architecture, classes: int, folder: Path) -> dict[str, Any]:
    began = _processor_s()
    said = read_model(_model_file(architecture, classes, folder))
    weights = load_weights(said.weights, lambda *_: None, said)
    archive, proof = pack(HANDLER, weights, with_classes(said, weights), folder / f"{classes}.mar")
    seconds = _processor_s() - began
    (folder / f"{classes}.pth").unlink()
    with zipfile.ZipFile(archive.path) as opened:
        nodes = json.loads(opened.read(PROGRAM_FILE))["nodes"]
    return {"nodes": len(nodes), "archive_bytes": archive.size, "packaging_s": round(seconds, 1)} | asdict(proof)


def _model_file(architecture: Architecture, classes: int, folder: Path) -> Path:
    lines = [f"name: {architecture.name.replace('_', '-')}", f"architecture: {architecture.said}"]
    lines += [f"weights: {classes}.pth"]
    if classes != MANY:  # else ImageNet's
        lines += [f"labels: [{', '.join(f'label {number}' for number in range(classes))}]"]
    file = folder / f"{classes}.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


def _flop(network: nn.Module, crop: int) -> int:
    """Operations per image; a multiply-add counts as two. Nothing is computed."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, crop, crop, device="meta"))
    return int(counter.get_total_flops())


def _processor_s() -> float:
    """Processor time of this process and those that it has waited for."""
    return sum(os.times()[:4])


def main(name: str, folder: Path) -> None:
    (architecture,) = (each for each in all_of_them() if each.name == name)
    torch.set_num_threads(1)
    try:
        found = packed(architecture, folder)
    except PipelineError as error:
        sys.exit(str(error))
    (folder / PACKED).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
