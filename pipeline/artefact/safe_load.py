"""A file of torch.save or of safetensors → what it holds, with nothing in it executed; or why that cannot be."""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
import pickle  # nosec B403: for its error, and nothing is loaded with it
import pickletools  # nosec B403: it only takes pickles apart
import re
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.artefact.file_kind import AGAIN, kind_of, literal, saved_from
from pipeline.shared.errors import NoStateDict


class _Stand:
    """For a class that is nothing but a key."""


# What training leaves beside the weights, and torch does not allow by itself: types that only hold values.
VALUES: list[Any] = [
    *(int, float, bool, str, bytes, list, tuple, dict, frozenset, slice),
    *((lambda *_: (), f"{module}range") for module in ("builtins.", "__builtin__.x")),  # a list of one may fill memory
    *(argparse.Namespace, types.SimpleNamespace),
    *(dt.datetime, dt.date, dt.timedelta, dt.timezone),
    (lambda *_: {}, "collections.defaultdict"),  # torch fills nothing but dict and list
    (lambda *_: [], "collections.deque"),
    *(
        (getattr(pathlib, f"Pure{kind}Path"), f"{module}.{pure}{kind}Path")  # those of another system too
        for module in ("pathlib", "pathlib._local")
        for pure in ("", "Pure")
        for kind in ("Posix", "Windows")
    ),
    torch.torch_version.TorchVersion,
    *(
        (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    *(np.ndarray, np.dtype, *{type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"}),
    *(
        (_Stand, f"pytorch_lightning.callbacks.{callback}")  # keys of `callbacks` before Lightning 1.5
        for callback in ("model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping")
    ),
]

# What an attack calls, and no training leaves in a checkpoint. torch names builtins without their module, and protocol
# 2 has Python 2's names.
ATTACKS = re.compile(
    r"(os|posix|nt|sys|io|subprocess|commands|shutil|socket|importlib|runpy|pty|ctypes|code|webbrowser)\..*|\w+"
)

# How a pickle begins that is of one object: with its class, which torch.save wrote with its source before version 1.6.
AN_OBJECT = re.compile(rb"\x80.(c(?!collections\nOrderedDict\n)|\(X\x06\0\0\0module)", re.DOTALL)

SPREAD = (
    "holds tensors that are spread over processes (DTensor)",
    "save them whole, with StateDictOptions(full_state_dict=True) of torch.distributed.checkpoint.state_dict",
)

MOST_PICKLED_BYTES = 16 << 20  # that are looked at, for what a refusal says


def load(file: Path) -> object:
    """A mapping, list or tuple. Raises NoStateDict where the file is of another kind, holds something else, or more."""
    if kind_of(file) == "safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise NoStateDict(file, f"is a safetensors file that is damaged or not whole ({error})", AGAIN) from None
    try:
        with (
            torch.serialization.safe_globals(VALUES),
            warnings.catch_warnings(action="ignore"),
            open(file, "rb") as opened,
        ):
            loaded = torch.load(opened, map_location="cpu", weights_only=True)  # by name, it would go by the suffix
    except OSError:
        raise
    except Exception as error:  # pickle, zipfile and torch each say in a way of their own that they cannot read it
        raise _unread(file, error) from None
    if not isinstance(loaded, dict | list | tuple):
        raise NoStateDict(file, f"holds no state dict, but one {type(loaded).__name__}")
    return loaded


def _unread(file: Path, error: Exception) -> NoStateDict:
    """Why torch.load does not read it: in torch's words a sentence of several lines, with advice to trust the file."""
    foreign = re.search(r"GLOBAL ([\w.<>]+)", str(error))
    if foreign is None and "DTensor" in str(error):
        return NoStateDict(file, *SPREAD)
    if foreign is None and isinstance(error, pickle.UnpicklingError):
        return NoStateDict(file, "was pickled in a way that cannot be read without executing it, or is damaged")
    if foreign is None:
        return NoStateDict(file, "is a file of torch.save that is damaged or not whole", AGAIN)
    name, pickled = foreign[1], _pickled(file)
    if name == "getattr" and b"_modules" in pickled:
        return NoStateDict(
            file, "holds a method of a module, as torch.save(model.state_dict, …) leaves it", "save what it returns"
        )
    if ATTACKS.fullmatch(name):
        return NoStateDict(file, f"holds {name}, which loading it would call", "do not load it, with any program")
    loaded = f'torch.load({literal(file)}, "cpu", weights_only=False)'
    where = "where you trust it, and its classes can be imported"
    if AN_OBJECT.match(pickled) and b"_modules" in pickled:
        what = f"is a whole module ({name}) instead of its state dict, and loading one could execute anything"
        return NoStateDict(file, what, f"{where}, {saved_from(f'{loaded}.state_dict()')}")
    what = f"holds more than tensors and values ({name}), and loading it could execute anything"
    return NoStateDict(file, what, f"{where}, {saved_from(f'{loaded}[{literal(_likely_key(pickled))}]')}")


def _pickled(file: Path) -> bytes:
    """The start of the pickle itself, which is all of it but the tensors' values; empty where it is not found."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                (name,) = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
                with archive.open(name) as pickled:
                    return pickled.read(MOST_PICKLED_BYTES)
        with open(file, "rb") as opened:
            for _ in ("magic number", "protocol", "system"):  # each a pickle of its own
                list(pickletools.genops(opened))
            return opened.read(MOST_PICKLED_BYTES)
    except (zipfile.BadZipFile, ValueError, RuntimeError, OSError):
        return b""


def _likely_key(pickled: bytes) -> str:
    """Of the state dict, among the keys that are pickled."""
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if b"X" + len(key).to_bytes(4, "little") + key.encode() in pickled:
            return key
    return "state_dict"
