"""The folder that is served, as scripts/publish.sh has published it: settings, which name an archive, and a store."""

from __future__ import annotations

import json
import os
import re
import zipfile
from contextlib import suppress
from pathlib import Path

from ts.model_server import load_properties

from server.errors import NotServed

CONFIG = "config/config.properties"
STORE = "model-store"
ARCHIVE = re.compile(r"[\w.-]+\.mar", re.ASCII)
NAME = re.compile(r"[\w.-]+", re.ASCII)
MANIFEST = "MAR-INF/MANIFEST.json"
MOST_MANIFEST_BYTES = 65_536  # of a few hundred: an archive could unpack it to any size
BY_ENVIRONMENT = "enable_envvars_config"


class Folder:
    """Raises NotServed where the settings cannot be read, or do not name one archive of the store."""

    def __init__(self, root: Path) -> None:
        self.config, self.store = root / CONFIG, root / STORE
        try:
            self._properties: dict[str, str] = load_properties(str(self.config))
        except OSError as error:
            raise NotServed(
                f"{error.filename}: {error.strerror}: {root} should hold what scripts/publish.sh published"
            ) from None
        except UnicodeDecodeError:
            raise NotServed(f"{self.config} is not text: publish it again") from None
        self._archive = self._setting("load_models")
        if not ARCHIVE.fullmatch(self._archive):
            raise NotServed(f"{self.config}: load_models={self._archive} is not the name of one file NAME.mar")

    @property
    def archive(self) -> str:
        """Its path below the root: `model-store/NAME.mar`."""
        return f"{STORE}/{self._archive}"

    @property
    def route(self) -> str:
        """The path of predict calls. TorchServe calls a model as its archive does."""
        name = self._archive.removesuffix(".mar")
        with suppress(Exception):  # damage has many names, and TorchServe says in its log what is wrong
            with zipfile.ZipFile(self.store / self._archive) as archive, archive.open(MANIFEST) as manifest:
                said = json.loads(manifest.read(MOST_MANIFEST_BYTES))["model"]["modelName"]
            name = said if NAME.fullmatch(said) else name
        return f"/v1/models/{name}:predict"

    @property
    def port(self) -> int:
        """Where TorchServe will answer them. Raises NotServed where the settings do not say."""
        address = self._setting("inference_address")
        try:
            return int(address.rpartition(":")[2])
        except ValueError:
            raise NotServed(f"{self.config}: inference_address={address} has no port") from None

    @property
    def vmargs(self) -> list[str]:
        """For the JVM."""
        return self._properties.get("vmargs", "").split()

    def _setting(self, name: str) -> str:
        """As TorchServe takes it: from the environment, where the file allows that, or from the file."""
        said = self._properties.get(name, "")
        return os.environ.get(f"TS_{name.upper()}", said) if self._properties.get(BY_ENVIRONMENT) == "true" else said
