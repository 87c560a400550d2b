"""KServe v2's input → instances. There is one tensor with all images:

    BYTES [n] or [n, 1]           image files: base64 text in the JSON, or <u32 length><bytes> for each after it
    UINT8 [n, height, width, 3]   RGB pixels: numbers in the JSON, flat or nested, or bytes after it

Shapes are checked against the data before anything is built from it.
"""

from __future__ import annotations

import math
import struct
from itertools import chain

import numpy as np

from vision.errors import MalformedField, TooLarge
from vision.image.source import Element
from vision.protocol import top_k as classes
from vision.protocol.sent import Sent
from vision.worker.settings import Limits

INPUT = "inputs[0]"
EXPECTED = '{"name": "images", "datatype": "BYTES", "shape": [1], "data": ["…base64…"]}'
BYTES, UINT8 = "BYTES", "UINT8"
SHAPES = {BYTES: "[n] or [n, 1]", UINT8: "[n, height, width, 3]"}
MOST_DIMENSIONS = 4
LARGEST = 2**31 - 1  # size of a dimension; no body holds more
SIZE = "binary_data_size"
SHARED_MEMORY = "shared_memory"  # the prefix of Triton's parameters for it


def instances(sent: Sent, limits: Limits) -> tuple[list[object], list[str]]:
    """Instances for `locate_image`, and how to name each of them in an error.

    Raises RequestError: 400 for any other tensor, 413 for too many images.
    """
    tensor = _the_tensor(sent.fields.get("inputs"))
    datatype, shape = _datatype(tensor), _shape(tensor)
    expected = len(shape) == 4 and shape[3] == 3 if datatype == UINT8 else shape[1:] in ([], [1])
    if not expected:
        raise MalformedField(f"{INPUT}.shape", f"expected {SHAPES[datatype]} for {datatype}")
    if shape[0] > limits.max_instances:  # before making a place for each
        raise TooLarge(f"{INPUT}.shape", limits.max_instances, "images")
    raw, place = _raw(sent, tensor), sent.data_place
    found: list[object]
    if datatype == UINT8:
        content = _pixel_values(tensor["data"], shape, place) if raw is None else raw
        found = list(_pixels(content, shape, place))
    elif raw is None:
        found = [_element(value, f"{place}[{at}]") for at, value in enumerate(_flat(tensor["data"], shape, place))]
    else:
        found = list(map(Element, _elements(raw, shape[0], place)))
    return found, [f"{place}[{index}]" for index in range(shape[0])]


def parameters(owner: dict[str, object], place: str) -> dict[str, object]:
    """A tensor's parameters. Raises MalformedField (400), also for a parameter that belongs to the whole request."""
    found = owner.get("parameters")
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise MalformedField(f"{place}.parameters", "expected an object")
    if any(map(classes.is_like_top_k, [*owner, *found])):
        raise MalformedField(place, f"{classes.TOP_K} applies to all images: {classes.V2_BELONGS}")
    if any(name.startswith(SHARED_MEMORY) for name in found):
        raise MalformedField(f"{place}.parameters", "shared memory is not supported: send the data itself")
    return found


def _the_tensor(inputs: object) -> dict[str, object]:
    if not isinstance(inputs, list) or not inputs:
        raise MalformedField("inputs", f"expected a list of one tensor: {EXPECTED}")
    if len(inputs) > 1:
        raise MalformedField("inputs", f"expected one tensor with all images, not {len(inputs)}")
    tensor = inputs[0]
    if not isinstance(tensor, dict):
        raise MalformedField(INPUT, f"expected an object: {EXPECTED}")
    if not isinstance(tensor.get("name"), str):
        raise MalformedField(f"{INPUT}.name", "expected text")
    return tensor


def _datatype(tensor: dict[str, object]) -> str:
    datatype = tensor.get("datatype")
    if datatype not in (BYTES, UINT8):
        raise MalformedField(f"{INPUT}.datatype", "expected BYTES (image files) or UINT8 (RGB pixels)")
    return str(datatype)


def _shape(tensor: dict[str, object]) -> list[int]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MOST_DIMENSIONS:
        raise MalformedField(f"{INPUT}.shape", f"expected a list of 1 to {MOST_DIMENSIONS} integers")
    if not all(type(size) is int and 1 <= size <= LARGEST for size in shape):  # bool is an int too
        raise MalformedField(f"{INPUT}.shape", f"expected integers from 1 to {LARGEST}")
    return shape


def _raw(sent: Sent, tensor: dict[str, object]) -> memoryview | None:
    """The tensor's bytes, if they follow the JSON."""
    size, has_data = parameters(tensor, INPUT).get(SIZE), tensor.get("data") is not None
    place = f"{INPUT}.parameters.{SIZE}"
    if size is None:
        if not has_data:
            raise MalformedField(INPUT, f"has neither data nor {SIZE} in parameters (for bytes after the JSON)")
        if sent.behind:
            raise MalformedField(place, f"is missing, but {len(sent.behind)} bytes follow the JSON")
        return None
    if type(size) is not int or not 0 <= size <= LARGEST:
        raise MalformedField(place, "expected a number of bytes")
    if has_data:
        raise MalformedField(INPUT, f"has both data and {SIZE}")
    if sent.behind is None:
        raise MalformedField(place, "no bytes follow the JSON: Inference-Header-Content-Length is missing")
    if size != len(sent.behind):
        raise MalformedField(place, f"is {size}, but {len(sent.behind)} bytes follow the JSON")
    return sent.behind


def _flat(data: object, shape: list[int], place: str) -> list[object]:
    """The elements of a list that is flat or nested like the shape."""
    if not isinstance(data, list):
        raise MalformedField(place, "expected a list")
    values = data
    if len(shape) > 1 and data and isinstance(data[0], list):
        for depth, size in enumerate(shape[1:], 1):
            if not all(type(row) is list and len(row) == size for row in values):
                raise MalformedField(place, f"expected {size} values in each list at depth {depth}, as the shape says")
            values = list(chain.from_iterable(values))
    if len(values) != math.prod(shape):
        raise MalformedField(place, f"has {len(values)} values, but the shape says {math.prod(shape)}")
    return values


def _element(value: object, place: str) -> Element:
    if not isinstance(value, (str, bytes)):
        raise MalformedField(place, "expected base64 text")
    return Element(value)


def _elements(raw: memoryview, count: int, place: str) -> list[bytes]:
    """The elements of a BYTES tensor: each follows its length, a little-endian number of four bytes."""
    found, at = [], 0
    for index in range(count):
        if len(raw) - at < 4:
            raise MalformedField(f"{place}[{index}]", "is missing: the bytes end before it")
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4
        if size > len(raw) - at:
            raise MalformedField(f"{place}[{index}]", f"should have {size} bytes, but {len(raw) - at} are left")
        found.append(bytes(raw[at : at + size]))
        at += size
    if at < len(raw):
        raise MalformedField(place, f"{len(raw) - at} bytes follow the last element")
    return found


def _pixel_values(data: object, shape: list[int], place: str) -> bytes:
    values = _flat(data, shape, place)
    if set(map(type, values)) != {int}:  # bool is a different type
        raise MalformedField(place, "expected integers from 0 to 255")
    try:
        return bytes(values)  # type: ignore[arg-type]
    except ValueError:
        raise MalformedField(place, "expected integers from 0 to 255") from None


def _pixels(content: bytes | memoryview, shape: list[int], place: str) -> np.ndarray:
    """A view; nothing is copied."""
    if math.prod(shape) != len(content):
        raise MalformedField(place, f"has {len(content)} bytes, but the shape says {math.prod(shape)}")
    return np.frombuffer(content, np.uint8).reshape(shape)
