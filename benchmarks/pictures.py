"""The data to send: photographs of 500×375 and of 12 megapixels, made from the tests' photographs, and request bodies.

The photographs are parts of the originals, scaled, with grain like a sensor's, so that the JPEG files have realistic
sizes. Every run makes the same ones.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.places import IMAGES, PHOTOGRAPHS

SEED = 6


@dataclass(frozen=True)
class Kind:
    """name; width and height in pixels; how many different ones; the grain's standard deviation; JPEG quality."""

    name: str
    width: int
    height: int
    count: int
    grain: float
    quality: int


SMALL = Kind("500x375", 500, 375, count=24, grain=4.0, quality=90)
LARGE = Kind("4000x3000", 4000, 3000, count=16, grain=6.0, quality=90)
# Only for packaging with int8.
CALIBRATION = Kind("320x240", 320, 240, count=20, grain=4.0, quality=90)

# How an instance holds its base64: as in KServe's example; and as TorchServe's stock image_classifier reads it.
FORMS: dict[str, Callable[[str], dict[str, Any]]] = {
    "image": lambda text: {"image": {"b64": text}},
    "data": lambda text: {"data": text},
}


def files(kind: Kind) -> list[Path]:
    """The photographs of a kind, made on first use."""
    directory = IMAGES / kind.name
    if not directory.is_dir():
        part = IMAGES / f".{kind.name}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for number, jpeg in enumerate(_jpegs(kind)):
            (part / f"{number:02}.jpg").write_bytes(jpeg)
        part.rename(directory)
    return sorted(directory.glob("*.jpg"))


def bodies(kind: Kind, form: str = "image", instances: int = 1) -> Path:
    """A folder of request bodies, one for each photograph of a kind; with more than one instance, a single body."""
    photographs = files(kind)
    directory = IMAGES / f"{kind.name}-{form}-{instances}"
    if not directory.is_dir():
        part = IMAGES / f".{directory.name}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for number in range(len(photographs) if instances == 1 else 1):
            chosen = [photographs[(number + place) % len(photographs)] for place in range(instances)]
            (part / f"{number:02}.json").write_bytes(body([file.read_bytes() for file in chosen], form))
        part.rename(directory)
    return directory


def v2_bodies(kind: Kind, binary: bool) -> Path:
    """The same in KServe v2: base64 in its JSON, or bytes after it; a file's name then has the JSON's length."""
    directory = IMAGES / f"{kind.name}-v2-{'binary' if binary else 'json'}"
    if not directory.is_dir():
        part = IMAGES / f".{directory.name}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for number, file in enumerate(files(kind)):
            content, length = v2_body(file.read_bytes(), binary)
            (part / (f"{number:02}-{length}.v2" if binary else f"{number:02}.json")).write_bytes(content)
        part.rename(directory)
    return directory


def v2_body(image: bytes, binary: bool) -> tuple[bytes, int]:
    """An image file → a KServe v2 request, and how many bytes of it are JSON."""
    tensor: dict[str, Any] = {"name": "images", "datatype": "BYTES", "shape": [1]}
    if not binary:
        document = json.dumps({"inputs": [{**tensor, "data": [base64.b64encode(image).decode()]}]}).encode()
        return document, len(document)
    tensor["parameters"] = {"binary_data_size": 4 + len(image)}
    document = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return document + struct.pack("<I", len(image)) + image, len(document)


def body(images: list[bytes], form: str = "image") -> bytes:
    """Image files → a KServe v1 request."""
    instances = [FORMS[form](base64.b64encode(image).decode()) for image in images]
    return json.dumps({"instances": instances}).encode()


def sizes(kind: Kind) -> dict[str, int]:
    """Bytes of the JPEG files: how many there are, the smallest, the median, the largest."""
    ordered = sorted(file.stat().st_size for file in files(kind))
    return {
        "images": len(ordered),
        "smallest": ordered[0],
        "median": ordered[len(ordered) // 2],
        "largest": ordered[-1],
    }


def _jpegs(kind: Kind) -> Iterator[bytes]:
    random = np.random.Generator(np.random.PCG64(SEED))
    originals = [Image.open(photograph).convert("RGB") for photograph in PHOTOGRAPHS]
    for number in range(kind.count):
        part = _part(originals[number % len(originals)], kind.width / kind.height, random)
        scaled = part.resize((kind.width, kind.height), Image.Resampling.BICUBIC)
        grain = random.standard_normal((kind.height, kind.width, 1), dtype=np.float32) * kind.grain
        pixels = (np.asarray(scaled, dtype=np.float32) + grain).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=kind.quality)
        yield buffer.getvalue()


def _part(original: Image.Image, ratio: float, random: np.random.Generator) -> Image.Image:
    """A part with this ratio of width to height, from six tenths to all of the largest possible."""
    share = random.uniform(0.6, 1)
    width = share * min(original.width, original.height * ratio)
    height = width / ratio
    left, top = random.uniform(0, original.width - width), random.uniform(0, original.height - height)
    return original.crop((round(left), round(top), round(left + width), round(top + height)))
