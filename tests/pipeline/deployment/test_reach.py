"""What is printed at the end: an address that answers from here, or the command that forwards its port."""

from __future__ import annotations

import hashlib
import json
import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from pipeline.deployment.names import LONGEST
from pipeline.deployment.objects import Object
from tests.support.api_server import IS_READY, URL, ApiServer, Call
from tests.support.deployments import ONE, Deploy, Heard, Make
from tests.support.website import Website, running_website

pytest_plugins = ["tests.support.deployments"]

QUESTION = "/v1/models/alexnet"
INSIDE = "inside       http://alexnet-predictor.models.svc.cluster.local"


@pytest.fixture
def ingress(website: Website, api: ApiServer) -> Website:
    """KServe's ingress, which the InferenceService's status names."""
    api.url_of = lambda _: website.url
    return website


def outside(heard: Heard) -> list[str]:
    return [line for line in heard.said if line.startswith("outside")]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, IS_READY),
        (401, {"error": "credentials: missing or invalid"}),
        (403, {"error": "credentials: not allowed here"}),
    ],
)
def test_an_ingress_that_leads_to_the_model_is_printed(
    status: int, answer: Object, ingress: Website, deploy: Deploy, heard: Heard
) -> None:
    ingress.put(QUESTION, json.dumps(answer).encode(), status)
    assert deploy(ONE) == ingress.url
    assert (heard.said[-1], ingress.asked) == (INSIDE, [QUESTION])
    assert "authorization" not in ingress.headers


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>welcome</html>"),
        (200, b'{"name": "other", "ready": true}'),
        (200, b'["name"]'),
        (200, b""),
        (302, b""),
        (401, b"please sign in"),
        (403, b'{"error": "no"}'),
        (404, b"no such host here"),
        (503, b'{"error": "model: not ready: it is still loading"}'),
        (200, b'{"name": "alexnet", "ready": true, "more": "' + b"x" * 100_000 + b'"}'),
    ],
    ids=["page", "other model", "no object", "nothing", "redirect", "login", "forbidden", "404", "not ready", "long"],
)
def test_an_address_of_something_else_is_not_printed(
    status: int, body: bytes, ingress: Website, deploy: Deploy, heard: Heard
) -> None:
    ingress.put(QUESTION, body, status, Location="http://127.0.0.1:9/")
    assert deploy(ONE) == URL
    assert outside(heard) == [f"outside      not {ingress.url}: the answer is not this model's ({status})"]


def test_an_address_without_a_server_is_not_printed(
    api: ApiServer, deploy: Deploy, heard: Heard, free_port: int
) -> None:
    api.url_of = lambda _: f"http://127.0.0.1:{free_port}"
    assert deploy(ONE) == URL
    (line,) = outside(heard)
    assert line == f"outside      not http://127.0.0.1:{free_port}: 127.0.0.1:{free_port} refuses connections"


@pytest.mark.parametrize(
    "url",
    [
        "http://alexnet-models.example.com",  # KServe's ingressDomain as it is installed
        "https://alexnet.models.example.org:8443",
        "http://alexnet.invalid",
        "http://alexnet.example",
        "",
        "grpc://alexnet",
        "http://alexnet:port",
    ],
)
def test_a_reserved_address_is_not_even_tried(
    url: str, api: ApiServer, deploy: Deploy, heard: Heard, website: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", website.url)
    api.url_of = lambda _: url
    assert (deploy(ONE), outside(heard), website.asked) == (URL, [], [])


def test_the_environments_proxy_is_used(
    api: ApiServer, deploy: Deploy, website: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", website.url)
    api.url_of = lambda _: "http://models.lan"
    website.put(f"http://models.lan{QUESTION}", json.dumps(IS_READY).encode())
    assert deploy(ONE) == "http://models.lan"


def test_without_an_ingress_of_kserve_nothing_is_said_about_it(
    api: ApiServer, deploy: Deploy, heard: Heard, website: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", website.url)
    inside = "http://alexnet-predictor.models.svc.cluster.local"
    api.url_of = lambda _: inside
    website.put(f"{inside}{QUESTION}", b"", 502)
    assert (deploy(ONE), outside(heard)) == (URL, [])
    website.put(f"{inside}{QUESTION}", json.dumps(IS_READY).encode())  # deployed from within the cluster
    assert deploy(ONE) == inside


# --- The component public-gateway -------------------------------------------------------------------------------------


def with_gateway(overlays: Path, api: ApiServer, **listener: Any) -> None:
    api.kinds["gateway.networking.k8s.io/v1"] = {"Gateway": "gateways"}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "alexnet"},
        "spec": {"listeners": [{"name": "https", "protocol": "HTTPS"} | listener]},
    }
    manifests = overlays / "standard" / "manifests.yaml"
    manifests.write_text(f"{manifests.read_text()}---\n{yaml.safe_dump(gateway)}")


def test_our_own_gateway_is_preferred_to_kserves_ingress(
    ingress: Website, api: ApiServer, overlays: Path, deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with ExitStack() as stack:
        site = stack.enter_context(running_website(context))
        for each in (ingress, site):
            each.put(QUESTION, json.dumps(IS_READY).encode())
        with_gateway(overlays, api, hostname="localhost", port=site.server_port)
        assert deploy(ONE) == f"https://localhost:{site.server_port}"
        assert ingress.asked == []


def test_a_gateway_with_an_untrusted_certificate_is_reported_and_the_ingress_is_tried(
    ingress: Website, api: ApiServer, overlays: Path, deploy: Deploy, heard: Heard
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    ingress.put(QUESTION, json.dumps(IS_READY).encode())
    with running_website(context) as site:
        with_gateway(overlays, api, hostname="localhost", port=site.server_port)
        assert deploy(ONE) == ingress.url
        place = f"localhost:{site.server_port}"
        (line,) = outside(heard)
        assert line.startswith(f"outside      not https://{place}: the certificate of {place} is ")


@pytest.mark.parametrize("listener", [{}, {"hostname": "*.localhost"}, {"hostname": "alexnet.example.com"}])
def test_a_gateway_without_a_usable_hostname_is_skipped(
    listener: Object, api: ApiServer, overlays: Path, deploy: Deploy, heard: Heard
) -> None:
    with_gateway(overlays, api, port=443, **listener)
    assert (deploy(ONE), outside(heard)) == (URL, [])


# --- Through kubectl --------------------------------------------------------------------------------------------------


def service(**spec: object) -> Object:
    ports = [{"name": "http1", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "alexnet-predictor"},
        "spec": {"ports": ports} | spec,
    }


@pytest.mark.parametrize(("address", "port"), [("10.0.0.7", 80), ("None", 8080)])
def test_a_service_without_an_address_gets_the_pods_port(
    address: str, port: int, api: ApiServer, deploy: Deploy
) -> None:
    api.put("services", service(clusterIP=address), "kserve")
    assert deploy(ONE) == f"kubectl port-forward --namespace models service/alexnet-predictor 8080:{port}"


def test_without_permission_for_services_the_usual_command_is_printed(api: ApiServer, deploy: Deploy) -> None:
    api.put("services", service(clusterIP="None"), "kserve")
    api.denied = {("get", "services")}
    assert deploy(ONE) == URL


def test_a_service_that_cannot_be_read_now_does_not_fail_the_deployment(api: ApiServer, deploy: Deploy) -> None:
    def is_look(call: Call) -> bool:
        return call.path.endswith("/services/alexnet-predictor")

    api.refuse(503, "etcd is electing a leader", is_look)
    assert deploy(ONE) == URL


def test_on_knative_the_revisions_own_service_is_forwarded(api: ApiServer, deploy: Deploy) -> None:
    """https://github.com/knative/serving/blob/knative-v1.21.1/pkg/reconciler/serverlessservice/resources/services.go"""
    api.mode = "Knative"
    line = "kubectl port-forward --namespace models service/alexnet-predictor-00002-private 8080:80"
    assert deploy(ONE) == line


def test_a_long_name_on_knative_is_shortened_as_knative_does(api: ApiServer, make: Make) -> None:
    api.mode = "Knative"
    line = make(name="a" * LONGEST).deploy(ONE)
    parent = "a" * LONGEST + "-predictor-00002"
    hashed = hashlib.md5(parent.encode(), usedforsecurity=False).hexdigest()
    name = "a" * 23 + hashed + "-private"
    assert len(name) == 63
    assert line == f"kubectl port-forward --namespace models service/{name} 8080:80"


def test_each_service_has_its_own_command(make: Make, heard: Heard) -> None:
    assert make(name="cats").deploy(ONE) == URL.replace("alexnet", "cats")
    assert heard.said[-1] == INSIDE.replace("alexnet", "cats")
