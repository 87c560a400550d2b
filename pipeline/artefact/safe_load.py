"""Reads a torch.save or safetensors file without executing anything in it, or says why it cannot."""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
import pickle  # nosec B403: only for its error; nothing is loaded with it
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
    """Stands in for a class that is only used as a key."""


# Types that only hold values, which training leaves next to the weights and torch does not allow by default.
VALUES: list[Any] = [
    *(int, float, bool, str, bytes, list, tuple, dict, frozenset, slice),
    *(
        (lambda *_: (), f"{module}range") for module in ("builtins.", "__builtin__.x")
    ),  # list(range(…)) could fill memory
    *(argparse.Namespace, types.SimpleNamespace),
    *(dt.datetime, dt.date, dt.timedelta, dt.timezone),
    (lambda *_: {}, "collections.defaultdict"),  # torch fills only dict and list
    (lambda *_: [], "collections.deque"),
    *(
        (getattr(pathlib, f"Pure{kind}Path"), f"{module}.{pure}{kind}Path")  # of other systems too
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

# Names that an attack calls, and that training never leaves in a checkpoint. torch names builtins without their module,
# and protocol 2 uses Python 2's names.
ATTACKS = re.compile(
    r"(os|posix|nt|sys|io|subprocess|commands|shutil|socket|importlib|runpy|pty|ctypes|code|webbrowser)\..*|\w+"
)

# The beginning of a pickle of one object: its class, which torch.save wrote with its source before version 1.6.
AN_OBJECT = re.compile(rb"\x80.(c(?!collections\nOrderedDict\n)|\(X\x06\0\0\0module)", re.DOTALL)

SPREAD = (
    "holds tensors that are sharded across processes (DTensor)",
    "save them whole, with StateDictOptions(full_state_dict=True) of torch.distributed.checkpoint.state_dict",
)

MOST_PICKLED_BYTES = 16 << 20  # read for the text of a refusal


def load(file: Path) -> object:
    """A mapping, list or tuple. Raises NoStateDict if the file is of another kind, or holds something else or more."""
    if kind_of(file) == "safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise NoStateDict(file, f"is a damaged or incomplete safetensors file ({error})", AGAIN) from None
    try:
        with (
            torch.serialization.safe_globals(VALUES),
            warnings.catch_warnings(action="ignore"),
            open(file, "rb") as opened,
        ):
            loaded = torch.load(
                opened, map_location="cpu", weights_only=True
            )  # given a name, it would trust the suffix
    except OSError:
        raise
    except Exception as error:  # pickle, zipfile and torch each have their own errors for a file that they cannot read
        raise _unread(file, error) from None
    if not isinstance(loaded, dict | list | tuple):
        raise NoStateDict(file, f"holds a single {type(loaded).__name__}, not a state dict")
    return loaded


def _unread(file: Path, error: Exception) -> NoStateDict:
    """Why torch.load does not read it. torch's own message has several lines, and advises trusting the file."""
    foreign = re.search(r"GLOBAL ([\w.<>]+)", str(error))
    if foreign is None and "DTensor" in str(error):
        return NoStateDict(file, *SPREAD)
    if foreign is None and isinstance(error, pickle.UnpicklingError):
        return NoStateDict(file, "is a pickle that cannot be read without executing it, or is damaged")
    if foreign is None:
        return NoStateDict(file, "is a damaged or incomplete torch.save file", AGAIN)
    name, pickled = foreign[1], _pickled(file)
    if name == "getattr" and b"_modules" in pickled:
        return NoStateDict(
            file,
            "holds a method, as torch.save(model.state_dict, …) saves it",
            "call it: torch.save(model.state_dict(), …)",
        )
    if ATTACKS.fullmatch(name):
        return NoStateDict(file, f"holds {name}, which loading it would call", "do not load it with any program")
    loaded = f'torch.load({literal(file)}, "cpu", weights_only=False)'
    where = "if you trust it, and its classes can be imported"
    if AN_OBJECT.match(pickled) and b"_modules" in pickled:
        what = f"is a whole module ({name}) instead of its state dict, and loading one could execute anything"
        return NoStateDict(file, what, f"{where}, {saved_from(f'{loaded}.state_dict()')}")
    what = f"holds more than tensors and values ({name}), and loading it could execute anything"
    return NoStateDict(file, what, f"{where}, {saved_from(f'{loaded}[{literal(_likely_key(pickled))}]')}")


def _pickled(file: Path) -> bytes:
    """The start of the pickle itself, which is everything but the tensors' values; empty if it is not found."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                (name,) = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
                with archive.open(name) as pickled:
                    return pickled.read(MOST_PICKLED_BYTES)
        with open(file, "rb") as opened:
            for _ in ("magic number", "protocol", "system"):  # each is a separate pickle
                list(pickletools.genops(opened))
            return opened.read(MOST_PICKLED_BYTES)
    except (zipfile.BadZipFile, ValueError, RuntimeError, OSError):
        return b""


def _likely_key(pickled: bytes) -> str:
    """The likely key of the state dict, among the pickled keys."""
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if b"X" + len(key).to_bytes(4, "little") + key.encode() in pickled:
            return key
    return "state_dict"
