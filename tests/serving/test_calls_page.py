"""The programs in docs/calls.md, each run as shown, except for the server's address."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.client import Client
from pipeline.serving.torchserve import TorchServe

DECODER = json.JSONDecoder()


@pytest.fixture
def label(server: TorchServe, checkout: Path) -> str:
    """How the page's picture is classified."""
    with Client(server.url, MODEL_NAME) as client:
        return client.predict(str(checkout / "docs" / "kitten.jpg"), 1)[0]["label"]


@pytest.fixture
def folder(checkout: Path, tmp_path: Path) -> Path:
    """Where a program runs: a writable folder with the page's picture."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "kitten.jpg").symlink_to(checkout / "docs" / "kitten.jpg")
    return tmp_path


def program(checkout: Path, language: str, url: str) -> str:
    """The page's program in this language, for this server."""
    page = (checkout / "docs" / "calls.md").read_text()
    [found] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert "127.0.0.1:8080" in found
    return str(found).replace("127.0.0.1:8080", url.removeprefix("http://"))


def output(command: list[str], folder: Path) -> str:
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "GO111MODULE": "off", "GOCACHE": str(folder / "cache")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(text: str) -> list[dict[str, Any]]:
    """Concatenated JSON values."""
    found, at = [], 0
    while at < len(text.rstrip()):
        value, at = DECODER.raw_decode(text, at)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def said(text: str) -> dict[str, str]:
    """Each line has a form and a label."""
    return dict(line.split(" ", 1) for line in text.splitlines())


def test_curl(server: TorchServe, checkout: Path, folder: Path, label: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    raw, v1, v2, binary, explained = values(output(["sh", "-euc", program(checkout, "sh", server.url)], folder))
    assert raw == v1
    assert raw["predictions"][0]["classes"][0]["label"] == label
    assert v2["outputs"] == binary["outputs"]
    [labels] = [entry["data"] for entry in v2["outputs"] if entry["name"] == "label"]
    assert labels == [entry["label"] for entry in raw["predictions"][0]["classes"]]
    assert explained["explanations"][0]["class"]["label"] == label
    assert max(map(max, explained["explanations"][0]["grid"])) == 1


def test_python(door_url: str, checkout: Path, folder: Path, label: str) -> None:
    pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")
    (folder / "call.py").write_text(program(checkout, "python", door_url))
    forms = ("raw", "v1", "explain", "v2", "v2-binary", "grpc")
    assert said(output([sys.executable, "call.py"], folder)) == dict.fromkeys(forms, label)
    assert (folder / "explained.jpg").read_bytes().startswith(b"\xff\xd8")


def test_javascript(server: TorchServe, checkout: Path, folder: Path, label: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node is not on this machine")
    (folder / "call.mjs").write_text(program(checkout, "js", server.url))
    forms = ("raw", "v1", "explain", "v2", "v2-binary")
    assert said(output(["node", "call.mjs"], folder)) == dict.fromkeys(forms, label)


def test_grpc_in_javascript(door_url: str, checkout: Path, folder: Path, label: str) -> None:
    packages = os.environ.get("GRPC_JS")
    if not packages:
        pytest.skip("set GRPC_JS to a folder where npm has installed @grpc/grpc-js and @grpc/proto-loader")
    (folder / "node_modules").symlink_to(Path(packages) / "node_modules")
    (folder / "conformance").symlink_to(checkout / "conformance")
    (folder / "call.mjs").write_text(program(checkout, "mjs", door_url))
    assert said(output(["node", "call.mjs"], folder)) == {"grpc": label}


def test_go(server: TorchServe, checkout: Path, folder: Path, label: str) -> None:
    if shutil.which("go") is None:
        pytest.skip("Go is not on this machine")
    (folder / "call.go").write_text(program(checkout, "go", server.url))
    forms = ("raw", "v1", "explain", "v2", "v2-binary")
    assert said(output(["go", "run", "call.go"], folder)) == dict.fromkeys(forms, label)


def test_grpc_in_go(door_url: str, checkout: Path, folder: Path, label: str) -> None:
    packages = os.environ.get("GRPC_GO")
    if not packages:
        pytest.skip("set GRPC_GO to a GOPATH with grpc-go and bin/protoc-gen-go, in the versions of Debian 12")
    call = folder / "go" / "src" / "example.com" / "call"
    (call / "inference").mkdir(parents=True)
    (call / "main.go").write_text(program(checkout, "golang", door_url))
    out = "--go_out=plugins=grpc,Mopen_inference_grpc.proto=example.com/call/inference:inference"
    plugin = f"--plugin=protoc-gen-go={packages}/bin/protoc-gen-go"
    proto = ["-I", str(checkout / "conformance"), "open_inference_grpc.proto"]
    output([sys.executable, "-m", "grpc_tools.protoc", plugin, out, *proto], call)
    go_path = os.pathsep.join([str(folder / "go"), packages])
    output(["env", f"GOPATH={go_path}", "go", "build", "-o", str(folder / "call"), "example.com/call"], folder)
    assert said(output([str(folder / "call")], folder)) == {"grpc": label}
