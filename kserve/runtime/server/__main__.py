"""From the start to the end: python -m server [/mnt/models]"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from server import callers, health, log, metrics, torchserve
from server.api_keys import ApiKeys
from server.background import in_background
from server.door import Door, NoDoor
from server.drain import drain
from server.errors import NotServed
from server.folder import Folder
from server.model import Model
from server.signature import check_signature
from server.status import StatusServer

MODELS = "/mnt/models"
POLL_S = 0.1


def main() -> int:
    """Returns the exit status: 0 where it was asked to end, otherwise that of TorchServe, and never 0."""
    log.start()
    scratch = Path(tempfile.mkdtemp(prefix="door-"))
    try:
        return serve(Path(sys.argv[1] if len(sys.argv) > 1 else MODELS), scratch)
    except NotServed as reason:
        log.say("ERROR", str(reason))
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        log.flush()


def serve(models: Path, scratch: Path) -> int:
    """scratch: a folder of our own, for sockets and settings."""
    public_key = os.environ.get("ALEXNET_PUBLIC_KEY")
    if public_key is not None:
        check_signature(models, Path(public_key))
    folder, inside, stopping = Folder(models), torchserve.Inside.free(), threading.Event()
    name, version = folder.model
    door: Door
    keys: ApiKeys | None = None
    if os.environ.get("FRONT_DOOR") == "none":
        callers.check_door()
        door, inside = NoDoor(), replace(inside, inference=folder.inference.port)
    elif os.environ.get("TS_SERVICE_ENVELOPE"):
        raise NotServed("TS_SERVICE_ENVELOPE is set: the handler reads KServe's bodies itself; unset it")
    else:
        door = Door(scratch, name, folder.inference, inside.inference)
        if api_keys := os.environ.get("API_KEYS"):
            keys = ApiKeys(Path(api_keys), scratch)
    model = Model(inside.inference, folder.route)
    servers = [
        health.listen(model, door, stopping),
        StatusServer(scratch / "status.sock", name, version, model, stopping, models / folder.archive),
        metrics.MetricsServer(
            folder.metrics, [metrics.of_torchserve(inside.metrics), metrics.of_door(door.statistics)]
        ),
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    process = torchserve.start(folder, inside)
    forwarding = in_background(log.forward, process.stdout, "torchserve")
    try:
        door.start()
        for server in servers:
            in_background(server.serve_forever)
        in_background(model.ask_now_and_then)
        if keys:
            in_background(keys.look_now_and_then)
        while process.poll() is None and not stopping.wait(POLL_S):
            door.keep_up()
        if process.poll() is None:
            door.let_go()
            drain(folder.inference.port, lambda: process.poll() is None and door.up)
            return 0
        forwarding.join(torchserve.STOP_TIMEOUT_S)  # its last words
        log.say("ERROR", f"TorchServe ended by itself, with exit status {process.returncode}")
        return process.returncode or 1
    finally:
        door.stop()
        torchserve.stop(process)


if __name__ == "__main__":
    sys.exit(main())
