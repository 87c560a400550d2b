"""The folder to serve, as published by scripts/publish.sh: settings, and a store with one archive.

pipeline/serving/folder.py finds the same archive on a laptop; a test compares the two.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from contextlib import suppress
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ts.model_server import load_properties

from server.errors import NotServed

CONFIG = "config/config.properties"
DESCRIPTION = "version.json"
STORE = "model-store"
ARCHIVE = re.compile(r"[\w.-]+\.mar", re.ASCII)
ALL = "all"  # load_models without a name: whatever is in the store
NAME = re.compile(r"[\w.-]+", re.ASCII)
MANIFEST = "MAR-INF/MANIFEST.json"
MOST_MANIFEST_BYTES = 65_536  # usually a few hundred; an archive could unpack it to any size
MOST_DESCRIPTION_BYTES = 1_000_000
BY_ENVIRONMENT = "enable_envvars_config"


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int


METRICS = Address("127.0.0.1", 8082)  # TorchServe's own default


class Folder:
    """Raises NotServed if the settings cannot be read, or it is not clear which archive is meant.

    That is decided here, once: TorchServe gets the archive's name and never sees `all`, with which it would load
    anything that appears in the store, such as a second archive or a folder that nobody has signed.
    """

    def __init__(self, root: Path) -> None:
        self.config, self.store, self._description = root / CONFIG, root / STORE, root / DESCRIPTION
        try:
            self._properties: dict[str, str] = load_properties(str(self.config))
        except OSError as error:
            raise NotServed(
                f"{error.filename}: {error.strerror}: {root} should hold what scripts/publish.sh published"
            ) from None
        except UnicodeDecodeError:
            raise NotServed(f"{self.config} is not text: publish it again") from None
        self._archive = self._archive_of_snapshot() or self._setting("load_models")
        if self._archive.lower() == ALL:
            self._archive = self._only_archive()
        if not ARCHIVE.fullmatch(self._archive):
            raise NotServed(
                f"{self.config}: load_models={self._archive} is neither {ALL} nor the name of one file NAME.mar"
            )

    @property
    def archive_name(self) -> str:
        """`NAME.mar`, a file in the store."""
        return self._archive

    @property
    def archive(self) -> str:
        """Its path below the root: `model-store/NAME.mar`."""
        return f"{STORE}/{self._archive}"

    @property
    def obeys_the_environment(self) -> bool:
        """Whether TS_* variables override the settings."""
        return self._properties.get(BY_ENVIRONMENT) == "true"

    @property
    def route(self) -> str:
        """The path of predict calls."""
        return f"/v1/models/{self.model[0]}:predict"

    @cached_property
    def model(self) -> tuple[str, str]:
        """Its name, which TorchServe takes from the archive, and its version: the published one, if any."""
        name, version = self._archive.removesuffix(".mar"), ""
        with suppress(Exception):  # damage raises many exceptions, and TorchServe logs what is wrong
            with zipfile.ZipFile(self.store / self._archive) as archive, archive.open(MANIFEST) as manifest:
                said = json.loads(manifest.read(MOST_MANIFEST_BYTES))["model"]
            name = said["modelName"] if NAME.fullmatch(said["modelName"]) else name
            version = said["modelVersion"] if NAME.fullmatch(said["modelVersion"]) else version
        with (
            suppress(OSError, ValueError, LookupError, TypeError, RecursionError),
            open(self._description, "rb") as file,
        ):
            published = json.loads(file.read(MOST_DESCRIPTION_BYTES))["version"]
            version = published if NAME.fullmatch(published) else version
        return name, version

    @property
    def inference(self) -> Address:
        """Where requests are answered. Raises NotServed if the settings do not say."""
        return self._address("inference_address")

    @property
    def metrics(self) -> Address:
        """Where Prometheus reads. Raises NotServed if the address is invalid."""
        return self._address("metrics_address") if self._setting("metrics_address") else METRICS

    @property
    def vmargs(self) -> list[str]:
        """For the JVM."""
        return self._properties.get("vmargs", "").split()

    def _only_archive(self) -> str:
        """The only archive that TorchServe would see. It ignores hidden files, such as half-written ones."""
        try:
            found = sorted(name for name in os.listdir(self.store) if name.endswith(".mar") and name[0] != ".")
        except OSError as error:
            raise NotServed(f"{self.store}: {error.strerror}: publish an archive there") from None
        if len(found) != 1:
            which = f"more than one archive ({', '.join(found)})" if found else "no archive NAME.mar"
            raise NotServed(f"{self.store} has {which}, but load_models={ALL} needs one: publish a version with one")
        if not (self.store / found[0]).is_file():
            raise NotServed(f"{self.store / found[0]} is not a file: publish it again")
        return found[0]

    def _archive_of_snapshot(self) -> str:
        """The archive named in model_snapshot, where KServe's settings have it and TorchServe looks first; else empty.

        Only the file counts: TorchServe does not read this setting from the environment.
        """
        with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
            models = json.loads(self._properties.get("model_snapshot") or "{}")["models"].values()
            names = {version["marName"] for versions in models for version in versions.values()}
            return ",".join(sorted(names))
        return ""

    def _address(self, name: str) -> Address:
        said = self._setting(name)
        with suppress(ValueError):
            parsed = urlsplit(said)
            host = "127.0.0.1" if parsed.hostname == "localhost" else str(ip_address(parsed.hostname or ""))
            if parsed.scheme == "http" and parsed.port:
                return Address(host, parsed.port)
        raise NotServed(f"{self.config}: {name}={said} is not an IP address with a port, such as http://0.0.0.0:8080")

    def _setting(self, name: str) -> str:
        """As TorchServe reads it: from the environment, if the file allows that, or from the file."""
        said = self._properties.get(name, "")
        return os.environ.get(f"TS_{name.upper()}", said) if self.obeys_the_environment else said
