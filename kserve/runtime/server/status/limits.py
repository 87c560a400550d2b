"""The limits of a request, from the archive's model-config.yaml, which the handler uses too, and from its classes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml

CONFIG, CLASSES = "model-config.yaml", "classes.json"
V2 = "vision/protocol/v2.py"
# Usually a few thousand, and a megabyte for 20,000 classes; an archive could unpack them to any size.
MOST_CONFIG_BYTES, MOST_CLASSES_BYTES = 65_536, 16 * 1024 * 1024
ANSWER_BYTES = 1_040_000  # the most in one answer, as in vision/worker/settings.py


def read_limits(archive: Path | None) -> Mapping[str, int]:
    """The whole numbers in `handler.limits`, by name; empty if they cannot be read.

    In addition: `classes`, the number that the model has, and `given`, the most that one image can get. `default_top_k`
    is limited to that, and `max_classes` to what fits into an answer. An older archive has its classes in another file;
    then nothing that depends on them is stated.
    """
    limits: dict[str, int] = {}
    # Damage raises many exceptions, and TorchServe logs what is wrong.
    with suppress(Exception), zipfile.ZipFile(archive or "") as entries:
        said = yaml.safe_load(_read(entries, CONFIG, MOST_CONFIG_BYTES))["handler"]["limits"]
        limits |= {name: value for name, value in said.items() if type(value) is int}
        classes = json.loads(_read(entries, CLASSES, MOST_CLASSES_BYTES))
        given = min(len(classes), limits["max_top_k"])
        most = min(limits["max_classes"], ANSWER_BYTES // _class_bytes(classes), limits["max_instances"] * given)
        limits |= {"classes": len(classes), "given": given, "max_classes": most}
        limits |= {"default_top_k": min(given, limits["default_top_k"])}
    return limits


def answers_v1_alone(archive: Path | None) -> bool:
    """Whether its handler is older than KServe v2 and explanations; False if it cannot be read."""
    with suppress(Exception), zipfile.ZipFile(archive or "") as entries:
        return V2 not in entries.namelist()
    return False


def _read(entries: zipfile.ZipFile, name: str, most: int) -> bytes:
    with entries.open(name) as file:
        return file.read(most)


def _class_bytes(classes: list[tuple[str | None, str]]) -> int:
    """The same as `class_bytes` in vision/protocol/protocols.py."""
    wnid = next((wnid for wnid, _ in classes if wnid), None)
    label = max((label for _, label in classes), key=lambda label: len(json.dumps(label)))
    names = {"label": label} if wnid is None else {"wnid": wnid, "label": label}
    written = {"index": len(classes), **names, "probability": 1.23456e-38}
    v1 = len(json.dumps(written, separators=(",", ":"))) + 1
    longest = max(len(label.encode()) for _, label in classes)
    over_grpc = (longest + 2) // 3 * 4 + len(str(len(classes))) + len('"","",-1.23456789e-45,')
    return max(v1, over_grpc)
