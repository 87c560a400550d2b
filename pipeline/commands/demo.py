"""`make demo`: the other commands, one after the other."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.artefact.model import MODEL_NAME
from pipeline.artefact.version import Version
from pipeline.commands.files import BUILT_ARCHIVE, PHOTOGRAPH, relative, version_files
from pipeline.commands.package import build
from pipeline.commands.publish import send
from pipeline.commands.serve import pull
from pipeline.serving.bars import show
from pipeline.serving.client import Client
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.errors import WeightsUnavailable
from pipeline.shared.ports import Ports
from pipeline.shared.signals import NotedSignals
from pipeline.shared.terminal import err, megabytes, out, spinner, warn
from pipeline.store.embedded_storage import EmbeddedStorage
from pipeline.store.storage_uri import StorageUri


def demo() -> None:
    """The whole path on this machine, from weights to predictions. Leaves only cached weights behind."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alexnet-demo-")))
        with _step("package") as done:
            try:
                loaded, archive, _ = build("imagenet", scratch / BUILT_ARCHIVE.name)
            except WeightsUnavailable as error:
                warn(
                    f"The ImageNet weights cannot be downloaded ({error.reason}): "
                    "continuing with untrained ones, so the predictions below are meaningless."
                )
                loaded, archive, _ = build("untrained", scratch / BUILT_ARCHIVE.name)
            version = Version.of(version_files(archive.path)).name
            done(f"{archive.path.name}, {megabytes(archive.size)}, version {version}, weights {loaded.origin}")
        with EmbeddedStorage("demo") as storage:
            with _step("publish") as done:
                uri = send(StorageUri(storage.bucket, MODEL_NAME), archive.path, allow_untrained=True).uri
                done(f"{uri}, in an embedded Cloud Storage")
            with _step("pull") as done:
                directory = pull(uri, scratch)
                done(f"version {directory.name}, downloaded by KServe's storage initializer and verified")
        with _step("serve") as done:
            obey = stack.enter_context(NotedSignals()).obey
            server = stack.enter_context(TorchServe(directory, MODEL_NAME, Ports.any_free(), log=err.print, obey=obey))
            done(f"{server.predict_url}, version {directory.name}")
        with _step("predict") as done:
            with Client(server.url, MODEL_NAME) as client:
                classes = client.predict(str(PHOTOGRAPH), top_k=5)
            done(relative(PHOTOGRAPH))
        obey()
        show(PHOTOGRAPH.name if loaded.trained else f"{PHOTOGRAPH.name} (untrained weights: meaningless)", classes, out)
        with _step("stop") as done:
            stack.close()
            done("no processes or files left")


@contextmanager
def _step(name: str) -> Iterator[Callable[[str], None]]:
    """One step of the demo: a spinner while it runs, then a line with its result and its time."""
    began, outcome = time.monotonic(), [""]

    def done(what: str) -> None:
        outcome[0] = what

    with spinner(f"{name} …"):
        yield done
    out.print(f"✓ {name:8} {outcome[0]} ({time.monotonic() - began:.1f} s)")
