"""What is said of files that hold no weights, or weights of another kind: what they are, and what to do."""

from __future__ import annotations

import argparse
import bz2
import collections
import gzip
import io
import lzma
import os
import pickle
import shlex
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.package.package_exporter import PackageExporter

from pipeline.artefact.checkpoint import read_checkpoint
from pipeline.artefact.weights import load_weights
from pipeline.shared.errors import PipelineError

SHAPES = {"weight": (2, 3), "bias": (2,)}
OLD: dict[str, Any] = {"_use_new_zipfile_serialization": False}


def state() -> dict[str, torch.Tensor]:
    return nn.Linear(3, 2).state_dict()


def saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def refusal(file: Path) -> str:
    with warnings.catch_warnings(action="error"), pytest.raises(PipelineError) as refused:
        read_checkpoint(file, SHAPES)
    sentence = str(refused.value)
    assert sentence.startswith(f"{file} ")
    assert sentence.isprintable()
    return sentence.removeprefix(f"{file} ")


# --- By content, not by suffix ----------------------------------------------------------------------------------------


def as_safetensors(file: Path) -> None:
    save_file(state(), file)


@pytest.mark.parametrize(
    "write",
    [as_safetensors, lambda file: torch.save(state(), file), lambda file: torch.save(state(), file, **OLD)],
    ids=["safetensors", "torch", "torch before 1.6"],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "A.SAFETENSORS", "a.pth.tar", "a.zip", "a.txt", "a"])
def test_the_suffix_does_not_matter(tmp_path: Path, write: Callable[[Path], None], name: str) -> None:
    write(tmp_path / name)
    assert read_checkpoint(tmp_path / name, SHAPES).state.keys() == SHAPES.keys()


# --- Other kinds ------------------------------------------------------------------------------------------------------


def archived(pack: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    pack(buffer)
    return buffer.getvalue()


def tarred(*names: str, mode: str = "w", contents: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    def pack(buffer: io.BytesIO) -> None:
        with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(contents.get(name, b""))
                archive.addfile(member, io.BytesIO(contents.get(name, b"")))

    return archived(pack)


def zipped(*names: str) -> bytes:
    def pack(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, b"content")

    return archived(pack)


def onnx() -> bytes:
    """Fields of ModelProto: ir_version, producer_name, graph, opset_import; as PyTorch's exporter orders them."""
    graph = b"\x0a\x03abc" * 100
    return b"\x08\x08\x12\x07pytorch\x1a\x032.1\x3a" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph


OF_PYTORCH = "--weights takes what PyTorch has saved: torch.save(model.state_dict(), …) where the model was trained"
AGAIN = "copy or download it again"
UNPACK = "unpack it, and give --weights the file in it"
HTML = b"<!DOCTYPE html><html><body>Sign in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 244408911\n"
INDEX = b'{"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}'

KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", f"is empty: {AGAIN}"),
    "zeros": (lambda: bytes(10_000), f"begins with nothing but zeros, as after a download that broke off: {AGAIN}"),
    "git lfs": (lambda: POINTER, "is a Git LFS pointer, not the weights: run git lfs pull"),
    "html": (lambda: HTML, "is a web page, perhaps one that says why a download failed: look into it"),
    "html later": (lambda: b"\xef\xbb\xbf\r\n\n  <HTML lang=en>", "is a web page"),
    "xml": (lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "text": (lambda: b"Not Found\r\nmore", "is text, which begins with 'Not Found': look into it"),
    "long text": (lambda: b"a" * 9999, f"is text, which begins with '{'a' * 40}': look into it"),
    "json": (lambda: b'{"error": "quota"}', """is text, which begins with '{"error": "quota"}': look into it"""),
    "index": (lambda: INDEX, "is the index of weights in several files: load them, and save one file with torch.save"),
    "gzip": (lambda: gzip.compress(saved(state())), f"is packed with gzip: {UNPACK}"),
    "bzip2": (lambda: bz2.compress(saved(state())), f"is packed with bzip2: {UNPACK}"),
    "xz": (lambda: lzma.compress(saved(state())), f"is packed with xz: {UNPACK}"),
    "zstd": (lambda: b"\x28\xb5\x2f\xfd\x04\x58" + bytes(99), f"is packed with zstd: {UNPACK}"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(99), f"is packed with 7-Zip: {UNPACK}"),
    "rar": (lambda: b"Rar!\x1a\x07\x01\x00" + bytes(99), f"is packed with RAR: {UNPACK}"),
    "tar": (lambda: tarred("weights.pth"), f"is a tar archive: {UNPACK}"),
    "tar.gz": (lambda: tarred("weights.pth", mode="w:gz"), f"is a tar archive: {UNPACK}"),
    "zip": (lambda: zipped("weights.pth"), f"is a zip archive, but not one of torch.save: {UNPACK}"),
    "empty zip": (zipped, "is a zip archive, but not one of torch.save: "),
    "mar": (lambda: zipped("MAR-INF/MANIFEST.json", "a.pth"), f"is a model archive of TorchServe: {UNPACK}"),
    "keras": (lambda: zipped("config.json", "model.weights.h5"), f"is a model of Keras: {OF_PYTORCH}"),
    "npz": (lambda: archived(lambda buffer: np.savez(buffer, a=np.ones(1))), "is an archive of NumPy arrays: "),
    "npy": (lambda: archived(lambda buffer: np.save(buffer, np.ones(1))), "is one NumPy array: "),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), f"is an HDF5 file, as Keras writes it: {OF_PYTORCH}"),
    "onnx": (onnx, f"is an ONNX model: {OF_PYTORCH}"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), f"is a TensorFlow Lite model: {OF_PYTORCH}"),
    "gguf": (lambda: b"GGUF\3\0\0\0" + bytes(99), f"is a GGUF file: {OF_PYTORCH}"),
    "noise": (lambda: b"\x07\xff\xfe" * 99, "is neither a file of torch.save nor a safetensors file, or is damaged: "),
    "one byte": (lambda: b"\x80", "is neither a file of torch.save nor a safetensors file, or is damaged: "),
    "half a zip": (lambda: saved(state())[:-99], f"is half a file of torch.save or half a zip archive: {AGAIN}"),
    "a start of one": (lambda: b"PK\3\4" * 99, f"is half a file of torch.save or half a zip archive: {AGAIN}"),
    "half an old one": (lambda: saved(state(), **OLD)[:-9], "is a file of torch.save that is damaged or not whole: "),
    "half safetensors": (lambda: safetensors()[:-4], "is a safetensors file that is damaged or not whole ("),
    "more safetensors": (lambda: safetensors() + b"more", "is a safetensors file that is damaged or not whole ("),
}


def safetensors() -> bytes:
    import safetensors.torch as library

    return library.save(state())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_file_of_another_kind_is_told_what_it_is(tmp_path: Path, kind: str, name: str) -> None:
    make, sentence = KINDS[kind]
    (tmp_path / name).write_bytes(make())
    assert refusal(tmp_path / name).startswith(sentence)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value", [{"a": 1}, [1], collections.OrderedDict(a=1), {"a": np.ones(1)}], ids=["dict", "list", "ordered", "array"]
)
def test_a_plain_pickle_is_not_loaded(tmp_path: Path, protocol: int, value: object) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    sentence = refusal(tmp_path / "a.pkl")
    assert sentence.startswith(
        "is a pickle that torch.save did not write, and loading it could execute anything: where"
    )


def test_a_pickle_of_another_protocol_is_told_so(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "a.pth", pickle_protocol=4)
    assert refusal(tmp_path / "a.pth").startswith(
        "was pickled in a way that cannot be read without executing it, or is"
    )


@pytest.mark.parametrize(
    ("inside", "sentence"),
    [
        (None, "is a folder: give --weights the file in it"),
        ("saved_model.pb", "is a TensorFlow SavedModel: "),
        ("zero_to_fp32.py", "is a checkpoint of DeepSpeed: run the zero_to_fp32.py in it"),
        (".metadata", "is a distributed checkpoint: make a file of it with python -m torch.distributed.checkpoint."),
        ("data.pkl", "is a file of torch.save that was unpacked: give --weights the file as it was"),
    ],
)
def test_a_folder_is_told_what_it_is(tmp_path: Path, inside: str | None, sentence: str) -> None:
    (tmp_path / "a").mkdir()
    if inside:
        (tmp_path / "a" / inside).touch()
    assert refusal(tmp_path / "a").startswith(sentence)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    assert refusal(tmp_path / "a.pth") == "is no file that can be read twice: give --weights a plain file"


@pytest.mark.parametrize("path", ["gone.pth", "gone/weights.pth", "file/weights.pth", "link"])
def test_what_is_not_there_is_told(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(PipelineError, match=f"^no weights at {tmp_path / path}: give --weights the path"):
        read_checkpoint(tmp_path / path, SHAPES)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch(mode=0)
    with pytest.raises(PipelineError, match=r"a\.pth: Permission denied: make it readable for you$"):
        read_checkpoint(tmp_path / "a.pth", SHAPES)


@pytest.mark.parametrize(
    ("url", "how"),
    [
        ("gs://bucket/a.pth", " (gcloud storage cp)"),
        ("https://host/a.pth", " (curl -fLO)"),
        ("HTTP://host/a.pth", " (curl -fLO)"),
        ("s3://bucket/a.pth", " (aws s3 cp)"),
        ("oci://host/a", ""),
    ],
)
def test_a_url_is_to_be_downloaded_first(url: str, how: str) -> None:
    with pytest.raises(PipelineError) as refused:
        load_weights(url, lambda *_: None)
    assert str(refused.value) == f"{url} is not on this machine: download it first{how}, and give --weights the file"


# --- What would execute something -------------------------------------------------------------------------------------


class Bomb:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


class Call:
    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Config(dict[str, Any]):
    """Such as omegaconf's: a class that only the training has."""


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(
    "around", [lambda bomb: {"a": bomb}, lambda bomb: bomb, lambda bomb: {"model": state(), "a": bomb}]
)
def test_what_would_execute_something_is_not_loaded(
    tmp_path: Path, options: dict[str, Any], around: Callable[[Bomb], object]
) -> None:
    target = tmp_path / "executed"
    torch.save(around(Bomb(target)), tmp_path / "a.pth", **options)
    assert refusal(tmp_path / "a.pth") == (
        "holds posix.mkdir, which loading it would call: do not load it, with any program"
    )
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists()  # it would have


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open, subprocess.run, os.system, sys.exit])
def test_calls_of_python_are_named(tmp_path: Path, function: Callable[..., Any]) -> None:
    torch.save({"model": state(), "a": Call(function, "1")}, tmp_path / "a.pth")
    assert "which loading it would call: do not load it, with any program" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "before 1.6"])
def test_parentheses_that_were_forgotten_are_no_attack(tmp_path: Path, options: dict[str, Any]) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.save(nn.Linear(3, 2).state_dict, tmp_path / "a.pth", **options)
    assert refusal(tmp_path / "a.pth") == (
        "holds a method of a module, as torch.save(model.state_dict, …) leaves it: save what it returns"
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_classes_beside_the_weights_are_named_and_the_line_leads_to_a_file_that_is_taken(
    tmp_path: Path, options: dict[str, Any], key: str
) -> None:
    """As Lightning's hyper_parameters have them."""
    file = tmp_path / "a.ckpt"
    torch.save({"epoch": 1, key: state(), "hyper_parameters": {"config": Config(lr=1)}}, file, **options)
    sentence = refusal(file)
    assert sentence.startswith(
        f"holds more than tensors and values ({Config.__module__}.Config), and loading it could execute anything: "
        "where you trust it, and its classes can be imported, run python -c "
    )
    assert follow(sentence, tmp_path).state.keys() == SHAPES.keys()


def follow(sentence: str, folder: Path) -> Any:
    """Runs what a line advises, and reads what comes out of it."""
    _, _, program = shlex.split(sentence.partition(" run ")[2].rpartition(", and give --weights that")[0])
    script = f"import sys; sys.path[:] = {sys.path!r}; {program}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=folder, check=True, timeout=60)
    return read_checkpoint(folder / "weights.pth", SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("wrap", [lambda module: module, nn.DataParallel], ids=["plain", "DataParallel"])
def test_a_whole_module_is_told_so_and_the_line_leads_to_a_file_that_is_taken(
    tmp_path: Path, options: dict[str, Any], wrap: Callable[[nn.Module], nn.Module]
) -> None:
    module = wrap(nn.Linear(3, 2))
    with warnings.catch_warnings(action="ignore"):
        torch.save(module, tmp_path / "a.pth", **options)
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    sentence = refusal(tmp_path / "a.pth")
    assert sentence.startswith(f"is a whole module ({name}) instead of its state dict, and loading one could execute")
    np.testing.assert_array_equal(follow(sentence, tmp_path).state["bias"], module.state_dict().popitem()[1].numpy())


@pytest.mark.slow
def test_torchscript_is_told_so_and_the_line_leads_to_a_file_that_is_taken(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.Linear(3, 2)), tmp_path / "a.pt")
    sentence = refusal(tmp_path / "a.pt")
    assert sentence.startswith("is TorchScript: run python -c ")
    assert follow(sentence, tmp_path).state.keys() == SHAPES.keys()


@pytest.mark.slow
def test_an_exported_program_is_told_so_and_the_line_leads_to_a_file_that_is_taken(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),))
    torch.export.save(program, tmp_path / "a.pt2")
    sentence = refusal(tmp_path / "a.pt2")
    assert sentence.startswith("is a program of torch.export, and loading one could execute anything: where you trust")
    assert follow(sentence, tmp_path).state.keys() == SHAPES.keys()


def before_0_2(values: dict[str, torch.Tensor]) -> bytes:
    """What torch.load of today still reads as such a file, where it may execute what is in it; nothing writes it."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> str | None:
            return next((str(key) for key, tensor in enumerate(values.values()) if tensor is value), None)

    numbers = range(len(values))
    storages, tensors, pickled = pickle.dumps(len(values)), pickle.dumps(len(values)), io.BytesIO()
    for key, tensor in zip(numbers, values.values(), strict=True):
        storages += pickle.dumps((100 + key, "cpu", torch.FloatStorage))
        storages += struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes()
        shape_and_stride = (*tensor.shape, *tensor.stride())
        tensors += pickle.dumps((key, 100 + key, "torch.FloatTensor"))
        tensors += struct.pack(f"<ii{len(shape_and_stride)}qq", tensor.dim(), 0, *shape_and_stride, 0)
    Pickler(pickled, 2).dump(values)
    members = {"sys_info": pickle.dumps({}), "pickle": pickled.getvalue(), "tensors": tensors}
    members["storages"] = storages + pickle.dumps([])
    return tarred(*members, contents=members)


@pytest.mark.slow
def test_a_file_of_pytorch_before_0_2_is_told_so_and_the_line_leads_to_a_file_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(before_0_2(dict(state())))
    sentence = refusal(tmp_path / "a.pth")
    assert sentence.startswith("was saved by PyTorch before 0.2, as a tar archive, and loading that could execute")
    assert follow(sentence, tmp_path).state.keys() == SHAPES.keys()


SPREAD = """
import torch
from torch.distributed.tensor import DeviceMesh, distribute_tensor
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
torch.save({"weight": distribute_tensor(torch.ones(2, 3), DeviceMesh("cpu", [0]))}, "a.pth")
torch.distributed.destroy_process_group()
"""
READ = """
from pathlib import Path
from pipeline.artefact.checkpoint import read_checkpoint
read_checkpoint(Path("a.pth"), {"weight": (2, 3)})
"""


@pytest.mark.slow
def test_tensors_that_are_spread_over_processes_are_told_so(tmp_path: Path, importable: dict[str, str]) -> None:
    """In processes of their own: who has imported those tensors may load them."""
    python = [sys.executable, "-W", "ignore", "-P", "-c"]
    subprocess.run([*python, SPREAD], cwd=tmp_path, check=True, timeout=60)
    done = subprocess.run([*python, READ], cwd=tmp_path, env=importable, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1].startswith(
        "pipeline.shared.errors.NoStateDict: a.pth holds tensors that are spread over processes (DTensor): save them"
    )


def test_a_torch_package_is_told_so(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"), PackageExporter(tmp_path / "a.pt") as exporter:
        exporter.save_pickle("model", "model.pkl", {"a": 1})
    assert refusal(tmp_path / "a.pt").startswith("is a torch.package, and loading one could execute anything: ")


@pytest.mark.slow
def test_names_that_shells_and_python_read_survive(tmp_path: Path) -> None:
    file = tmp_path / 'it\'s $HOME "ü".pth'
    torch.save({"state_dict": state(), "args": argparse.Namespace(config=Config())}, file)
    assert follow(refusal(file), tmp_path).state.keys() == SHAPES.keys()
