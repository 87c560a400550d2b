"""With a newer Netty in place, TorchServe runs with it alone: no class of Netty comes from TorchServe's own jar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from reliability.pictures import base64_text
from server.torchserve import NETTY

PATIENCE_S = 60
# A line of Java's log: [0.1s][info][class,load] io.netty.util.Version source: file:/…/netty-common-4.2.13.Final.jar
# gRPC has its own Netty with another name (io.grpc.netty.shaded.…), which nobody calls.
LOADED = re.compile(r"\] (io\.netty\.\S+) source: (?:file|jar):(\S+)")


@pytest.fixture(scope="module", autouse=True)
def newer_netty() -> None:
    if not NETTY.is_dir():
        pytest.skip("the newer Netty is not here: make netty")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "classes"


@pytest.fixture(scope="module")
def served(directory: Path, log: Path) -> Iterator[TorchServe]:
    """A server whose Java logs where each class is from."""
    environment = {"JDK_JAVA_OPTIONS": f"-Xlog:class+load:file={log}"}
    with TorchServe(directory, MODEL_NAME, Ports.any_free(), environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(served: TorchServe, photographs: list[Path], log: Path) -> dict[str, str]:
    """The classes of Netty and their jars, after good and bad requests of many kinds."""
    image = photographs[0].read_bytes()
    infer = f"{served.url}/v2/models/{MODEL_NAME}/infer"
    with httpx.Client(timeout=PATIENCE_S, trust_env=False) as http:
        for content_type in ("image/jpeg", "application/octet-stream"):
            answer = http.post(served.predict_url, content=image, headers={"Content-Type": content_type})
            assert answer.status_code == 200
        row = {"b64": base64_text(image)}
        assert http.post(served.predict_url, json={"instances": [row] * 2}).status_code == 200
        assert http.post(served.predict_url, files={"data": image}).status_code == 200
        assert http.post(served.predict_url, content=b"no image").status_code == 400
        assert http.post(served.predict_url, json={"instances": [row] * 2000}).status_code == 413
        assert http.post(infer, json={"inputs": []}).status_code == 400
        assert http.get(f"{served.management_url}/models").status_code == 200
        assert http.get(f"{served.management_url}/models/none").status_code == 404
        assert http.get(f"{served.metrics_url}/metrics").status_code == 200
    return {found[1]: Path(found[2]).name for found in LOADED.finditer(log.read_text())}


def test_no_class_of_netty_is_from_torchserves_jar(loaded: dict[str, str]) -> None:
    assert "io.netty.handler.codec.http.HttpServerCodec" in loaded
    assert len(loaded) > 300
    assert set(loaded.values()) <= {jar.name for jar in NETTY.glob("*.jar")}


def test_linuxs_own_sockets_are_used(loaded: dict[str, str], served: TorchServe) -> None:
    """Without its native library, Netty would silently be slower, and use TCP ports for workers."""
    assert {"io.netty.channel.epoll.EpollServerSocketChannel", "io.netty.channel.epoll.EpollDomainSocketChannel"} <= (
        loaded.keys()
    )
    assert not [name for name in loaded if name.startswith("io.netty.channel.socket.nio.Nio")]
    (java,) = [process for process in served.processes() if process.name() == "java"]
    mapped = {Path(each.path) for each in java.memory_maps() if "libnetty" in each.path}
    assert {path for path in mapped if "epoll" in path.name and path.parent.resolve() == NETTY.resolve()}
    assert not [path for path in mapped if "grpc" not in path.name and path.parent.resolve() != NETTY.resolve()]
