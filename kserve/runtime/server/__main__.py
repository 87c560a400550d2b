"""Start and shutdown: python -m server [/mnt/models]"""

from __future__ import annotations

import signal
import threading

# Before anything else: as process 1 of a container, it only receives signals that it handles.
STOPPING = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: STOPPING.set())

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from server import callers, health, log, metrics, torchserve, variables
from server.api_keys import ApiKeys
from server.background import in_background
from server.door import Door, NoDoor
from server.drain import drain
from server.errors import NotServed
from server.model import Model
from server.scratch import scratch
from server.status import IMAGE, StatusServer
from server.trust import trusted_folder

MODELS = "/mnt/models"
POLL_S = 0.1
BY_SIGNAL = 128  # plus the signal's number: the exit status that shells and Kubernetes use


def main() -> int:
    """Returns the exit status: 0 if it was asked to stop; otherwise TorchServe's, but never 0."""
    log.start()
    try:
        variables.check()
        with scratch() as folder:
            return serve(Path(sys.argv[1] if len(sys.argv) > 1 else MODELS), folder)
    except NotServed as reason:
        log.say("ERROR", str(reason))
        return 1
    except OSError as reason:
        log.say("ERROR", f"{reason.filename or 'the server'}: {reason.strerror or reason}: nothing is served")
        return 1
    finally:
        log.flush()


def serve(models: Path, folder_of_ours: Path) -> int:
    """folder_of_ours: for sockets, settings and the archive that TorchServe unpacks."""
    folder = trusted_folder(models)
    inside = torchserve.Inside.free()
    name, version = folder.model
    door: Door
    keys: ApiKeys | None = None
    if os.environ.get("FRONT_DOOR") == "none":
        callers.check_door()
        log.say("WARNING", "there is no front door: TorchServe answers directly, without the door's limits")
        door, inside = NoDoor(), replace(inside, inference=folder.inference.port)
    elif os.environ.get("TS_SERVICE_ENVELOPE"):
        raise NotServed("TS_SERVICE_ENVELOPE is set: the handler reads KServe's bodies itself; unset it")
    else:
        door = Door(folder_of_ours, folder.model, folder.inference, inside.inference)
        if api_keys := os.environ.get("API_KEYS"):
            keys = ApiKeys(Path(api_keys), folder_of_ours)
    model = Model(inside.inference, folder.route)
    socket = folder_of_ours / "status.sock"
    servers = [
        health.listen(model, door, STOPPING),
        StatusServer(socket, name, version, model, STOPPING, models / folder.archive, os.environ.get(IMAGE, "")),
        metrics.MetricsServer(
            folder.metrics, [metrics.of_torchserve(inside.metrics), metrics.of_door(door.statistics)]
        ),
    ]
    if STOPPING.is_set():
        return 0
    process = torchserve.start(folder, inside, folder_of_ours)
    forwarding = in_background(log.forward, process.stdout, "torchserve")
    try:
        door.start()
        for server in servers:
            in_background(server.serve_forever)
        in_background(model.ask_now_and_then)
        if keys:
            in_background(keys.look_now_and_then)
        while _go_on(process, door) and not STOPPING.wait(POLL_S):
            pass
        if process.poll() is None:
            door.let_go()
            drain(folder.inference.port, lambda: _go_on(process, door))
        if process.poll() is None:
            return 0
        forwarding.join(torchserve.STOP_TIMEOUT_S)  # its last words
        log.say("ERROR", f"TorchServe ended by itself, with exit status {process.returncode}")
        return BY_SIGNAL - process.returncode if process.returncode < 0 else process.returncode or 1
    finally:
        door.stop()
        torchserve.stop(process)


def _go_on(process: subprocess.Popen[str], door: Door) -> bool:
    """Whether TorchServe is running. Restarts the door if necessary."""
    door.keep_up()
    return process.poll() is None


if __name__ == "__main__":
    sys.exit(main())
