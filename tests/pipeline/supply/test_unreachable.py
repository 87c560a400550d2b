"""What statements.yaml says about TorchServe's Java: nothing in it refers to the code that known CVEs are in.

The references are read from the classes themselves. Classes looked up only by name would be missed: therefore the
jar's services that are looked up are roots too, and the log's settings restrict log4j's plugins.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

from pipeline.supply.jar import frontend
from pipeline.supply.statements import made
from server.torchserve import NETTY
from tests.support.class_graph import ClassGraph, names_in

OWN = "org/pytorch/serve/"
SERVICES = ("META-INF/services/io.grpc.", "META-INF/services/org.apache.logging.")

# All of Netty's codecs and handlers that TorchServe names: HTTP/1.1, its forms, and TLS if the settings enable it.
NETTYS = {
    *("ByteToMessageDecoder", "DecoderResult", "MessageToByteEncoder", "TooLongFrameException"),
    *("DefaultFullHttpResponse", "DefaultHttpContent", "DefaultHttpResponse", "FullHttpRequest", "FullHttpResponse"),
    *("HttpHeaderNames", "HttpHeaderValues", "HttpHeaders", "HttpMethod", "HttpObjectAggregator"),
    *("HttpRequest", "HttpResponse", "HttpResponseStatus", "HttpServerCodec", "HttpUtil", "HttpVersion"),
    *("LastHttpContent", "QueryStringDecoder"),
    *("Attribute", "DefaultHttpDataFactory", "FileUpload", "HttpDataFactory", "HttpPostRequestDecoder"),
    *("HttpPostRequestDecoder$EndOfDataDecoderException", "HttpPostRequestDecoder$NotEnoughDataDecoderException"),
    *("InterfaceHttpData", "InterfaceHttpData$HttpDataType"),
    *("OptionalSslHandler", "SslContext", "SslContextBuilder", "SslHandler", "SelfSignedCertificate"),
}


@pytest.fixture(scope="module")
def torchserve() -> ClassGraph:
    return ClassGraph(frontend())


@pytest.fixture(scope="module")
def newer_netty() -> ClassGraph:
    if not NETTY.is_dir():
        pytest.skip("the newer Netty is not here: make netty")
    return ClassGraph(*NETTY.glob("*.jar"))


@pytest.fixture(scope="module", params=["its own Netty", "the newer Netty"])
def graph(request: pytest.FixtureRequest, torchserve: ClassGraph) -> ClassGraph:
    """Of TorchServe as it is, and with the newer Netty before it."""
    if request.param == "its own Netty":
        return torchserve
    newer: ClassGraph = request.getfixturevalue("newer_netty")
    return torchserve.behind(newer)


@pytest.fixture(scope="module")
def reached(graph: ClassGraph) -> set[str]:
    """All classes reachable from TorchServe's own, and from the services that are looked up by name."""
    with zipfile.ZipFile(frontend()) as jar:
        services = [jar.read(name).decode() for name in jar.namelist() if name.startswith(SERVICES)]
    looked_up = {line.replace(".", "/") for text in services for line in text.split() if re.fullmatch(r"[\w.$]+", line)}
    assert "io/grpc/netty/shaded/io/grpc/netty/NettyServerProvider" in looked_up
    return graph.reached_from(graph.beginning_with(OWN) | looked_up)


@pytest.fixture(scope="module")
def named() -> set[str]:
    """All classes that TorchServe's own name."""
    with zipfile.ZipFile(frontend()) as jar:
        return set().union(*(names_in(jar.read(name)) for name in jar.namelist() if _is_own(name)))


def _is_own(name: str) -> bool:
    return name.startswith(OWN) and name.endswith(".class")


@pytest.mark.parametrize("beginning", sorted({beginning for each in made() for beginning in each.classes}))
def test_no_class_of_torchserve_leads_to_it(beginning: str, graph: ClassGraph, reached: set[str]) -> None:
    if not beginning.startswith("io/grpc/netty/shaded/"):  # gRPC omits parts of Netty, so there is nothing to reach
        assert graph.beginning_with(beginning), "a name that is not in the jar says nothing"
    assert sorted(name for name in reached if name.startswith(beginning)) == []


def test_nothing_that_torchserve_leads_to_is_left_to_its_own_netty(
    torchserve: ClassGraph, newer_netty: ClassGraph
) -> None:
    """tests/serving/test_newer_netty.py sees what is loaded; this, all that could be."""
    both = torchserve.behind(newer_netty)
    reached = both.reached_from(both.beginning_with(OWN)) & both.beginning_with("io/netty/")
    assert "io/netty/handler/codec/http/HttpObjectDecoder" in reached
    assert sorted(reached - newer_netty.beginning_with("io/netty/")) == []


def test_what_torchserve_does_use_is_seen(reached: set[str]) -> None:
    """The search works: it finds a known reference."""
    used = {"HttpObjectDecoder", "multipart/HttpPostMultipartRequestDecoder", "HttpServerCodec", "HttpObjectAggregator"}
    assert {f"io/netty/handler/codec/http/{name}" for name in used} <= reached
    assert "io/grpc/netty/shaded/io/netty/handler/codec/http2/DefaultHttp2FrameReader" in reached
    assert "org/apache/commons/compress/archivers/tar/TarArchiveInputStream" in reached


def test_netty_speaks_http_1_alone_to_the_door(named: set[str]) -> None:
    found = {name.rpartition("/")[2] for name in named if name.startswith("io/netty/handler/")}
    assert found == NETTYS


def test_there_is_no_tls_in_java(checkout: Path) -> None:
    """Netty's TLS is in a pipeline only where an address is https, and keys are in the settings."""
    settings = (checkout / "config.properties").read_text()
    addresses = re.findall(r"^\w+_address=(\S+)$", settings, re.MULTILINE)
    assert len(addresses) == 5
    assert not [address for address in addresses if "https" in address]
    assert not re.findall(r"^(?:keystore|private_key_file|certificate_file)\w*=", settings, re.MULTILINE)
    java = (checkout / "kserve" / "runtime" / "server" / "torchserve.py").read_text()
    assert len(re.findall(r'"TS_\w+_ADDRESS": f"http://\{LOOPBACK\}:', java)) == 2


def test_no_java_object_is_deserialized(named: set[str]) -> None:
    assert "java/io/ObjectInputStream" not in named
    assert "java/io/InputStream" in named  # such names are seen


def test_torchserve_asks_for_no_file_descriptors(named: set[str]) -> None:
    """Netty's sockets receive bytes unless DomainSocketReadMode says otherwise."""
    assert "io/netty/channel/epoll/EpollDomainSocketChannel" in named
    assert not [name for name in named if "DomainSocketReadMode" in name or "DomainSocketChannelConfig" in name]


def test_torchserve_is_no_client_of_grpc(named: set[str]) -> None:
    assert "io/grpc/netty/shaded/io/grpc/netty/NettyServerBuilder" in named
    assert not [name for name in named if re.search("ManagedChannel|NettyChannelBuilder|InProcessChannel", name)]


def test_torchserve_uses_neither_rmi_nor_a_screen(named: set[str]) -> None:
    assert not [
        name for name in named if name.startswith(("java/rmi/", "javax/rmi/", "java/awt/", "javafx/", "javax/swing/"))
    ]
    assert not [
        name for name in named if name.startswith(("com/sun/net/httpserver/", "java/net/http/", "javax/net/ssl/"))
    ]


def test_the_image_is_linux(checkout: Path) -> None:
    dockerfile = (checkout / "kserve" / "runtime" / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=python:[\d.]+-slim-bookworm\b", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${BASE}"}


def test_log4j_writes_patterns_to_standard_output_alone(checkout: Path) -> None:
    """TorchServe's own settings would write files. Its server names these instead, with log4j.configurationFile."""
    settings = checkout / "kserve" / "runtime" / "server" / "log4j2.xml"
    (appenders,) = ET.parse(settings).getroot().findall("Appenders")
    assert [(each.tag, each.get("target")) for each in appenders] == [("Console", "SYSTEM_OUT")]
    assert [each.tag for each in appenders[0]] == ["PatternLayout"]
    pattern = appenders[0][0].get("pattern", "")
    assert "%enc{%m" in pattern
    assert "${" not in settings.read_text()  # no lookup: neither of JNDI nor of anything else
    java = (checkout / "kserve" / "runtime" / "server" / "torchserve.py").read_text()
    assert "-Dlog4j.configurationFile={Path(__file__).with_name('log4j2.xml')" in java
