"""Brings the Netty that comes before the one in TorchServe's jar: netty.json's jars, from Maven Central or a mirror.

    python kserve/runtime/netty.py FOLDER    the folder that the server looks into: server/torchserve.py

The image's build runs this, and fails where this fails. `make setup` does too, and goes on with TorchServe's own Netty.
MAVEN_MIRROR_URL names another Maven repository; proxies and certificates are found as Python finds them (https_proxy,
SSL_CERT_FILE). Needs nothing but the standard library, and Python 3.11.
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
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).with_name("netty.json")
CENTRAL = "https://repo1.maven.org/maven2"
MIRROR = "MAVEN_MIRROR_URL"
TIMEOUT_S = 20
MOST_BYTES = 4 << 20  # the largest jar has 0.8 MB
NATIVE = "META-INF/native/"


class NotBrought(Exception):
    """Nothing was changed in the folder; the sentence says why."""


@dataclass(frozen=True)
class Jar:
    """machine: of which native library this is the jar, as `uname -m` names it; None: Java alone, for every machine.

    in_place_of: the library in TorchServe's jar whose classes Java does not come to any more.
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


def bring(folder: Path, wanted: list[Jar], repository: str) -> None:
    """Puts the jars, and native libraries out of their jars, into a folder of their own, in place of what was there.

    Raises NotBrought where one cannot be downloaded or is another, OSError where the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".netty-", dir=folder.parent))
    try:
        for jar in wanted:
            content = _downloaded(f"{repository.rstrip('/')}/{jar.path}", jar.sha256)
            for name, inside in _native_libraries(content) if jar.machine else [(jar.name, content)]:
                (made / name).write_bytes(inside)
        made.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _downloaded(url: str, sha256: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise NotBrought(f"{url}: not an address of a Maven repository: {MIRROR} is https://…")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  # nosec B310
            content: bytes = answer.read(MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:  # it is the answer as well
            raise NotBrought(f"{url}: the repository answered {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise NotBrought(f"{url}: {getattr(reason, 'strerror', None) or reason}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NotBrought(f"{url}: not the file that netty.json knows, by its SHA-256")
    return content


def _native_libraries(jar: bytes) -> Iterator[tuple[str, bytes]]:
    """Unpacked, since TorchServe's jar has others of the same names, and Netty refuses to choose between two."""
    with zipfile.ZipFile(io.BytesIO(jar)) as opened:
        for name in opened.namelist():
            if name.startswith(NATIVE) and name.endswith(".so"):
                yield name.rpartition("/")[2], opened.read(name)


def main() -> int:
    machine = platform.machine()
    wanted = [jar for jar in jars() if jar.machine in (None, machine)]
    if platform.system() != "Linux" or all(jar.machine is None for jar in wanted):
        print(f"TorchServe keeps its own Netty: for {platform.system()} on {machine} there is no newer one here")
        return 0
    try:
        bring(Path(sys.argv[1]), wanted, os.environ.get(MIRROR) or CENTRAL)
    except NotBrought as reason:
        print(f"error: {reason} ({MIRROR} names another Maven repository)", file=sys.stderr)
        return 1
    except OSError as reason:
        print(f"error: {reason.filename}: {reason.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
