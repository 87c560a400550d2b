"""A network as data: program.json, which operators are applied to what, and the tensors that they need.

torch.export traces the network once. What it leaves is made smaller and quicker here, once, instead of at each start:

- What does not depend on the images is computed (position biases, masks), in float64, so that it is the same on any
  processor but for one rounding.
- A batch norm after a convolution becomes a part of its weights: https://arxiv.org/abs/1712.05877, section 3.2.
- ReLU before max pooling changes places with it: the numbers are the same, and ReLU has a quarter of the work.
- Operators that write into their input are replaced by those that do not: a program cannot change its weights.

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
MOST_IMAGES = 1024  # in a batch, as far as torch.export is told


@dataclass(frozen=True)
class Program:
    """graph: program.json. tensors: what it calls weights, float32 or whole numbers. places: FILE:LINE of each node.

    nodes, output, side: what `graph` says, as it was before it became text.
    """

    graph: bytes
    tensors: dict[str, np.ndarray]
    places: tuple[str, ...] = ()
    nodes: Sequence[Node] = ()
    output: int = 0
    side: int = 0


def export(module: nn.Module, crop: int) -> Program:
    """A float32 network → its program, for images (N, 3, crop, crop).

    The same network gives the same bytes. Raises NotExportable where it is more than operators that are known, one
    after the other, for any number of images.
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
    """A line for each node. more: said beside it. Raises NotExportable for a number that is not finite."""
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
    except Exception as error:  # of any kind: it runs the network's own code
        reason, place = " ".join(str(error).split())[:200] or type(error).__name__, ""
        if "data-dependent" in str(error):
            reason = "it looks at what the images hold, with if, while or int(…); torch.where and masks do not"
            lines = re.findall(r'File "([^"]+)", line (\d+)', str(error))
            place = f"{Path(lines[-1][0]).name}:{lines[-1][1]}" if lines else ""
        if "specialized it to be a constant" in str(error):
            reason = "it takes a fixed number of images; x.shape[0] leaves that open, len(x) and int(…) do not"
        raise NotExportable(f"torch.export refuses it: {reason}", place) from error


@contextmanager
def _without_torchs_words() -> Iterator[None]:
    """Of what it will do one day, and of a graph that it gave up: the error says what is wrong."""
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
