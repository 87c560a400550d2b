"""What another host could do to either server, and which archives it accepts.

Each is started with the addresses of its configuration: this project's config.properties, or for stock TorchServe those
on KServe's page about it.
"""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
from ts.model_server import load_properties

from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import LOOPBACK, Ports
from reliability.clients import ROUTE, questions
from reliability.servers import CHECKOUT, OURS, Kind, Server, Servers

# https://kserve.github.io/website/0.12/modelserving/v1beta1/torchserve/
STOCK_ADDRESSES = dict.fromkeys(("inference", "management", "metrics"), "http://0.0.0.0")
CLASSES = ("classes.json", "index_to_name.json")  # in this project's archive, and in the stock one
REFUSED_WITHIN_S = 60  # no answer until then
PATIENCE_S = 60

STEPS = {
    "its models are listed": ("GET", "/models"),
    "a model is registered by URL (ShellTorch)": ("POST", "/models?url=https://example.com/other.mar&model_name=other"),
    "a model is registered from a file": ("POST", "/models?url=other.mar&model_name=other"),
    "its workers are scaled to none": ("PUT", "/models/alexnet?min_worker=0&max_worker=0&synchronous=true"),
    "its model is removed": ("DELETE", "/models/alexnet"),
}


@dataclass(frozen=True)
class Surface:
    """open: names of the ports that other hosts can reach. steps: what was tried → `yes` or `no`, and why."""

    date: str
    open: list[str]
    steps: dict[str, str]

    @property
    def failed(self) -> list[str]:
        """What should not have happened to this project's server."""
        reached = [] if self.open == ["health", "inference"] else [f"open: {', '.join(self.open)}"]
        return reached + [f"{step}: {said}" for step, said in self.steps.items() if said.startswith("yes")]


def tried(servers: Servers, folder: Path, say: Callable[[str], None]) -> Surface:
    """Tries the steps on its own servers. folder: an empty one, for a changed archive."""
    ports = Ports.any_free()
    with servers.started(ports, variables=addresses(servers.kind, ports)) as server:
        reached = open_ports(server)
        steps = {}
        for name, (method, path) in STEPS.items():
            say(name)
            status = asked(ports.management, method, path) if "management" in reached else None
            steps[name] = "no: management is out of reach" if status is None else said(status)
        status = asked(ports.inference, "POST", ROUTE, server.form)
        steps["predictions fail after that"] = "no" if status == 200 else f"yes ({status})"
    last = "an archive with a changed label is served"
    say(last)
    steps[last] = "yes" if is_served(changed(servers, folder), say) else "no"
    return Surface(time.strftime("%Y-%m-%d"), reached, steps)


def addresses(kind: Kind, ports: Ports) -> dict[str, str]:
    settings = load_properties(str(CHECKOUT / "config.properties"))
    own = {name: settings[f"{name}_address"].rpartition(":")[0] for name in STOCK_ADDRESSES}
    return {
        f"TS_{name.upper()}_ADDRESS": f"{address}:{getattr(ports, name)}"
        for name, address in (own if kind == OURS else STOCK_ADDRESSES).items()
    }


def open_ports(server: Server) -> list[str]:
    """The names of the ports that listen to other machines; the container's command has an extra one, for probes."""
    heard = {
        connection.laddr.port
        for process in server.processes()
        for connection in process.connections("inet")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip not in (LOOPBACK, "::1", f"::ffff:{LOOPBACK}")
    }
    named = {port: name for name, port in vars(server.ports).items()}
    return sorted(named.get(port, "health" if server.kind == OURS else "unknown") for port in heard)


def asked(port: int, method: str, path: str, form: str | None = None) -> int | None:
    """form: of a predict request."""
    connection = HTTPConnection(LOOPBACK, port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, questions(form)[0] if form else None, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def said(status: int) -> str:
    return f"yes ({status})" if status < 300 else f"no ({status})"


def changed(servers: Servers, folder: Path) -> Servers:
    """The same archive with one letter of one label changed."""
    archive = folder / "model-store" / "alexnet.mar"
    archive.parent.mkdir(parents=True)
    with suppress(FileNotFoundError):  # the stock one is elsewhere
        shutil.copytree(servers.archive.parent.parent / "config", folder / "config")
    with zipfile.ZipFile(servers.archive) as packed, zipfile.ZipFile(archive, "w") as written:
        for entry in packed.infolist():
            content = packed.read(entry)
            if entry.filename in CLASSES:
                content = content.replace(b"tabby", b"tabbX")
            written.writestr(entry, content)
    return servers.with_archive(archive)


def is_served(servers: Servers, say: Callable[[str], None]) -> bool:
    try:
        with servers.started(within_s=REFUSED_WITHIN_S):
            return True
    except PipelineError as error:
        say(str(error))
        return False
