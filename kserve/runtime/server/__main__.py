"""From the start to the end: python -m server [/mnt/models]"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from server import health, log, torchserve
from server.drain import drain
from server.errors import NotServed
from server.folder import Folder
from server.model import Model
from server.signature import check_signature

MODELS = "/mnt/models"
POLL_S = 0.1


def main() -> int:
    """Returns the exit status: 0 where it was asked to end, otherwise that of TorchServe, and never 0."""
    log.start()
    try:
        return serve(Path(sys.argv[1] if len(sys.argv) > 1 else MODELS))
    except NotServed as reason:
        log.say("ERROR", str(reason))
        return 1
    finally:
        log.flush()


def serve(models: Path) -> int:
    public_key = os.environ.get("ALEXNET_PUBLIC_KEY")
    if public_key is not None:
        check_signature(models, Path(public_key))
    folder, stopping = Folder(models), threading.Event()
    model = Model(folder.port, folder.route)
    probes = health.listen(model, stopping)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    process = torchserve.start(folder)
    assert process.stdout is not None
    forwarding = threading.Thread(target=log.forward, args=(process.stdout,), daemon=True)
    for thread in (
        forwarding,
        threading.Thread(target=model.ask_now_and_then, daemon=True),
        threading.Thread(target=probes.serve_forever, daemon=True),
    ):
        thread.start()

    while process.poll() is None and not stopping.wait(POLL_S):
        pass
    if process.poll() is not None:
        forwarding.join(torchserve.STOP_TIMEOUT_S)  # its last words
        log.say("ERROR", f"TorchServe ended by itself, with exit status {process.returncode}")
        return process.returncode or 1
    drain(folder.port, process)
    torchserve.stop(process)
    return 0


if __name__ == "__main__":
    sys.exit(main())
