"""API keys: a folder with a file for each client → a file that Envoy reads again whenever it is replaced.

The folder is a Secret that is mounted. Kubernetes changes it while the pod runs, by a link; elsewhere the files
themselves change. So the folder is read every two seconds, and what was found is compared. No key is ever in a log,
nor in a file that others may read.
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
CLIENT = "x-api-client"  # envoy.yaml counts by it; no client can set it, since the filter writes over it
READ_EVERY_S = 2
# What a header takes, and what nobody guesses.
KEY = re.compile(r"[\x21-\x7e]{16,512}")
CLIENT_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
MOST_BYTES = 1024


class ApiKeys:
    """Keeps the file up to date. Where the folder is empty, or cannot be read, nobody may ask."""

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
            except OSError as error:  # a full disk, for one: Envoy goes on with what it has, and the next look may do
                log.say("ERROR", f"API_KEYS: a change could not be taken up ({error.strerror}): it will be tried again")

    def look(self) -> None:
        """Takes up what has changed. Raises OSError where the file cannot be written."""
        keys, faults = read(self._folder)
        if (keys, faults) == self._known:
            return
        self._write(keys)
        self._known = keys, faults
        for fault in sorted(faults):
            log.say("WARNING", f"API_KEYS: {fault}")
        if keys:
            log.say("INFO", f"API_KEYS: {len(keys)} clients may ask")
        else:
            log.say("WARNING", "API_KEYS: there is no key, so nobody may ask")

    def _write(self, keys: Mapping[str, str]) -> None:
        """Under another name first: Envoy never sees half of it, and hears of it by the renaming."""
        new = self._file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(discovery(keys), file)
        new.rename(self._file)


def read(folder: Path) -> tuple[dict[str, str], frozenset[str]]:
    """A folder → client and key, and sentences about what is not taken, which name the client and never the key."""
    keys: dict[str, str] = {}
    faults: set[str] = set()
    try:
        # Kubernetes' own entries are ..data and the like.
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return {}, frozenset({f"the folder cannot be read ({error.strerror})"})
    for name in names:
        try:
            if not stat.S_ISREG(os.stat(folder / name).st_mode):  # a pipe would keep us waiting
                faults.add(f"{_shown(name)} is no file")
                continue
            with open(folder / name, "rb") as file:
                key = file.read(MOST_BYTES).decode("ascii", "replace").strip()
        except FileNotFoundError:
            continue  # it goes at this moment
        except OSError as error:
            faults.add(f"{_shown(name)} cannot be read ({error.strerror})")
            continue
        if not CLIENT_NAME.fullmatch(name):
            faults.add(f"{_shown(name)} is not the name of a client: letters, digits, '.', '_' and '-' are")
        elif not KEY.fullmatch(key):
            faults.add(f"the key of {name} is not taken: 16 to 512 characters of ASCII without spaces are expected")
        elif key in keys.values():
            # Envoy would refuse them all, and go on with those that it had.
            faults.add(f"the key of {name} is not taken: another client has it")
        else:
            keys[name] = key
    return keys, frozenset(faults)


def discovery(keys: Mapping[str, str]) -> dict[str, object]:
    """The filter and its keys, as Envoy's extension config discovery reads it."""
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
