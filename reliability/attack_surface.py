"""What another host could do to either server, and what it takes for an archive.

    PYTHONPATH=. python -P -m reliability.attack_surface [--server ours|stock]

Each is started with the addresses of its configuration: this project's config.properties, and for stock TorchServe
those of KServe's page about it. Writes reliability/results/attack-surface-SERVER.json. Exits with 1 where something
happens to this project's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from ts.model_server import load_properties

from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import LOOPBACK, Ports
from reliability.__main__ import RESULTS
from reliability.clients import ROUTE, questions
from reliability.servers import CHECKOUT, OURS, STOCK, Server, Servers

# https://kserve.github.io/website/0.12/modelserving/v1beta1/torchserve/
STOCK_ADDRESSES = dict.fromkeys(("inference", "management", "metrics"), "http://0.0.0.0")
CLASSES = ("imagenet_classes.json", "index_to_name.json")  # in this project's archive, and in the stock one
REFUSED_WITHIN_S = 60  # no answer until then
PATIENCE_S = 60

STEPS = {
    "its models are listed": ("GET", "/models"),
    "a model is registered by URL (ShellTorch)": ("POST", "/models?url=https://example.com/other.mar&model_name=other"),
    "a model is registered from a file": ("POST", "/models?url=other.mar&model_name=other"),
    "its workers are scaled to none": ("PUT", "/models/alexnet?min_worker=0&max_worker=0&synchronous=true"),
    "its model is removed": ("DELETE", "/models/alexnet"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="reliability.attack_surface")
    parser.add_argument("--server", choices=(OURS, STOCK), default=OURS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = tried(Servers(chosen.server, Path(directory)), Path(directory) / "changed" / "model-store")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"attack-surface-{chosen.server}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    harmed = result["open"] != ["health", "inference"] or any(
        said.startswith("yes") for said in result["steps"].values()
    )
    return int(chosen.server == OURS and harmed)


def tried(servers: Servers, folder: Path) -> dict[str, Any]:
    ports = Ports.any_free()
    with servers.started(ports, **addresses(servers.kind, ports)) as server:
        reached = open_ports(server)
        steps = {}
        for name, (method, path) in STEPS.items():
            status = asked(ports.management, method, path) if "management" in reached else None
            steps[name] = "no: management is out of reach" if status is None else said(status)
        status = asked(ports.inference, "POST", ROUTE, servers.form)
        steps["predictions fail after that"] = "no" if status == 200 else f"yes ({status})"
    changed(servers, folder)
    steps["an archive with a changed label is served"] = "yes" if is_served(servers) else "no"
    return {"date": time.strftime("%Y-%m-%d"), "open": reached, "steps": steps}


def addresses(kind: str, ports: Ports) -> dict[str, str]:
    settings = load_properties(str(CHECKOUT / "config.properties"))
    own = {name: settings[f"{name}_address"].rpartition(":")[0] for name in STOCK_ADDRESSES}
    return {
        f"TS_{name.upper()}_ADDRESS": f"{address}:{getattr(ports, name)}"
        for name, address in (own if kind == OURS else STOCK_ADDRESSES).items()
    }


def open_ports(server: Server) -> list[str]:
    """The names of the ports that listen to other machines; the container's command has one of its own, for probes."""
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


def changed(servers: Servers, folder: Path) -> None:
    """The same archive with one letter of one label changed."""
    folder.mkdir(parents=True)
    config = servers.archive.parent.parent / "config"
    with suppress(FileNotFoundError):  # the stock one is elsewhere
        shutil.copytree(config, folder.parent / "config")
    with zipfile.ZipFile(servers.archive) as packed, zipfile.ZipFile(folder / "alexnet.mar", "w") as written:
        for entry in packed.infolist():
            content = packed.read(entry)
            if entry.filename in CLASSES:
                content = content.replace(b"tabby", b"tabbX")
            written.writestr(entry, content)
    servers.archive = folder / "alexnet.mar"


def is_served(servers: Servers) -> bool:
    with patch("reliability.servers.STARTUP_TIMEOUT_S", REFUSED_WITHIN_S):
        try:
            with servers.started():
                return True
        except PipelineError as error:
            print(error, file=sys.stderr)
            return False


if __name__ == "__main__":
    sys.exit(main())
