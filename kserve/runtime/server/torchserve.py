"""TorchServe's process: Java, without TorchServe's launcher, which would stay between a signal and the server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import ts

from server import log
from server.door import ABANDONED
from server.errors import NotServed
from server.folder import Folder

# A newer Netty than the one in TorchServe's jar, if it was downloaded: kserve/runtime/netty.py.
NETTY = Path(sys.prefix, "share", "netty")
STOP_TIMEOUT_S = 20
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Inside:
    """Where TorchServe listens: on loopback, behind the front door."""

    inference: int
    metrics: int

    @classmethod
    def free(cls) -> Inside:
        with socket.socket() as one, socket.socket() as other:
            for opened in (one, other):
                opened.bind((LOOPBACK, 0))
            return cls(one.getsockname()[1], other.getsockname()[1])


def start(folder: Folder, inside: Inside, scratch: Path) -> subprocess.Popen[str]:
    """Its output comes through a pipe. scratch: where it unpacks the archive and puts its workers' sockets.

    Raises NotServed if there is no Java, or TorchServe would not listen on loopback.
    """
    if not folder.obeys_the_environment:
        raise NotServed(
            f"{folder.config} needs the line enable_envvars_config=true: TorchServe is told where to listen"
        )
    environment = os.environ | {
        "TS_INFERENCE_ADDRESS": f"http://{LOOPBACK}:{inside.inference}",
        "TS_METRICS_ADDRESS": f"http://{LOOPBACK}:{inside.metrics}",
        # Exactly the files that were checked, regardless of other variables: TorchServe prefers these to its arguments.
        "TS_CONFIG_FILE": str(folder.config),
        "TS_MODEL_STORE": str(folder.store),
        "TS_LOAD_MODELS": folder.archive_name,
        "ABANDONED_REQUESTS": str(scratch / ABANDONED),  # for the handler, which skips these requests
        "SERVED_VERSION": folder.model[1],  # for the handler, whose answers state the same version
    }
    try:
        return subprocess.Popen(
            _command(folder, scratch),
            env=environment,
            process_group=0,  # Ctrl-C in a terminal is only for this process, which then drains
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise NotServed(f"{error.filename}: {error.strerror}: Java cannot be started, set JAVA_HOME") from None


def stop(process: subprocess.Popen[str]) -> None:
    """Asks it to stop, and kills it if it does not. It may have ended already."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log.say("WARNING", f"TorchServe did not stop within {STOP_TIMEOUT_S} s and is killed")
        process.kill()
        process.wait()


def _command(folder: Folder, scratch: Path) -> list[str]:
    """The command that the launcher would run."""
    home = os.environ.get("JAVA_HOME")
    packages = Path(ts.__file__).resolve().parent.parent
    class_path = [packages / "ts" / "frontend" / "*"]
    newer_netty = []
    if NETTY.is_dir():
        class_path.insert(0, NETTY / "*")  # Java takes a class from where it finds it first
        newer_netty = [
            # TorchServe's jar has a native library of the same name, for its own Netty; this folder comes first.
            f"-Djava.library.path={NETTY}",
            # As Netty 4.1 allocates: the limits in vmargs were measured with that.
            "-Dio.netty.allocator.type=pooled",
        ]
    return [
        str(Path(home, "bin", "java")) if home else "java",
        f"-Dmodel_server_home={packages}",
        f"-Djava.io.tmpdir={scratch}",
        f"-Dlog4j.configurationFile={Path(__file__).with_name('log4j2.xml').resolve().as_uri()}",
        *newer_netty,
        *folder.vmargs,
        *("-cp", os.pathsep.join(map(str, class_path))),
        "org.pytorch.serve.ModelServer",
        *("--python", sys.executable),
        *("-f", str(folder.config)),
        *("-s", str(folder.store)),
        "-ncs",  # no snapshots of the configuration: there is nowhere to write them
    ]
