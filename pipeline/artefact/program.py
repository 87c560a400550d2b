"""A network as data: program.json, a list of operators and their arguments, and the tensors that they need.

torch.export traces the network once. The result is made smaller and faster here, once, instead of at each start:

- Values that do not depend on the images (position biases, masks) are computed in float64, so that they are the same on
  any processor up to one rounding.
- A batch norm after a convolution is folded into its weights: https://arxiv.org/abs/1712.05877, section 3.2.
- ReLU before max pooling moves after it: the numbers are the same, and ReLU has a quarter of the work.
- Operators that write into their input are replaced by ones that do not: a program cannot change its weights.

The format is in handler/vision/model/program.py, which reads it.
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.artefact.lowering import Lowering
from pipeline.artefact.nodes import Node
from pipeline.artefact.simplified import fold_batch_norms, only_needed, pool_first
from pipeline.shared.errors import NotExportable

FORMAT = 1
MOST_IMAGES = 1024  # in a batch, for torch.export


@dataclass(frozen=True)
class Program:
    """graph: program.json. tensors: its weights, float32 or whole numbers. places: FILE:LINE of each node.

    nodes, output, side: the content of `graph` before it became text.
    """

    graph: bytes
    tensors: dict[str, np.ndarray]
    places: tuple[str, ...] = ()
    nodes: Sequence[Node] = ()
    output: int = 0
    side: int = 0


def export(module: nn.Module, crop: int) -> Program:
    """A float32 network → its program, for images (N, 3, crop, crop).

    The same network gives the same bytes. Raises NotExportable unless it is a sequence of known operators for any
    number of images.
    """
    lowering = Lowering(_trace(module, crop))
    nodes, output = lowering.run()
    nodes, output = fold_batch_norms(nodes, output, lowering.tensors)
    pool_first(nodes, output)
    nodes, output = only_needed(nodes, output)
    needed = sorted({name for node in nodes for name in node.weights})
    tensors = {name: np.ascontiguousarray(_as_stored(lowering.tensors[name]).numpy()) for name in needed}
    places = tuple(node.place for node in nodes)
    return Program(program_text(nodes, output, crop), tensors, places, nodes, output, crop)


def program_text(nodes: Sequence[Node], output: int, side: int, more: Mapping[str, str] | None = None) -> bytes:
    """One line for each node. more: additional keys. Raises NotExportable for a number that is not finite."""
    try:
        lines = ",\n".join(json.dumps(node.to_json(), allow_nan=False, sort_keys=True) for node in nodes)
    except ValueError:
        raise NotExportable("it computes with a number that is not finite") from None
    said = json.dumps({"format": FORMAT, "side": side, "output": output, **(more or {})})[:-1]
    return f'{said}, "nodes": [\n{lines}\n]}}\n'.encode()


def _as_stored(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _trace(module: nn.Module, crop: int) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    try:
        with torch.no_grad(), _without_torchs_words():
            return torch.export.export(module, (torch.zeros(2, 3, crop, crop),), dynamic_shapes=({0: batch},))
    except Exception as error:  # of any kind: the network's own code runs
        reason, place = " ".join(str(error).split())[:200] or type(error).__name__, ""
        if "data-dependent" in str(error):
            reason = "it depends on the images' content, with if, while or int(…): use torch.where or masks"
            lines = re.findall(r'File "([^"]+)", line (\d+)', str(error))
            place = f"{Path(lines[-1][0]).name}:{lines[-1][1]}" if lines else ""
        if "specialized it to be a constant" in str(error):
            reason = "it takes a fixed number of images, as with len(x) or int(…): use x.shape[0]"
        raise NotExportable(f"torch.export refuses it: {reason}", place) from error


@contextmanager
def _without_torchs_words() -> Iterator[None]:
    """Silences torch's notes on its future and on graphs that it gave up: the error says what is wrong."""
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
