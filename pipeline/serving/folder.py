"""The folder that is served, in KServe's layout: config/config.properties, and one archive in model-store/.

kserve/runtime/server/folder.py finds the same archive in the serving image; a test holds the two together.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from ts.model_server import load_properties

from pipeline.shared.errors import DamagedArchive, NoArchive, PipelineError, SeveralArchives

CONFIG = Path("config", "config.properties")
STORE = "model-store"
ALL = "all"  # load_models if the settings name no archive: whatever is in the store


def archive_in(directory: Path) -> Path:
    """The archive that is served from a folder: the one that its settings name, or the only one there.

    Raises PipelineError unless it can be served.
    """
    config = directory / CONFIG
    if not config.is_file():
        raise PipelineError(f"no {config}: a directory to serve has config/config.properties and model-store/")
    try:
        named = load_properties(str(config)).get("load_models", ALL)  # KServe's own settings have a model_snapshot
    except UnicodeDecodeError:
        raise PipelineError(f"{config} is not text: publish it again") from None
    archive = only_archive(directory / STORE) if named.lower() == ALL else directory / STORE / named
    check_files(config, archive)
    return archive


def only_archive(store: Path) -> Path:
    """The archive in a folder with one. Raises NoArchive or SeveralArchives."""
    # The name of a half-written archive begins with a dot.
    found = sorted(path for path in store.glob("*.mar") if not path.name.startswith("."))
    if len(found) > 1:
        raise SeveralArchives(store, [path.name for path in found])
    if not found:
        raise NoArchive(store)
    return found[0]


def check_files(config: Path, archive: Path) -> None:
    """Raises PipelineError unless TorchServe can serve these."""
    if not config.is_file():
        raise PipelineError(f"no {config}: a directory to serve has config/config.properties and model-store/")
    if not archive.is_file():
        raise NoArchive(archive)
    if not zipfile.is_zipfile(archive):
        raise DamagedArchive(archive)
    if load_properties(str(config)).get("enable_envvars_config") != "true":
        raise PipelineError(f"{config} needs the line enable_envvars_config=true, or ports cannot be chosen")
