"""What a request may ask for at most: the archive's model-config.yaml knows, by which the handler goes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml

CONFIG = "model-config.yaml"
MOST_CONFIG_BYTES = 65_536  # of a few thousand: an archive could unpack it to any size


def read_limits(archive: Path | None) -> Mapping[str, int]:
    """The whole numbers of `handler.limits`, by their names there; empty where there are none that can be read."""
    if archive is None:
        return {}
    with suppress(Exception):  # damage has many names, and TorchServe says in its log what is wrong
        with zipfile.ZipFile(archive) as entries, entries.open(CONFIG) as config:
            limits = yaml.safe_load(config.read(MOST_CONFIG_BYTES))["handler"]["limits"]
        return {name: value for name, value in limits.items() if type(value) is int}
    return {}
