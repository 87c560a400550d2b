"""Downloads a newer Netty than the one in TorchServe's jar: netty.json's jars, from Maven Central or a mirror.

    python kserve/runtime/netty.py FOLDER    the folder where the server looks: server/torchserve.py

The image's build runs this, and fails if this fails. `make setup` runs it too, and goes on without the newer Netty.
MAVEN_MIRROR_URL names another Maven repository; Python's settings for proxies and certificates apply (https_proxy,
SSL_CERT_FILE). Needs only Python 3.11 and its standard library.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import platform
import shutil
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).with_name("netty.json")
CENTRAL = "https://repo1.maven.org/maven2"
MIRROR = "MAVEN_MIRROR_URL"
TIMEOUT_S = 20
MOST_BYTES = 4 << 20  # the largest jar is 0.8 MB
NATIVE = "META-INF/native/"


class NotDownloaded(Exception):
    """Nothing was changed in the folder; the message says why."""


@dataclass(frozen=True)
class Jar:
    """machine: for a native library, its architecture, as `uname -m` names it; None for Java classes.

    in_place_of: the library in TorchServe's jar that it replaces.
    """

    artifact: str
    version: str
    machine: str | None
    sha256: str
    in_place_of: str

    @property
    def name(self) -> str:
        # Netty writes aarch_64.
        classifier = f"-linux-{self.machine.replace('aarch64', 'aarch_64')}" if self.machine else ""
        return f"{self.artifact}-{self.version}{classifier}.jar"

    @property
    def path(self) -> str:
        """In a Maven repository."""
        return f"io/netty/{self.artifact}/{self.version}/{self.name}"


def jars(data: Path = DATA) -> list[Jar]:
    """All of netty.json, for all machines."""
    told = json.loads(data.read_bytes())
    return [
        Jar(
            each["artifact"],
            told["version"],
            each.get("machine"),
            each["sha256"],
            each.get("in_place_of", each["artifact"]),
        )
        for each in told["jars"]
    ]


def download(folder: Path, wanted: list[Jar], repository: str) -> None:
    """Replaces a folder with the jars, and with the native libraries from their jars.

    Raises NotDownloaded if one cannot be downloaded or is a different file, OSError if the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".netty-", dir=folder.parent))
    try:
        for jar in wanted:
            content = _downloaded(f"{repository.rstrip('/')}/{jar.path}", jar.sha256)
            for name, inside in _native_libraries(content) if jar.machine else [(jar.name, content)]:
                (made / name).write_bytes(inside)
        made.chmod(0o755)
        old = made.with_name(f"{made.name}-old")
        if folder.exists():
            folder.rename(old)  # whole: the server takes whatever folder is there
        made.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _downloaded(url: str, sha256: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise NotDownloaded(f"{url}: not an address of a Maven repository: {MIRROR} is https://…")
    if "@" in urllib.parse.urlsplit(url).netloc:
        raise NotDownloaded(f"{MIRROR} must not contain credentials: they would be printed and logged")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  # nosec B310
            content: bytes = answer.read(MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:  # it is also the response
            raise NotDownloaded(f"{url}: the repository answered {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise NotDownloaded(f"{url}: {getattr(reason, 'strerror', None) or reason}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NotDownloaded(f"{url}: its SHA-256 is not the one in netty.json")
    return content


def _native_libraries(jar: bytes) -> Iterator[tuple[str, bytes]]:
    """Unpacked, since TorchServe's jar has others with the same names, and Netty refuses to choose."""
    with zipfile.ZipFile(io.BytesIO(jar)) as opened:
        for name in opened.namelist():
            if name.startswith(NATIVE) and name.endswith(".so"):
                yield name.rpartition("/")[2], opened.read(name)


def main() -> int:
    machine = platform.machine()
    wanted = [jar for jar in jars() if jar.machine in (None, machine)]
    if platform.system() != "Linux" or all(jar.machine is None for jar in wanted):
        print(f"TorchServe keeps its own Netty: for {platform.system()} on {machine}, netty.json has no newer one")
        return 0
    try:
        download(Path(sys.argv[1]), wanted, os.environ.get(MIRROR) or CENTRAL)
    except NotDownloaded as reason:
        print(f"error: {reason} ({MIRROR} names another Maven repository)", file=sys.stderr)
        return 1
    except OSError as reason:
        print(f"error: {reason.filename}: {reason.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
