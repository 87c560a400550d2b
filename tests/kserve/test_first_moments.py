"""A signal to the container's main process in its first moments, while it imports and hashes, is not lost.

The kernel delivers to process 1 only signals that it handles. So the processes here are number 1 of a namespace.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pipeline.artefact.signature import Signer
from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE

pytestmark = pytest.mark.slow

ENDS_WITHIN_S = 60
AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--kill-child"]

# The server's last import takes as long as the test needs.
SLOW_IMPORT = """
import os, sys
open(os.environ["IMPORTING"]).read()
sys.path.remove(os.path.dirname(__file__))
del sys.modules["ts"]
import ts
"""

Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if subprocess.run([*AS_PROCESS_1, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespaces can be made here")


@pytest.fixture
def begin(checkout: Path, light_directory: Path) -> Iterator[Begin]:
    processes = []

    def begin(*first: Path, served: Path = light_directory, **environment: str) -> subprocess.Popen[str]:
        path = os.pathsep.join(map(str, [*first, checkout / "kserve" / "runtime"]))
        process = subprocess.Popen(
            [*AS_PROCESS_1, sys.executable, "-P", "-m", "server", str(served)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def ended_by_a_signal_while_it_reads(pipe: Path, process: subprocess.Popen[str], content: bytes) -> tuple[int, str]:
    """The signal is sent once the pipe is open for reading, and the content follows."""
    watch = threading.Timer(ENDS_WITHIN_S, process.kill)  # otherwise the next line would wait for a reader for ever
    watch.start()
    try:
        with open(pipe, "wb") as writer:
            (server,) = psutil.Process(process.pid).children()
            server.send_signal(signal.SIGTERM)
            writer.write(content)
        said, _ = process.communicate(timeout=ENDS_WITHIN_S)
    finally:
        watch.cancel()
    return process.returncode, said


def test_while_it_imports(begin: Begin, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "importing")
    (tmp_path / "ts.py").write_text(SLOW_IMPORT)
    process = begin(tmp_path, IMPORTING=str(tmp_path / "importing"))
    assert ended_by_a_signal_while_it_reads(tmp_path / "importing", process, b"") == (0, "")


def test_while_it_checks_a_signature(begin: Begin, light_directory: Path, tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signed = tmp_path / "models"
    signed.mkdir()
    for name in ("config", "model-store"):
        (signed / name).symlink_to(light_directory / name)
    Signer(tmp_path / "key.pem").sign({name: signed / name for name in (CONFIG, ARCHIVE)}, signed / SIGNATURE)
    os.mkfifo(tmp_path / "key.pub")
    process = begin(served=signed, ALEXNET_PUBLIC_KEY=str(tmp_path / "key.pub"))
    public_key = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert ended_by_a_signal_while_it_reads(tmp_path / "key.pub", process, public_key) == (0, "")
