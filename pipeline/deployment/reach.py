"""Where a service can be called from here."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator

import httpx

from pipeline.deployment.answer import Answer
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.models import model_of
from pipeline.deployment.objects import Object, is_on_knative, name_of
from pipeline.deployment.resources import SERVICES
from pipeline.deployment.smoke_test import wants_credentials
from pipeline.deployment.voice import Voice
from pipeline.serving.route import model_route
from pipeline.serving.trouble import trouble
from pipeline.shared.deadline import within
from pipeline.shared.errors import PipelineError
from pipeline.shared.http import http_client, proxy_of, trusted
from pipeline.shared.text import one_line

# Never real hosts: https://www.rfc-editor.org/rfc/rfc6761. KServe's ingressDomain is example.com until it is set.
RESERVED = re.compile(r"(.*\.)?(example\.(com|net|org)|example|invalid)\.?", re.IGNORECASE)

TIMEOUT = httpx.Timeout(5, connect=3)  # seconds
LONGEST_S = 10  # name look-ups have no timeout of their own
MOST_ANSWER_BYTES = 64 * 1024

LONGEST_NAME = 63  # of a Service
PORT_HERE = 8080  # the default of scripts/predict.sh
PORT_OF_SERVICE = 80
USUAL_PORTS = {"http": 80, "https": 443}


def way_in(cluster: Cluster, service: Object, objects: list[Object], voice: Voice) -> str:
    """The public address, if it answers from here; or else the kubectl command that forwards its port.

    service: as the cluster has it, ready. objects: those that were applied with it.
    """
    inside = _inside(service, cluster.namespace)
    voice.say(f"inside       {inside}")
    for url in dict.fromkeys((*_of_gateways(objects), *_of_status(service))):
        voice.progress(f"asking {url}")
        problem = _problem(url, model_of(service))
        if problem is None:
            return url
        if url != inside:  # which is also KServe's URL if there is no ingress at all
            voice.say(f"outside      not {url}: {problem}")
    return _port_forward(cluster, service)


def _inside(service: Object, namespace: str) -> str:
    address = service["status"].get("address", {}).get("url")
    return str(address or f"http://{name_of(service)}-predictor.{namespace}.svc.cluster.local")


def _of_gateways(objects: list[Object]) -> Iterator[str]:
    """The addresses from the component public-gateway."""
    for gateway in objects:
        if gateway["kind"] != "Gateway":
            continue
        for listener in gateway["spec"]["listeners"]:
            scheme, host, port = listener["protocol"].lower(), listener.get("hostname", ""), listener["port"]
            if scheme in USUAL_PORTS and host and "*" not in host and not RESERVED.fullmatch(host):
                yield f"{scheme}://{host}" + ("" if port == USUAL_PORTS[scheme] else f":{port}")


def _of_status(service: Object) -> Iterator[str]:
    """The address of KServe's ingress, which KServe reports whether there is one or not."""
    try:
        url = httpx.URL(service["status"].get("url") or "")
    except httpx.InvalidURL:
        return
    if url.scheme in USUAL_PORTS and url.host and not RESERVED.fullmatch(url.host):
        yield str(url).rstrip("/")


def _problem(address: str, model: str) -> str | None:
    """Why this model does not answer there; None if it does, even if predictions require credentials."""
    url = httpx.URL(address + model_route(model))
    proxy = proxy_of(url)
    try:
        answer = within(LONGEST_S, lambda: _answer(url, proxy))
    except httpx.RequestError as error:
        return trouble(error, url, proxy).what
    except TimeoutError:
        return f"no answer within {LONGEST_S} s"
    except (PipelineError, OSError, UnicodeError, httpx.InvalidURL) as error:
        return one_line(error)
    if wants_credentials(answer) or (answer.status == 200 and answer.fields.get("name") == model):
        return None
    return f"the answer is not this model's ({answer.status})"


def _answer(url: httpx.URL, proxy: str | None) -> Answer:
    verify = trusted() if url.scheme == "https" else ssl.create_default_context()
    with (
        http_client(TIMEOUT, proxy=proxy, trust_env=False, verify=verify) as http,
        http.stream("GET", url) as response,
    ):
        content = b""
        for chunk in response.iter_bytes(MOST_ANSWER_BYTES):
            content += chunk
            if len(content) >= MOST_ANSWER_BYTES:
                break
        return Answer(response.status_code, content.decode(errors="replace"))


def _port_forward(cluster: Cluster, service: Object) -> str:
    target, port = f"{name_of(service)}-predictor", PORT_OF_SERVICE
    if is_on_knative(service):
        # On Knative that Service is an alias of the ingress gateway, to which kubectl cannot forward.
        target = _private_service(str(service["status"]["components"]["predictor"]["latestReadyRevision"]))
    elif found := _headless(cluster, target):
        port = found
    return f"kubectl port-forward --namespace {cluster.namespace} service/{target} {PORT_HERE}:{port}"


def _private_service(revision: str) -> str:
    """Knative's name for it: kmeta.ChildName of https://github.com/knative/pkg shortens long names with a hash."""
    suffix = "-private"
    room = LONGEST_NAME - len(suffix)
    if len(revision) > room:
        digest = hashlib.md5(revision.encode(), usedforsecurity=False).hexdigest()
        revision = revision[: room - len(digest)] + digest
    return revision + suffix


def _headless(cluster: Cluster, name: str) -> int | None:
    """The pod's port, if the Service has no address (KServe's serviceClusterIPNone): kubectl then expects that one.

    https://github.com/kubernetes/kubectl/blob/v0.35.0/pkg/util/service_port.go
    """
    try:
        found = cluster.get(SERVICES, name) if cluster.may("get", SERVICES) else None
    except PipelineError:  # the version serves, even if this cannot be read
        found = None
    spec = (found or {}).get("spec", {})
    if spec.get("clusterIP") != "None":
        return None
    ports = [port.get("targetPort") for port in spec.get("ports", []) if port.get("port") == PORT_OF_SERVICE]
    return next((port for port in ports if isinstance(port, int)), None)
