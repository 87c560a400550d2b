"""What scripts/compare.sh compares: an archive, version or directory, which it serves itself, or a running server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.artefact.archive import model_name
from pipeline.artefact.model import MODEL_NAME
from pipeline.commands.files import laid_out
from pipeline.commands.serve import pull
from pipeline.serving.address import Address
from pipeline.serving.client import Client
from pipeline.serving.comparing import Ask, Picture
from pipeline.serving.folder import CONFIG, archive_in
from pipeline.serving.protocol import Class
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import NoServer, PipelineError
from pipeline.shared.ports import Ports
from pipeline.shared.signals import NotedSignals
from pipeline.shared.terminal import err, spinner, warn
from pipeline.shared.text import without_secrets
from pipeline.store.places import is_place, parse_place

URL = re.compile(r"https?://.*|[^/]+:\d+(/.*)?", re.IGNORECASE)

# They get one request at a time, so one worker each is enough; one for each processor would only waste memory.
VARIABLES = {"TS_DEFAULT_WORKERS_PER_MODEL": "1"}


@dataclass(frozen=True)
class Contender:
    """said: as the user named it. directory: what to serve, in KServe's layout; None for a running server."""

    said: str
    directory: Path | None

    @property
    def title(self) -> str:
        """As the user named it, without anything that may be secret."""
        return without_secrets(self.said) if self.directory is None else self.said

    @property
    def identity(self) -> object:
        """Equal if the answers must be equal."""
        if self.directory is None:
            address = Address.parse(self.said, MODEL_NAME)
            return str(address.server), address.model
        return [sha256_of(file) for file in (archive_in(self.directory), self.directory / CONFIG)]


def contender(said: str, scratch: Path) -> Contender:
    """scratch: where an archive's directory is made. Raises PipelineError if `said` cannot be compared, before
    anything is started."""
    path = Path(said)
    if path.is_file():
        return Contender(said, laid_out(path, scratch))
    if is_place(said):
        return Contender(said, pull(parse_place(said)))
    if path.is_dir():
        archive_in(path)
        return Contender(said, path)
    if URL.fullmatch(said):
        Address.parse(said, MODEL_NAME)
        return Contender(said, None)
    raise PipelineError(
        f"{said}: no such archive; expected a .mar file, a directory with config/ and model-store/, "
        "a version gs://… or oci://…, or the URL of a server"
    )


@contextmanager
def answering(name: str, found: Contender, headers: Mapping[str, str]) -> Iterator[Ask]:
    """Asks a contender. If it is not running, it is started first and stopped afterwards, whatever happens.

    name: A or B. headers: for a running server. Asking raises PipelineError once the server no longer answers.
    """
    if found.directory is None:
        with Client(found.said, MODEL_NAME, headers) as client:
            client.find_model()
            if client.warning:
                warn(f"{name}: {client.warning}")
            yield _ask(client, lambda error: f"{name}: {str(error).removesuffix(', or give --url')}")
        return
    model = model_name(archive_in(found.directory))
    with _served(name, found.directory, model) as server, Client(server.url, model) as client:
        yield _ask(client, lambda _: f"{name} ({found.said}) stopped while it was asked: is there memory for both?")


@contextmanager
def _served(name: str, directory: Path, model: str) -> Iterator[TorchServe]:
    """A signal is obeyed while the server answers. While it starts or stops, a signal is only noted, so that nothing
    is left behind."""
    with NotedSignals() as signals, spinner(f"{name} is starting …"):
        log = partial(err.print, f"{name}:")
        server = TorchServe(directory, model, Ports.any_free(), log, VARIABLES, signals.obey)
        server.__enter__()
    try:
        signals.obey()
        yield server
    finally:
        with NotedSignals() as signals, spinner(f"{name} is stopping …"):
            server.__exit__()
        signals.obey()


def _ask(client: Client, sentence: Callable[[NoServer], str]) -> Ask:
    def ask(picture: Picture, classes: int) -> list[Class]:
        try:
            return client.classify(picture.name, picture.content, classes)
        except NoServer as error:
            raise PipelineError(sentence(error)) from None

    return ask
