"""API keys: a folder with one file per client → a file that Envoy reloads whenever it is replaced.

The folder is a mounted Secret. Kubernetes updates it while the pod runs, by switching a link; elsewhere the files
themselves change. So the folder is read every two seconds and compared with the previous state. Keys never appear in a
log or in a file that others may read.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from server import log

FILE = "api-keys.json"
FILTER = "api_keys"
HEADER = "x-api-key"
CLIENT = "x-api-client"  # envoy.yaml counts by it; clients cannot set it, because the filter overwrites it
READ_EVERY_S = 2
# Fits into a header, and is too long to guess.
KEY = re.compile(r"[\x21-\x7e]{16,512}")
CLIENT_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
MOST_BYTES = 1024


class ApiKeys:
    """Keeps the file up to date. If the folder is empty or cannot be read, nobody may call."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        """scratch: the server's own folder. Writes the file."""
        self._folder, self._file = folder, scratch / FILE
        self._known: tuple[Mapping[str, str], frozenset[str]] | None = None
        self.look()

    def look_now_and_then(self) -> None:
        while True:
            time.sleep(READ_EVERY_S)
            try:
                self.look()
            except OSError as error:  # such as a full disk: Envoy keeps its keys, and the next attempt may succeed
                log.say("ERROR", f"API_KEYS: a change could not be applied ({error.strerror}): it will be retried")

    def look(self) -> None:
        """Applies changes. Raises OSError if the file cannot be written."""
        keys, faults = read(self._folder)
        if (keys, faults) == self._known:
            return
        self._write(keys)
        self._known = keys, faults
        for fault in sorted(faults):
            log.say("WARNING", f"API_KEYS: {fault}")
        if keys:
            log.say("INFO", f"API_KEYS: {len(keys)} clients may call")
        else:
            log.say("WARNING", "API_KEYS: there is no key, so nobody may call")

    def _write(self, keys: Mapping[str, str]) -> None:
        """Writes under a temporary name first: Envoy never sees half a file, and notices the renaming."""
        new = self._file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(discovery(keys), file)
        new.rename(self._file)


def read(folder: Path) -> tuple[dict[str, str], frozenset[str]]:
    """A folder → keys by client, and sentences about rejected files, which name the client but never the key."""
    keys: dict[str, str] = {}
    faults: set[str] = set()
    try:
        # Kubernetes' own entries are ..data and the like.
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return {}, frozenset({f"the folder cannot be read ({error.strerror})"})
    for name in names:
        try:
            if not stat.S_ISREG(os.stat(folder / name).st_mode):  # a pipe would block us
                faults.add(f"{_shown(name)} is not a file")
                continue
            with open(folder / name, "rb") as file:
                key = file.read(MOST_BYTES).decode("ascii", "replace").strip()
        except FileNotFoundError:
            continue  # it is being removed
        except OSError as error:
            faults.add(f"{_shown(name)} cannot be read ({error.strerror})")
            continue
        if not CLIENT_NAME.fullmatch(name):
            faults.add(f"{_shown(name)} is not a client's name, which may have letters, digits, '.', '_' and '-'")
        elif not KEY.fullmatch(key):
            faults.add(f"the key of {name} is rejected: expected 16 to 512 ASCII characters without spaces")
        elif key in keys.values():
            # Envoy would reject the whole file and keep the old keys.
            faults.add(f"the key of {name} is rejected: another client has the same")
        else:
            keys[name] = key
    return keys, frozenset(faults)


def discovery(keys: Mapping[str, str]) -> dict[str, object]:
    """The filter and its keys, in the format of Envoy's extension config discovery."""
    package = "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3"
    auth = {
        "@type": f"{package}.ApiKeyAuth",
        "credentials": [{"key": key, "client": client} for client, key in keys.items()],
        "key_sources": [{"header": HEADER}],
        "forwarding": {"header": CLIENT, "hide_credentials": True},
    }
    resource = {
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": FILTER,
        "typed_config": auth,
    }
    return {"resources": [resource]}


def _shown(name: str) -> str:
    return ascii(name[:100])
