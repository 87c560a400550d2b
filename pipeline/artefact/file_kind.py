"""Finds out what a file is from its content: its suffix may be wrong.

Training and downloads leave many kinds of files. Two can be read; for each of the others, an error says what to do.
"""

from __future__ import annotations

import json
import shlex
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

from pipeline.shared.errors import NoStateDict, NoWeights, PipelineError, told

MOST_HEADER_BYTES = 100_000_000  # of a safetensors file, by its own specification

# torch.serialization.MAGIC_NUMBER, pickled: torch.save's files began with it before version 1.6, and still can.
TORCHS_OLD_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

ELSEWHERE = "--weights needs a PyTorch file: use torch.save(model.state_dict(), …) where the model was trained"
AGAIN = "copy or download it again"
UNPACK = "unpack it, and give --weights the file in it"

# The first bytes of a file → what it is, and what to do.
BEGINNINGS: dict[bytes, tuple[str, str]] = {
    b"version https://git-lfs.github.com/spec/": ("is a Git LFS pointer, not the weights", "run git lfs pull"),
    b"\x1f\x8b": ("is compressed with gzip", UNPACK),
    b"BZh": ("is compressed with bzip2", UNPACK),
    b"\xfd7zXZ\0": ("is compressed with xz", UNPACK),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("is packed with 7-Zip", UNPACK),
    b"Rar!\x1a\x07": ("is packed with RAR", UNPACK),
    b"\x89HDF\r\n\x1a\n": ("is an HDF5 file, such as Keras writes", ELSEWHERE),
    b"\x93NUMPY": ("is one NumPy array", ELSEWHERE),
    b"GGUF": ("is a GGUF file", ELSEWHERE),
}
MARKUP = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<error", b"<!--")
PICKLES_OF_OLD = (b"(dp", b"(lp", b"}q", b"]q", b"ccollections\n", b"cnumpy", b"ctorch", b"c__builtin__\n")

# The name of a file in a folder → what the folder is, and what to do.
FOLDERS: dict[str, tuple[str, str]] = {
    "saved_model.pb": ("is a TensorFlow SavedModel", ELSEWHERE),
    "zero_to_fp32.py": ("is a DeepSpeed checkpoint", "run the zero_to_fp32.py in it, and give --weights the result"),
    ".metadata": (
        "is a distributed checkpoint",
        "convert it to a file with python -m torch.distributed.checkpoint.format_utils dcp_to_torch",
    ),
    "data.pkl": ("is an unpacked torch.save file", "give --weights the original file"),
}


def kind_of(file: Path) -> Literal["torch", "safetensors"]:
    """Raises NoWeights if the file does not exist, and NoStateDict, which says what it is, for any other kind."""
    try:
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _folder(file)
        if not stat.S_ISREG(mode):
            raise NoStateDict(file, "is not a regular file, which can be read twice", "give --weights a regular file")
        with open(file, "rb") as opened:
            return _kind(file, opened)
    except (FileNotFoundError, NotADirectoryError):
        raise NoWeights(file) from None
    except PermissionError as error:
        raise PipelineError(f"{told(error)}: give yourself read permission") from None


def _folder(folder: Path) -> NoStateDict:
    for name, (what, to_do) in FOLDERS.items():
        if (folder / name).exists():
            return NoStateDict(folder, what, to_do)
    return NoStateDict(folder, "is a folder", "give --weights the file in it")


def _kind(file: Path, opened: IO[bytes]) -> Literal["torch", "safetensors"]:
    head = opened.read(4096)
    if not head:
        raise NoStateDict(file, "is empty", AGAIN)
    if head.startswith(b"PK"):
        return _zip(file)
    if TORCHS_OLD_MAGIC in head[:32]:
        return "torch"
    if len(head) > 8 and struct.unpack("<Q", head[:8])[0] <= MOST_HEADER_BYTES and head[8:9] == b"{":
        return "safetensors"
    if members := _tar_members(file):
        raise _tar(file, members)
    for beginning, (what, to_do) in BEGINNINGS.items():
        if head.startswith(beginning):
            raise NoStateDict(file, what, to_do)
    if (head[0] == 0x80 and b"\x02" <= head[1:2] <= b"\x05") or head.startswith(PICKLES_OF_OLD):
        raise NoStateDict(
            file,
            "is a pickle that torch.save did not write, and loading it could execute anything",
            "if you trust it, load it and save the weights with torch.save(…, 'weights.pth')",
        )
    if head[4:8] == b"TFL3":
        raise NoStateDict(file, "is a TensorFlow Lite model", ELSEWHERE)
    if _is_onnx(opened):
        raise NoStateDict(file, "is an ONNX model", ELSEWHERE)
    raise _unknown(file, head)


def _unknown(file: Path, head: bytes) -> NoStateDict:
    if not head.strip(b"\0"):
        return NoStateDict(file, "begins with only zeros, as after an interrupted download", AGAIN)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(MARKUP):
        return NoStateDict(file, "is a web page, perhaps about a failed download", "look into it")
    if b'"weight_map"' in head:
        return NoStateDict(
            file, "is an index of weights in several files", "load them, and save one file with torch.save"
        )
    with suppress(UnicodeDecodeError):
        line = head[:1024].decode().strip().split("\n")[0].rstrip("\r")
        if line.isprintable():
            return NoStateDict(file, f"is text that begins with {line[:40]!r}", "look into it")
    return NoStateDict(file, "is neither a torch.save file nor a safetensors file, or is damaged", ELSEWHERE)


# --- Archives ---------------------------------------------------------------------------------------------------------


def _zip(file: Path) -> Literal["torch"]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OverflowError):
        raise NoStateDict(file, "is an incomplete torch.save file or zip archive", AGAIN) from None
    inside = {name.partition("/")[2] for name in names} | set(names)  # torch.save puts all of it into one folder
    if "MAR-INF/MANIFEST.json" in inside:
        raise NoStateDict(file, "is a TorchServe model archive", UNPACK)
    if "constants.pkl" in inside:
        raise NoStateDict(file, "is TorchScript", saved_from(f'torch.jit.load({literal(file)}, "cpu").state_dict()'))
    if {"archive_format", "serialized_exported_program.json"} & inside:
        saved = saved_from(f"torch.export.load({literal(file)}).state_dict")
        raise NoStateDict(
            file, "is a torch.export program, and loading one could execute anything", f"if you trust it, {saved}"
        )
    if "data.pkl" in inside:
        return "torch"
    if ".data/version" in inside:
        raise NoStateDict(file, "is a torch.package, and loading one could execute anything", ELSEWHERE)
    if "model.weights.h5" in inside:
        raise NoStateDict(file, "is a Keras model", ELSEWHERE)
    if names and all(name.endswith(".npy") for name in names):
        raise NoStateDict(file, "is an archive of NumPy arrays", ELSEWHERE)
    raise NoStateDict(file, "is a zip archive, but not from torch.save", UNPACK)


def _tar(file: Path, members: list[str]) -> NoStateDict:
    if {"sys_info", "pickle", "storages", "tensors"} & set(members):
        saved = saved_from(f'torch.load({literal(file)}, "cpu", weights_only=False)')
        return NoStateDict(
            file,
            "was saved by PyTorch before 0.2, as a tar archive, and loading it could execute anything",
            f"if you trust it, {saved}",
        )
    return NoStateDict(file, "is a tar archive", UNPACK)


def _tar_members(file: Path) -> list[str]:
    """The first few names in a tar archive, which may be compressed; empty if the file is not one."""
    members: list[str] = []
    with suppress(tarfile.TarError, OSError, EOFError, ValueError), tarfile.open(file) as archive:
        while len(members) < 4 and (member := archive.next()):
            members.append(member.name)
    return members


def literal(text: object) -> str:
    """As a Python literal, without the quotation mark that a shell command uses."""
    return json.dumps(str(text))


def saved_from(state: str) -> str:
    """A command that saves the value of this Python expression as a state dict."""
    program = f'import torch; torch.save({state}, "weights.pth")'
    return f"run python -c {shlex.quote(program)}, and give --weights that file"


# --- ONNX -------------------------------------------------------------------------------------------------------------

# The fields of ModelProto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; each model has IR_VERSION and GRAPH.
FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
IR_VERSION, GRAPH = 1, 7


def _is_onnx(opened: IO[bytes]) -> bool:
    """Whether the file is a protocol buffer with only a model's fields: ONNX has no magic number."""
    opened.seek(0)
    found = set()
    with suppress(OSError, OverflowError):  # an impossible length
        for field in _fields(opened):
            if field not in FIELDS:
                return False
            found.add(field)
            if found >= {IR_VERSION, GRAPH}:
                return True
    return False


def _fields(opened: IO[bytes]) -> Iterator[int]:
    """The numbers of a protocol buffer's outermost fields, whose content is skipped; the last may be cut off."""
    while (tag := _varint(opened)) is not None:
        if tag & 7 not in (0, 2):  # ModelProto has only numbers and values with a length
            yield 0
            return
        yield tag >> 3
        value = _varint(opened)
        if tag & 7 == 2 and value is not None:
            opened.seek(value, 1)


def _varint(opened: IO[bytes]) -> int | None:
    value = 0
    for place in range(9):
        if not (byte := opened.read(1)):
            return None
        value |= (byte[0] & 0x7F) << 7 * place
        if byte[0] < 0x80:
            return value
    return None
