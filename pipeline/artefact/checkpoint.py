"""A checkpoint as training leaves it: which of its state dicts is meant, and what its weights are called.

Whatever a checkpoint is made of, each tensor in it has a path: the keys that lead to it and the parts of its name, such
as `state_dict`, `model`, `features`, `0`, `weight`. From this path

1. parts that wrappers have added are removed, wherever they are: `module`, `_orig_mod`, …;
2. the longest ending that is the name of one of the network's weights is the name, and the rest identifies the state
   dict.

If several state dicts fit the network, averaged weights (EMA, SWA) take precedence over those they were averaged from,
as in timm's load_state_dict. If several different ones remain, none is used: a wrong guess would look like an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.artefact.layout import Layout, Shapes, matches
from pipeline.artefact.safe_load import load
from pipeline.shared.errors import NoStateDict, PipelineError, SeveralStateDicts

Keys = tuple[str, ...]

# Parts of names that come from DataParallel, DistributedDataParallel, AveragedModel and DeepSpeed; torch.compile;
# Lightning's Fabric; PyTorch's and FairScale's FSDP; activation checkpoints.
WRAPPERS = {
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_checkpoint_wrapped_module",
}

AVERAGED = {"ema", "swa", "avg", "average", "averaged", "shadow"}
BEFORE_AVERAGING = {"current"}  # Lightning's WeightAveraging: state_dict is the average, and this is its source

# Parts of names that Lightning saves among the network's, but only training needs, such as class weights in a loss.
OF_NO_NETWORK = re.compile(r"(^|[._])(loss|losses|criterion|metrics?)([._]|$)", re.IGNORECASE)

# Parts of names in state dicts of networks that are not plain → what they are, and what to do.
UNFINISHED = {
    "_packed_params": ("holds quantised weights", "save the weights from before quantisation"),
    "weight_orig": ("holds pruned weights and their masks", "call torch.nn.utils.prune.remove(), and save again"),
    "parametrizations": (
        "holds parametrised weights",
        "call torch.nn.utils.parametrize.remove_parametrizations(), and save again",
    ),
    "weight_g": (
        "holds weights separate from their norm",
        "call torch.nn.utils.remove_weight_norm(), and save again",
    ),
    "_flat_param": ("holds FSDP's flat weights", "save them with StateDictType.FULL_STATE_DICT"),
    "lora_A": ("holds adapters next to the weights (LoRA)", "merge them into the weights, and save again"),
}

# Former names in torchvision's DenseNet and ViT, which its published files still have; see its densenet.py and
# vision_transformer.py.
OLDER_NAMES = {
    re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."): r"\1\2.",
    re.compile(r"\.mlp\.linear_1\."): ".mlp.0.",
    re.compile(r"\.mlp\.linear_2\."): ".mlp.3.",
}

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of keys such as model_ema, modelEMA, EmaModel
MOST_DEPTH = 16  # of containers in containers
LONGEST_PLACE = 80  # characters
OUTERMOST = "the outermost dictionary"


@dataclass(frozen=True)
class Chosen:
    """A state dict, as float32 arrays; its `place` in the file; and the places of others that fit but were not chosen.

    A place is empty if the file is the state dict itself. besides: whole numbers that the network may have, unchanged.
    """

    state: dict[str, np.ndarray]
    place: str
    passed_over: list[str]
    besides: dict[str, np.ndarray] = field(default_factory=dict)


def read_checkpoint(file: Path, shapes: Shapes, may_have: Callable[[str], bool] = lambda _: False) -> Chosen:
    """The state dict in a file that fits the network, or comes closest to fitting: see above for the rule.

    shapes: the names of the network's weights → their shapes, with None for any size. may_have: whether another name
    is allowed too.
    Nothing in the file is executed. Raises PipelineError if it cannot be read, or holds no state dict, or several.
    """
    leaves = list(_leaves(load(file), WRAPPERS - {part for name in shapes for part in name.split(".")}))
    if not leaves:
        raise NoStateDict(file, "holds no state dict")
    candidates = _candidates(leaves, shapes, may_have, file)
    fitting = sorted((one for one in candidates if one.fits(shapes)), key=lambda one: one.rank)
    if not fitting:
        _check_finished(leaves, candidates, file)
        closest = candidates[0].tensors | candidates[0].others if candidates else _largest(leaves)
        return Chosen(_arrays(closest, file), "", [])  # the caller reports what is missing
    chosen, *others = fitting
    others = [other for other in others if not other.equals(chosen)]
    if rivals := [other for other in others if other.rank == chosen.rank]:
        raise SeveralStateDicts(file, [one.place or OUTERMOST for one in (chosen, *rivals)])
    besides = {name: tensor.numpy() for name, tensor in chosen.besides.items() if not tensor.is_floating_point()}
    places = [other.place or OUTERMOST for other in others]
    return Chosen(_arrays(chosen.tensors, file), chosen.place, places, besides)


@dataclass(frozen=True)
class Overlap:
    """How far a file matches a network. missing: names that are absent, or have another shape. others: names that the
    network does not have. shapes: of the tensors with the network's names.
    """

    missing: list[str]
    others: list[str]
    shapes: dict[str, tuple[int, ...]]


def overlaps(file: Path, layouts: Sequence[Layout]) -> list[Overlap | None]:
    """For each network, how far the closest state dict in a file fits it; None if no name is the network's.

    Raises PipelineError as `read_checkpoint` does.
    """
    leaves = list(_leaves(load(file), WRAPPERS))
    found: list[Overlap | None] = []
    for layout in layouts:
        candidates = _candidates(leaves, layout.shapes, layout.may_have, file)
        if not candidates:
            found.append(None)
            continue
        closest = min(candidates, key=lambda one: len(one.others))
        shapes = {name: tuple(tensor.shape) for name, tensor in closest.tensors.items()}
        missing = [name for name in layout.shapes if not matches(shapes.get(name, (-1,)), layout.shapes[name])]
        found.append(Overlap(missing, list(closest.others), shapes))
    return found


def _largest(leaves: list[_Leaf]) -> dict[str, torch.Tensor]:
    """The dictionary with the most tensors: the one to report on if no name is the network's."""
    containers: dict[Keys, dict[str, torch.Tensor]] = {}
    for leaf in leaves:
        containers.setdefault(leaf.container, {})[leaf.name] = leaf.tensor
    return max(containers.values(), key=len)


# --- What is in it ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Leaf:
    """A tensor. container: the keys that lead to its dictionary. path: those keys and its name, in parts."""

    container: Keys
    name: str
    path: Keys
    tensor: torch.Tensor

    @property
    def matters(self) -> bool:
        """Whether a network may compute with it. Counters, such as `n_averaged`, and the loss do not matter."""
        is_counter = self.tensor.dim() == 0 and not self.tensor.is_floating_point()
        return not is_counter and OF_NO_NETWORK.search(self.name) is None

    def path_from(self, prefix: Keys) -> Keys:
        return self.path[len(prefix) :] if self.path[: len(prefix)] == prefix else self.path


def _leaves(loaded: Any, wrappers: set[str], container: Keys = (), seen: set[int] | None = None) -> Iterator[_Leaf]:
    """All tensors except those of optimizers, each container once."""
    seen = set() if seen is None else seen
    if id(loaded) in seen or len(container) > MOST_DEPTH:
        return
    seen.add(id(loaded))
    entries = loaded.items() if isinstance(loaded, Mapping) else enumerate(loaded)
    for key, value in entries:
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(value)
        if isinstance(value, torch.Tensor) and isinstance(loaded, Mapping):
            parts = [part for name in (*container, str(key)) for part in name.split(".")]
            path = tuple(part for part in parts if part not in wrappers)
            yield _Leaf(container, str(key), path, value)
        elif isinstance(value, Mapping | list | tuple) and "optim" not in str(key).lower():
            yield from _leaves(value, wrappers, (*container, str(key)), seen)


@dataclass(eq=False)
class _Candidate:
    """Tensors whose paths differ only in a name that the network has: one state dict, or part of one.

    others: tensors in the same dictionaries that belong to no other candidate; besides: those that the network may
    have.
    """

    prefix: Keys
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    containers: set[Keys] = field(default_factory=set)
    others: dict[str, torch.Tensor] = field(default_factory=dict)
    besides: dict[str, torch.Tensor] = field(default_factory=dict)
    averaged: bool = False

    def in_shape(self, shapes: Shapes) -> int:
        """How many of the network's weights are here, with the right shape, in floating point."""
        return sum(
            matches(tuple(tensor.shape), shapes[name]) and tensor.is_floating_point()
            for name, tensor in self.tensors.items()
        )

    def fits(self, shapes: Shapes) -> bool:
        return self.in_shape(shapes) == len(shapes) and not self.others

    def equals(self, other: _Candidate) -> bool:
        return all(_same(tensor, other.tensors[name]) for name, tensor in self.tensors.items())

    @property
    def rank(self) -> int:
        words = {word.lower() for part in self.prefix for word in WORD.findall(part)}
        if self.averaged or words & AVERAGED:
            return 0
        return 2 if words & BEFORE_AVERAGING else 1

    @property
    def place(self) -> str:
        place = "".join(letter if letter.isprintable() else "?" for letter in ".".join(self.prefix))
        return place if len(place) <= LONGEST_PLACE else f"{place[:LONGEST_PLACE]}…"


def _candidates(leaves: list[_Leaf], shapes: Shapes, may_have: Callable[[str], bool], file: Path) -> list[_Candidate]:
    """Those that have every weight, or else the one with the most; empty if no name is the network's.

    Raises PipelineError if one has a name twice, with different values.
    """
    found: dict[Keys, _Candidate] = {}
    longest = max(name.count(".") + 1 for name in shapes) + 1  # older names have one part more
    owners: list[_Candidate | None] = []
    for leaf in leaves:
        owner = None
        for start in range(max(0, len(leaf.path) - longest), len(leaf.path)):
            prefix, name = leaf.path[:start], ".".join(leaf.path[start:])
            if name not in shapes:
                name = _present(name)
            if name in shapes:
                owner = found.setdefault(prefix, _Candidate(prefix))
                if not _same(owner.tensors.setdefault(name, leaf.tensor), leaf.tensor):
                    raise PipelineError(f"{file} has {name} twice, with different values: save only one state dict")
                owner.containers.add(leaf.container)
                break
        owners.append(owner)
    candidates = [candidate for candidate in found.values() if candidate.in_shape(shapes) == len(shapes)]
    if found and not candidates:
        candidates = [max(found.values(), key=lambda one: (one.in_shape(shapes), -one.rank))]
    for leaf, owner in zip(leaves, owners, strict=True):
        for candidate in candidates:
            candidate.averaged |= leaf.path == (*candidate.prefix, "n_averaged")
            if leaf.container in candidate.containers and owner not in candidates and leaf.matters:
                name = ".".join(leaf.path_from(candidate.prefix))
                (candidate.besides if may_have(name) else candidate.others)[name] = leaf.tensor
    return candidates


def _present(name: str) -> str:
    """The current name of a weight."""
    for past, present in OLDER_NAMES.items():
        name = past.sub(present, name)
    return name


def _check_finished(leaves: list[_Leaf], candidates: list[_Candidate], file: Path) -> None:
    """Raises NoStateDict if a name or a type explains why nothing fits."""
    for mark, (what, to_do) in UNFINISHED.items():
        if any(mark in part for leaf in leaves for part in leaf.path):
            raise NoStateDict(file, what, to_do)
    for tensor in candidates[0].tensors.values() if candidates else ():
        if tensor.is_complex():
            raise NoStateDict(file, f"holds complex weights ({tensor.dtype})", "save real numbers")
        if not tensor.is_floating_point():
            what, to_do = UNFINISHED["_packed_params"]
            raise NoStateDict(file, f"{what} ({tensor.dtype})", to_do)


# --- Tensors ----------------------------------------------------------------------------------------------------------


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    try:
        return one is other or (one.dtype == other.dtype and torch.equal(one, other))
    except RuntimeError:  # sparse tensors, or tensors without data
        return False


def _arrays(tensors: Mapping[str, torch.Tensor], file: Path) -> dict[str, np.ndarray]:
    """As float32. Raises PipelineError for tensors that are sparse, quantised, without data, or of custom types."""
    arrays = {}
    for name, tensor in tensors.items():
        try:
            if type(tensor.data) is not torch.Tensor or tensor.is_complex():
                raise TypeError
            arrays[name] = tensor.detach().float().contiguous().numpy()
        except (RuntimeError, TypeError):
            raise PipelineError(f"{file} holds tensors that are not plain arrays of numbers, such as {name}") from None
    return arrays
