"""Which ports TorchServe uses, and the error if one is taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import astuple, fields, replace
from pathlib import Path

import psutil
import pytest

from pipeline.shared import ports as module
from pipeline.shared.errors import PipelineError
from pipeline.shared.ports import LOOPBACK, Ports, free_ports


def test_free_ports_are_distinct_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, port))


def test_free_ports_are_none_that_a_connection_may_get() -> None:
    """It could get one before the server starts."""
    if not module.EPHEMERAL.is_file():
        pytest.skip("this system does not say which ports it gives to connections")
    assert max(free_ports(20)) < int(module.EPHEMERAL.read_text().split()[0])


@pytest.mark.parametrize("said", [None, "nonsense", "1024 65535"])
def test_where_that_is_not_known_any_free_one_serves(
    said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said is not None:
        (tmp_path / "range").write_text(said)
    monkeypatch.setattr(module, "EPHEMERAL", tmp_path / "range")
    assert len(set(free_ports(5))) == 5


def test_any_free_ports_can_be_had() -> None:
    ports = Ports.any_free()
    assert len(set(astuple(ports))) == 6
    ports.check_free()


def test_starting_at_takes_the_next_two_ports_and_any_for_grpc() -> None:
    ports = Ports.starting_at(8080)
    assert (ports.inference, ports.management, ports.metrics) == (8080, 8081, 8082)
    assert len(set(astuple(ports))) == 6


@pytest.mark.parametrize("use", [field.name for field in fields(Ports)])
@pytest.mark.parametrize("address", [LOOPBACK, "0.0.0.0"])
def test_a_taken_port_is_named_with_its_use(use: str, address: str) -> None:
    with socket.create_server((address, 0)) as taken:
        port = taken.getsockname()[1]
        by = rf"pid {os.getpid()} \(python.*\)"
        with pytest.raises(PipelineError, match=rf"^port {port} \(for {use}\) is taken by {by}: .* with --port$"):
            replace(Ports.any_free(), **{use: port}).check_free()


def test_of_a_server_of_ours_the_command_is_named(tmp_path: Path) -> None:
    """Its child processes would be restarted."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__main__.py").write_text(
        "import subprocess, sys\n"
        "listen = 'import socket, time; s = socket.create_server((\"127.0.0.1\", 0)); '\n"
        "listen += 'print(s.getsockname()[1], flush=True); time.sleep(600)'\n"
        "subprocess.run([sys.executable, '-c', listen])\n"
    )
    command = [sys.executable, "-P", "-m", "pipeline", "serve"]
    with subprocess.Popen(command, env={"PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            port = int(serving.stdout.readline())
            with pytest.raises(PipelineError, match=rf" is taken by pid {serving.pid} \(scripts/serve\.sh\): "):
                replace(Ports.any_free(), metrics=port).check_free()
        finally:
            for process in psutil.Process(serving.pid).children(recursive=True):
                process.kill()
            serving.kill()


def test_a_port_that_was_in_use_a_moment_ago_is_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)):
            listening.accept()[0].close()  # whoever closes first keeps the port in TIME_WAIT
    replace(Ports.any_free(), inference=port).check_free()


def test_of_ports_that_are_shared_out_others_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREE_PORTS", "21000-21009")
    assert set(free_ports(5)) < set(range(21_000, 21_010))
