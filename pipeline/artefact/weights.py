"""Where AlexNet's weights come from, whether they fit, and how they become one safetensors file.

Weights are a state dict: the names of torchvision's AlexNet → float32 arrays of the shapes below.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import numpy as np
from safetensors.numpy import save as serialize

from pipeline.artefact.file_kind import MOST_HEADER_BYTES
from pipeline.artefact.model import MODEL
from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import (
    DownloadFailed,
    DownloadUnderWay,
    MisfitWeights,
    PipelineError,
    ProxyUnusable,
    WeightsElsewhere,
    naming,
    told,
)
from pipeline.shared.http import http_client
from pipeline.shared.progress import Progress

SHAPES: dict[str, tuple[int, ...]] = {
    "features.0.weight": (64, 3, 11, 11),
    "features.0.bias": (64,),
    "features.3.weight": (192, 64, 5, 5),
    "features.3.bias": (192,),
    "features.6.weight": (384, 192, 3, 3),
    "features.6.bias": (384,),
    "features.8.weight": (256, 384, 3, 3),
    "features.8.bias": (256,),
    "features.10.weight": (256, 256, 3, 3),
    "features.10.bias": (256,),
    "classifier.1.weight": (4096, 9216),
    "classifier.1.bias": (4096,),
    "classifier.4.weight": (4096, 4096),
    "classifier.4.bias": (4096,),
    "classifier.6.weight": (1000, 4096),
    "classifier.6.bias": (1000,),
}

# Of the first sixty seeds, the one that gives photographs the most different classes and is still sure of them: then
# agreement with torchvision means something. (Of most random networks, two classes take turns by a hair.)
UNTRAINED_SEED = 15

URL = re.compile(r"(?!file:)([A-Za-z][A-Za-z0-9+.-]+)://")
DOWNLOADS = {
    "gs": "gcloud storage cp",
    "http": "curl -fLO",
    "https": "curl -fLO",
    "s3": "aws s3 cp",
    "hf": "hf download",
}

CHUNK_BYTES = 1024 * 1024
TIMEOUT = httpx.Timeout(30, connect=10)  # seconds, for each step of a download


@dataclass(frozen=True)
class Weights:
    """A state dict that fits AlexNet, and where it came from: `imagenet`, `untrained`, `file NAME` or
    `file NAME (PLACE IN IT)`. passed_over: the places of others in the file.
    """

    origin: str
    state: dict[str, np.ndarray]
    passed_over: tuple[str, ...] = ()

    @property
    def trained(self) -> bool:
        return self.origin != "untrained"


def load_weights(source: str, progress: Progress) -> Weights:
    """`imagenet`, `untrained` or the path of a file that torch.save or safetensors has made → Weights.

    Raises PipelineError where they cannot be had or do not fit AlexNet.
    """
    if source == "untrained":
        return Weights("untrained", untrained_state())
    if not source:  # of a variable in a shell, say; as a path it would be this folder
        raise PipelineError("--weights is empty: give it imagenet, untrained, or the path of a file")
    if url := URL.match(source):
        raise WeightsElsewhere(source, DOWNLOADS.get(url[1].lower()))
    from pipeline.artefact.checkpoint import read_checkpoint  # torch takes seconds, and is needed for files only

    file = imagenet_file(progress) if source == "imagenet" else Path(source)
    chosen = read_checkpoint(file, SHAPES)
    check_state(chosen.state, file)
    if source == "imagenet":
        return Weights("imagenet", chosen.state)
    place = f" ({chosen.place})" if chosen.place else ""
    name = "".join(letter if letter.isprintable() else "?" for letter in file.name)
    return Weights(f"file {name}{place}", chosen.state, tuple(chosen.passed_over))


def untrained_state(seed: int = UNTRAINED_SEED) -> dict[str, np.ndarray]:
    """Random weights from a fixed seed, scaled after He et al. (https://arxiv.org/abs/1502.01852): N(0, 2 / fan-in).

    The signal then keeps its size through the layers, and the logits spread. Biases are zero.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    state = {}
    for name, shape in SHAPES.items():
        if name.endswith("bias"):
            state[name] = np.zeros(shape, dtype=np.float32)
        else:
            fan_in = math.prod(shape[1:])
            state[name] = random.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / fan_in))
    return state


def read_state(file: Path) -> dict[str, np.ndarray]:
    """A file of weights → its arrays, as float32: what fits AlexNet, or comes closest to it. See checkpoint.py."""
    from pipeline.artefact.checkpoint import read_checkpoint  # torch takes seconds, and is needed for files only

    return read_checkpoint(file, SHAPES).state


def check_state(state: dict[str, np.ndarray], file: Path) -> None:
    """Raises MisfitWeights unless names, shapes and values are those of a usable AlexNet."""
    misfits = [f"{name} is missing" for name in SHAPES if name not in state]
    misfits += [f"{name} is not one of its weights" for name in state if name not in SHAPES]
    for name in SHAPES.keys() & state.keys():
        if state[name].shape != SHAPES[name]:
            misfits.append(f"{name} has shape {state[name].shape}, not {SHAPES[name]}")
        elif not np.isfinite(state[name]).all():
            misfits.append(f"{name} has values that are not finite")
    if misfits:
        raise MisfitWeights(file, misfits)


def to_safetensors(weights: Weights) -> bytes:
    """Weights → the bytes of a .safetensors file; equal weights give equal bytes.

    Its metadata says `weights` (their origin) and `sha256` (of the arrays' bytes, in the order of their names).
    """
    digest = hashlib.sha256()
    for name in sorted(weights.state):
        digest.update(weights.state[name].data)
    metadata = {"weights": weights.origin, "sha256": digest.hexdigest()}
    return _with_sorted_metadata(serialize(weights.state, metadata))


def read_metadata(file: IO[bytes]) -> dict[str, str]:
    """The metadata that `to_safetensors` wrote. Raises ValueError where it is not there."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(min(length, MOST_HEADER_BYTES)))["__metadata__"]
        return {"weights": str(metadata["weights"]), "sha256": str(metadata["sha256"])}
    except (struct.error, LookupError, TypeError, RecursionError) as error:
        raise ValueError("no weights of ours") from error


def _with_sorted_metadata(file: bytes) -> bytes:
    """safetensors writes its metadata in random order: the same length of header, with the keys in order."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    if len(ordered) != length:
        raise AssertionError("the safetensors header changed its length")
    return b"".join((file[:8], ordered, memoryview(file)[8 + length :]))


# --- The ImageNet weights and their cache -----------------------------------------------------------------------------


def imagenet_file(
    progress: Progress, url: str = MODEL.weights_url, sha256: str = MODEL.weights_sha256, cache: Path | None = None
) -> Path:
    """The ImageNet weights in the cache, downloaded first where they are missing or damaged.

    Raises WeightsUnavailable when they cannot be downloaded, are not what was published, or cannot be kept.
    """
    file = (cache or cache_directory()) / url.rsplit("/", 1)[1]
    try:
        if file.is_file() and sha256_of(file) == sha256:
            return file
        file.parent.mkdir(parents=True, exist_ok=True)
        with http_client(TIMEOUT) as client, naming(file), _part_file(file) as part:
            _download(client, url, part, progress)
            if sha256_of(Path(part.name)) != sha256:
                raise DownloadFailed(url, file, "what it sent is not the published file, a proxy may have changed it")
            os.replace(part.name, file)
    except httpx.HTTPStatusError as error:
        raise DownloadFailed(url, file, f"the server answered {error.response.status_code}") from None
    except (httpx.HTTPError, ProxyUnusable) as error:
        raise DownloadFailed(url, file, str(error) or type(error).__name__) from None
    except OSError as error:
        raise DownloadFailed(url, file, told(error)) from None
    return file


def cache_directory() -> Path:
    """The cache of torch.hub, which other tools share; see torch.hub.get_dir."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    torch_home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(torch_home).expanduser() / "hub" / "checkpoints"


@contextmanager
def _part_file(file: Path) -> Iterator[IO[bytes]]:
    """A file beside `file` to download into, for one process at a time; gone afterwards, however it ends."""
    with open(file.with_name(file.name + ".part"), "ab") as part:  # "wb" would empty it before the lock is held
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadUnderWay(file) from None
        if not _has_its_name(part):  # another process renamed it, and then gave up the lock: it is the weights by now
            raise DownloadUnderWay(file)
        part.seek(0)
        part.truncate()
        try:
            yield part
        finally:
            if _has_its_name(part):
                os.unlink(part.name)


def _has_its_name(opened: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), os.stat(opened.name))
    except FileNotFoundError:
        return False


def _download(client: httpx.Client, url: str, part: IO[bytes], progress: Progress) -> None:
    with client.stream("GET", url, follow_redirects=True) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0))
        so_far = 0
        for chunk in response.iter_bytes(CHUNK_BYTES):
            part.write(chunk)
            so_far += len(chunk)
            progress(so_far, total)
    part.flush()
