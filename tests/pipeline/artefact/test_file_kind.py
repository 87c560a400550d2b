"""Errors for files without weights, or with other kinds of weights: what they are, and what to do."""

from __future__ import annotations

import bz2
import collections
import gzip
import io
import lzma
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.artefact.checkpoint import read_checkpoint
from pipeline.artefact.weights import load_weights
from pipeline.shared.errors import PipelineError
from tests.pipeline.artefact.weight_files import OLD, SHAPES, archived, refusal, saved, state, tarred

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


def zipped(*names: str) -> bytes:
    def pack(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, b"content")

    return archived(pack)


def onnx() -> bytes:
    """Fields of ModelProto: ir_version, producer_name, graph, opset_import; in the order of PyTorch's exporter."""
    graph = b"\x0a\x03abc" * 100
    return b"\x08\x08\x12\x07pytorch\x1a\x032.1\x3a" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph


OF_PYTORCH = "--weights needs a PyTorch file: use torch.save(model.state_dict(), …) where the model was trained"
AGAIN = "copy or download it again"
UNPACK = "unpack it, and give --weights the file in it"
HTML = b"<!DOCTYPE html><html><body>Sign in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 244408911\n"
INDEX = b'{"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}'

KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", f"is empty: {AGAIN}"),
    "zeros": (lambda: bytes(10_000), f"begins with only zeros, as after an interrupted download: {AGAIN}"),
    "git lfs": (lambda: POINTER, "is a Git LFS pointer, not the weights: run git lfs pull"),
    "html": (lambda: HTML, "is a web page, perhaps about a failed download: look into it"),
    "html later": (lambda: b"\xef\xbb\xbf\r\n\n  <HTML lang=en>", "is a web page"),
    "xml": (lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "text": (lambda: b"Not Found\r\nmore", "is text that begins with 'Not Found': look into it"),
    "long text": (lambda: b"a" * 9999, f"is text that begins with '{'a' * 40}': look into it"),
    "json": (lambda: b'{"error": "quota"}', """is text that begins with '{"error": "quota"}': look into it"""),
    "index": (lambda: INDEX, "is an index of weights in several files: load them, and save one file with torch.save"),
    "gzip": (lambda: gzip.compress(saved(state())), f"is compressed with gzip: {UNPACK}"),
    "bzip2": (lambda: bz2.compress(saved(state())), f"is compressed with bzip2: {UNPACK}"),
    "xz": (lambda: lzma.compress(saved(state())), f"is compressed with xz: {UNPACK}"),
    "zstd": (lambda: b"\x28\xb5\x2f\xfd\x04\x58" + bytes(99), f"is compressed with zstd: {UNPACK}"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(99), f"is packed with 7-Zip: {UNPACK}"),
    "rar": (lambda: b"Rar!\x1a\x07\x01\x00" + bytes(99), f"is packed with RAR: {UNPACK}"),
    "tar": (lambda: tarred("weights.pth"), f"is a tar archive: {UNPACK}"),
    "tar.gz": (lambda: tarred("weights.pth", mode="w:gz"), f"is a tar archive: {UNPACK}"),
    "zip": (lambda: zipped("weights.pth"), f"is a zip archive, but not from torch.save: {UNPACK}"),
    "empty zip": (zipped, "is a zip archive, but not from torch.save: "),
    "mar": (lambda: zipped("MAR-INF/MANIFEST.json", "a.pth"), f"is a TorchServe model archive: {UNPACK}"),
    "keras": (lambda: zipped("config.json", "model.weights.h5"), f"is a Keras model: {OF_PYTORCH}"),
    "npz": (lambda: archived(lambda buffer: np.savez(buffer, a=np.ones(1))), "is an archive of NumPy arrays: "),
    "npy": (lambda: archived(lambda buffer: np.save(buffer, np.ones(1))), "is one NumPy array: "),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), f"is an HDF5 file, such as Keras writes: {OF_PYTORCH}"),
    "onnx": (onnx, f"is an ONNX model: {OF_PYTORCH}"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), f"is a TensorFlow Lite model: {OF_PYTORCH}"),
    "gguf": (lambda: b"GGUF\3\0\0\0" + bytes(99), f"is a GGUF file: {OF_PYTORCH}"),
    "noise": (lambda: b"\x07\xff\xfe" * 99, "is neither a torch.save file nor a safetensors file, or is damaged: "),
    "one byte": (lambda: b"\x80", "is neither a torch.save file nor a safetensors file, or is damaged: "),
    "half a zip": (lambda: saved(state())[:-99], f"is an incomplete torch.save file or zip archive: {AGAIN}"),
    "a start of one": (lambda: b"PK\3\4" * 99, f"is an incomplete torch.save file or zip archive: {AGAIN}"),
    "half an old one": (lambda: saved(state(), **OLD)[:-9], "is a damaged or incomplete torch.save file: "),
    "half safetensors": (lambda: safetensors()[:-4], "is a damaged or incomplete safetensors file ("),
    "more safetensors": (lambda: safetensors() + b"more", "is a damaged or incomplete safetensors file ("),
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
    assert sentence.startswith("is a pickle that torch.save did not write, and loading it could execute anything: if")


def test_a_pickle_of_another_protocol_is_told_so(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "a.pth", pickle_protocol=4)
    assert refusal(tmp_path / "a.pth").startswith("is a pickle that cannot be read without executing it, or is")


@pytest.mark.parametrize(
    ("inside", "sentence"),
    [
        (None, "is a folder: give --weights the file in it"),
        ("saved_model.pb", "is a TensorFlow SavedModel: "),
        ("zero_to_fp32.py", "is a DeepSpeed checkpoint: run the zero_to_fp32.py in it"),
        (".metadata", "is a distributed checkpoint: convert it to a file with python -m torch.distributed.checkpoint."),
        ("data.pkl", "is an unpacked torch.save file: give --weights the original file"),
    ],
)
def test_a_folder_is_told_what_it_is(tmp_path: Path, inside: str | None, sentence: str) -> None:
    (tmp_path / "a").mkdir()
    if inside:
        (tmp_path / "a" / inside).touch()
    assert refusal(tmp_path / "a").startswith(sentence)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    assert (
        refusal(tmp_path / "a.pth") == "is not a regular file, which can be read twice: give --weights a regular file"
    )


@pytest.mark.parametrize("path", ["gone.pth", "gone/weights.pth", "file/weights.pth", "link"])
def test_what_is_not_there_is_told(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(PipelineError, match=f"^no weights at {tmp_path / path}: give --weights the path"):
        read_checkpoint(tmp_path / path, SHAPES)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch(mode=0)
    with pytest.raises(PipelineError, match=r"a\.pth: Permission denied: give yourself read permission$"):
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
