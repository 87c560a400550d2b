"""A Kubernetes API server on loopback that includes KServe, as far as scripts/deploy.sh deals with either.

It stores applied objects with their field managers, and refuses conflicts. What KServe and the nodes do with an
InferenceService follows a script for each storageUri: a list of moments, one for each time a client looks; the last
one stays. Or it follows `kserve`: a recording of a real cluster (recorded.py), or a model of one (simulated_kserve.py).
Test modules import this and name it as a plugin, for its fixtures: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import copy
import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.deployment.objects import Object
from pipeline.shared.checkout import CHECKOUT
from tests.support.in_a_thread import in_a_thread
from tests.support.managed_fields import conflicting, fields_of, merge, take_away

MANAGER = "torchserve-alexnet"
TOKEN = "token-of-the-test"
URL = "kubectl port-forward --namespace models service/alexnet-predictor 8080:80"  # what deploy.sh prints

KINDS = {
    "v1": {
        "ServiceAccount": "serviceaccounts",
        "Namespace": "namespaces",
        "ConfigMap": "configmaps",
        "PersistentVolumeClaim": "persistentvolumeclaims",
    },
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "serving.kserve.io/v1beta1": {"InferenceService": "inferenceservices"},
    "serving.kserve.io/v1alpha1": {"ServingRuntime": "servingruntimes"},
    "serving.knative.dev/v1": {"Service": "services"},
    "keda.sh/v1alpha1": {"ScaledObject": "scaledobjects"},
    "metrics.k8s.io/v1beta1": {"PodMetrics": "pods"},
}
IN_NO_NAMESPACE = ("Namespace", "ClusterStorageContainer")
ANSWER = {"predictions": [{"classes": [{"index": 0, "wnid": "n1", "label": "tench", "probability": 0.9}]}]}
IS_READY = {"name": "alexnet", "ready": True}


@dataclass
class Moment:
    """The visible state of a version at one moment."""

    pod: Object = field(default_factory=dict)  # the pod's status
    deployment: Object = field(default_factory=dict)  # the Deployment's status
    model: Object = field(default_factory=dict)  # the InferenceService's modelStatus
    ready: bool = False
    conditions: list[Object] = field(default_factory=list)
    has_deployment: bool = True
    has_pod: bool = True
    replicas: int | None = None  # requested by the Deployment; None: as many as by the InferenceService


def initializing(**state: Any) -> Moment:
    return Moment({"phase": "Pending", "initContainerStatuses": [{"name": "storage-initializer", **state}]})


def running(**state: Any) -> Moment:
    return Moment({"phase": "Running", "containerStatuses": [{"name": "kserve-container", **state}]})


PENDING = Moment({"phase": "Pending"})
DOWNLOADING = initializing(state={"running": {}})
LOADING = running(state={"running": {}})
READY = Moment({"conditions": [{"type": "Ready", "status": "True"}]}, ready=True)
AT_ONCE = [READY]


@dataclass
class Call:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: Message

    @property
    def is_write(self) -> bool:
        """Access reviews and predictions are POSTs too, but change nothing."""
        harmless = "selfsubjectaccessreviews" in self.path or "/proxy/" in self.path
        return self.method != "GET" and self.query.get("dryRun") != "All" and not harmless

    @property
    def is_record(self) -> bool:
        """Whether it writes the record of proven versions."""
        return self.method in ("POST", "PUT") and "/configmaps" in self.path


class Status(Exception):
    """An answer in Kubernetes' own format."""

    def __init__(self, code: int, message: str, causes: list[Object] | None = None) -> None:
        self.code = code
        self.body = {"kind": "Status", "status": "Failure", "message": message, "code": code}
        if causes:
            self.body["details"] = {"causes": causes}


class KServe(Protocol):
    """What a cluster does with an InferenceService, apart from what is applied. service: as stored in the API server.

    answered: versions (storageUri and image) that ever answered a prediction as they should.
    """

    answered: set[Any]

    def look(self, service: Object) -> None:
        """Called before a client sees it: lets time pass."""

    def status(self, service: Object) -> Object: ...

    def deployments(self, service: Object) -> Iterator[Object]: ...

    def pods(self, service: Object) -> Iterator[Object]: ...

    def events(self, service: Object) -> list[Object]: ...

    def scale(self, service: Object, replicas: int) -> None: ...

    def delete_pod(self, name: str) -> None: ...

    def ask(self, service: Object, call: Call) -> Any:
        """The answer of a pod of its Service. Raises Status."""

    def forget(self, service: Object) -> None:
        """It was deleted, with everything that was made for it."""


class ApiServer(ThreadingHTTPServer):
    """`trouble`: called with each call, before it is answered; it may raise a Status. `calls`: all calls received.

    `objects`: by (plural, name). `scripts`: by storageUri. `denied`: what access reviews say no to.
    """

    daemon_threads = True  # a stopped client leaves its connection open

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.calls: list[Call] = []
        self.trouble: Callable[[Call], None] = lambda _: None
        self.objects: dict[tuple[str, str], Object] = {}
        self.scripts: dict[str, list[Moment]] = {}
        self.namespaces = {"models", "default"}
        self.denied: set[tuple[str, str]] = set()
        self.kinds = copy.deepcopy(KINDS)
        self.controller: Object | None = {"image": "kserve/kserve-controller:v0.20.0"}
        self.answers: dict[str, tuple[int, Any]] = {}  # to predictions, by storageUri
        self.models: dict[str, str] = {}  # the model name in the archive at each storageUri; default alexnet
        self.readiness: dict[str, tuple[int, Any]] = {}  # each one's answer to questions about its model
        self.log = ["one", "two"]
        self.events: list[Object] = []
        self.now = "2026-01-01T00:00:00Z"  # when something is applied
        self.finalized = True
        self.mode = "Standard"
        self.kserve: KServe | None = None  # instead of scripts
        self.one_at_a_time = threading.RLock()
        self.url_of: Callable[[str], str] = lambda name: (
            f"http://{name}-models.example.com"
        )  # depends on KServe's installation
        self._looks: dict[str, int] = {}
        self._counter = itertools.count(1)

    # For tests to look at.

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.is_write]

    @property
    def applied(self) -> list[str]:
        """The kinds in the order in which they were applied, without the record of proven versions."""
        return [call.body["kind"] for call in self.writes if call.method == "PATCH" and not call.is_record]

    @property
    def service(self) -> Object:
        return self.objects["inferenceservices", "alexnet"]

    @property
    def storage_uri(self) -> str:
        return _uri(self.service)

    @property
    def storage_uris(self) -> list[str]:
        """All applied objects, in order."""
        services = [call.body for call in self.writes if (call.body or {}).get("kind") == "InferenceService"]
        return [found["spec"]["predictor"]["model"]["storageUri"] for found in services]

    @property
    def image(self) -> str:
        return str(self.objects["servingruntimes", "alexnet-torchserve"]["spec"]["containers"][0]["image"])

    def refuse(self, code: int, message: str, hit: Callable[[Call], object] = lambda _: True) -> None:
        def trouble(call: Call) -> None:
            if hit(call):
                raise Status(code, message)

        self.trouble = trouble

    def put(self, plural: str, thing: Object, manager: str, operation: str = "Update") -> None:
        """Like another client, which then owns the fields."""
        key = plural, thing["metadata"]["name"]
        if key not in self.objects:
            self.objects[key] = self._new(thing)
        stored = self.objects[key]
        merge(stored, {key: value for key, value in thing.items() if key != "metadata"})
        entry = {"manager": manager, "operation": operation, "fieldsV1": fields_of(thing)}
        stored["metadata"]["managedFields"].append(entry)

    # Answers.

    def respond(self, method: str, target: str, headers: Message, sent: bytes) -> tuple[int, str, bytes]:
        """→ status, content type, content."""
        address = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        call = Call(method, address.path, query, json.loads(sent) if sent else None, headers)
        try:
            status, answer = 200, self.answer(call)
        except Status as problem:
            status, answer = problem.code, problem.body
        if isinstance(answer, str):
            return status, "text/plain", answer.encode()
        return status, "application/json", json.dumps(answer).encode()

    def answer(self, call: Call) -> Any:
        self.calls.append(call)
        self.trouble(call)
        with self.one_at_a_time:
            return copy.deepcopy(self._answer(call))

    def _answer(self, call: Call) -> Any:
        if call.headers["Authorization"] != f"Bearer {TOKEN}":
            raise Status(401, "Unauthorized")
        parts = call.path.strip("/").split("/")
        if parts == ["version"]:
            return {"gitVersion": "v1.33.1"}
        if call.path.endswith("/selfsubjectaccessreviews"):
            asked = call.body["spec"]["resourceAttributes"]
            what = "/".join(filter(None, (asked["resource"], asked["subresource"])))
            return {"status": {"allowed": (asked["verb"], what) not in self.denied}}
        api_version, rest = (parts[1], parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
        if not rest:
            return self._discovery(api_version)
        if api_version == "apps/v1" and call.query.get("labelSelector", "").startswith("control-plane"):
            return {"items": self._controllers(self.controller) if self.controller else []}
        if rest[0] == "namespaces" and len(rest) == 2 and call.method == "GET":
            if rest[1] not in self.namespaces:
                raise Status(404, f'namespaces "{rest[1]}" not found')
            bare = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": rest[1]}}
            return self.objects.get(("namespaces", rest[1]), bare)
        plural, *name = rest[2:] if rest[0] == "namespaces" and len(rest) > 2 else rest
        if plural == "events" and not name:
            return {"items": self._events(call)}
        if plural in ("deployments", "pods") and not name:
            chosen = call.query["labelSelector"].removeprefix("serving.kserve.io/inferenceservice=")
            service = self.objects.get(("inferenceservices", chosen))
            return {"items": list(getattr(self, f"_{plural}")(service)) if service else []}
        if plural == "configmaps" and call.method in ("POST", "PUT"):
            return self._write(plural, call)
        if self.kserve and (plural, call.method) == ("pods", "DELETE"):
            self.kserve.delete_pod(name[0])
            return {}
        if self.kserve and plural == "deployments" and name[1:] == ["scale"]:
            service = self.objects["inferenceservices", name[0].removesuffix("-predictor")]
            self.kserve.scale(service, call.body["spec"]["replicas"])
            return {}
        if plural == "pods":
            return "\n".join(self.log[-int(call.query["tailLines"]) :]) + "\n"
        if plural == "services" and "/proxy/" in call.path:
            return self._serve(call)
        if call.method != "GET" and name and (plural, name[0]) not in self.objects and call.method != "PATCH":
            raise Status(404, f'{plural} "{name[0]}" not found')
        return getattr(self, f"_{call.method.lower()}")(plural, name[0], call)

    def _discovery(self, api_version: str) -> Object:
        kinds = self.kinds.get(api_version)
        if kinds is None:
            raise Status(404, "the server could not find the requested resource")
        found = [
            {"name": name, "kind": kind, "namespaced": kind not in IN_NO_NAMESPACE} for kind, name in kinds.items()
        ]
        status = [{"name": f"{item['name']}/status", "kind": item["kind"], "namespaced": True} for item in found]
        return {"resources": found + status}

    def _controllers(self, controller: Object) -> list[Object]:
        metadata = {"name": "kserve-controller-manager", "labels": controller.get("labels", {})}
        containers = [{"name": "proxy", "image": "proxy:v9.9.9"}, {"name": "manager", "image": controller["image"]}]
        return [{"metadata": metadata, "spec": {"template": {"spec": {"containers": containers}}}}]

    def _get(self, plural: str, name: str, call: Call) -> Object:
        if (plural, name) not in self.objects:
            raise Status(404, f'{plural} "{name}" not found')
        found = self.objects[plural, name]
        if found["metadata"].get("deletionTimestamp") and self.finalized:
            self._remove(plural, name)  # the next look finds nothing
            return found
        if plural == "inferenceservices" and self.kserve:
            self.kserve.look(found)
            return copy.deepcopy(found) | {"status": self.kserve.status(found)}
        if plural == "inferenceservices":
            mark = _mark(found)
            self._looks[mark] = self._looks.get(mark, -1) + 1
            found = found | {"status": self._status(found)}
        return found

    def _delete(self, plural: str, name: str, call: Call) -> Object:
        live = self.objects[plural, name]
        assert call.body["preconditions"]["uid"] == live["metadata"]["uid"]
        if plural != "inferenceservices":
            return self._remove(plural, name)
        live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        live["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
        return live

    def _remove(self, plural: str, name: str) -> Object:
        """Removes all that it owns too, like the garbage collector."""
        gone = self.objects.pop((plural, name))
        for key, found in list(self.objects.items()):
            owners = found["metadata"].get("ownerReferences", [])
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners) and key in self.objects:
                self._remove(*key)
        if plural == "inferenceservices" and self.kserve:
            self.kserve.forget(gone)
        return gone

    def _write(self, plural: str, call: Call) -> Object:
        """Creates an object, or replaces the one that was read."""
        thing: Object = call.body
        name = thing["metadata"]["name"]
        live = self.objects.get((plural, name))
        if call.method == "POST" and live:
            raise Status(409, f'{plural} "{name}" already exists')
        if call.method == "PUT" and live is None:
            raise Status(404, f'{plural} "{name}" not found')
        if live and thing["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise Status(409, f'Operation cannot be fulfilled on {plural} "{name}": the object has been modified')
        stored = copy.deepcopy(thing)
        stored["metadata"] = self._new(thing)["metadata"] | stored["metadata"]
        stored["metadata"]["resourceVersion"] = str(next(self._counter))
        self.objects[plural, name] = stored
        return stored

    def _patch(self, plural: str, name: str, call: Call) -> Object:
        assert call.headers["Content-Type"] == "application/apply-patch+yaml"
        assert call.query["fieldManager"] == MANAGER
        assert call.query["force"] == "false"
        thing: Object = call.body
        live = self.objects.get((plural, name))
        expected = thing["metadata"].get("resourceVersion")
        if expected and expected != (live or {}).get("metadata", {}).get("resourceVersion"):
            raise Status(409, f'Operation cannot be fulfilled on {plural} "{name}": the object has been modified')
        if live is not None:
            self._check_conflicts(live, thing)
        if call.query.get("dryRun"):
            return thing
        stored = live or self._new(thing)
        before = copy.deepcopy(stored.get("spec"))
        managed = stored["metadata"]["managedFields"]
        mine = next((entry for entry in managed if entry["manager"] == MANAGER), None)
        if mine is not None:
            managed.remove(mine)
            take_away(stored, mine["fieldsV1"], fields_of(thing), [entry["fieldsV1"] for entry in managed])
        merge(stored, {key: value for key, value in thing.items() if key != "metadata"})
        for key in ("labels", "annotations"):
            stored["metadata"].setdefault(key, {}).update(thing["metadata"].get(key, {}))
        if "ownerReferences" in thing["metadata"]:
            stored["metadata"]["ownerReferences"] = thing["metadata"]["ownerReferences"]
        managed.append({"manager": MANAGER, "operation": "Apply", "time": self.now, "fieldsV1": fields_of(thing)})
        if stored.get("spec") != before:
            stored["metadata"]["generation"] += 1
        stored["metadata"]["resourceVersion"] = str(next(self._counter))
        self.objects[plural, name] = stored
        return stored

    def _new(self, thing: Object) -> Object:
        metadata = {key: thing["metadata"][key] for key in ("name", "namespace") if key in thing["metadata"]}
        more = {"uid": f"uid-{next(self._counter)}", "generation": 0, "managedFields": []}
        return {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "metadata": metadata | more}

    def _check_conflicts(self, live: Object, thing: Object) -> None:
        causes = []
        for entry in live["metadata"]["managedFields"]:
            if entry["manager"] == MANAGER:
                continue
            for path in conflicting(live, thing, entry):
                message = f'conflict with "{entry["manager"]}" using {thing["apiVersion"]}'
                name = "." + ".".join(path)
                causes.append({"reason": "FieldManagerConflict", "message": message, "field": name})
        if causes:
            raise Status(409, f"Apply failed with {len(causes)} conflict", causes)

    # KServe and the nodes.

    def _events(self, call: Call) -> list[Object]:
        """The requested events; one that names no object applies to all."""
        found = [event for thing in self._services() if self.kserve for event in self.kserve.events(thing)]
        selector = call.query.get("fieldSelector", "")
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        return [event for event in (*self.events, *found) if _is_selected(event, wanted)]

    def _services(self) -> list[Object]:
        return [thing for (plural, _), thing in self.objects.items() if plural == "inferenceservices"]

    def _moment(self, service: Object) -> Moment:
        script = self.scripts.get(_uri(service), AT_ONCE)
        return script[min(max(self._looks.get(_mark(service), 0), 0), len(script) - 1)]

    def _status(self, service: Object) -> Object:
        moment, name = self._moment(service), service["metadata"]["name"]
        return {
            "conditions": [{"type": "Ready", "status": "True" if moment.ready else "False"}, *moment.conditions],
            "url": self.url_of(name),
            "deploymentMode": self.mode,
            "components": {"predictor": {"latestReadyRevision": f"{name}-predictor-00002"}},
            "modelStatus": moment.model,
        }

    def _deployments(self, service: Object) -> Iterator[Object]:
        if self.kserve:
            yield from self.kserve.deployments(service)
            return
        moment = self._moment(service)
        if not moment.has_deployment:
            return
        replicas = moment.replicas or service["spec"]["predictor"].get("minReplicas", 1)
        counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas * moment.ready}
        yield {
            "metadata": {"name": f"{service['metadata']['name']}-predictor", "generation": 2},
            "spec": {"replicas": replicas, "template": {"metadata": {"annotations": _handed_on(service)}}},
            "status": {"observedGeneration": 2} | counts | moment.deployment,
        }

    def _pods(self, service: Object) -> Iterator[Object]:
        if self.kserve:
            yield from self.kserve.pods(service)
            return
        moment, name = self._moment(service), f"{service['metadata']['name']}-predictor"
        if not (moment.ready and moment.has_pod):
            yield {  # one of the previous version, which is fine
                "metadata": {"name": f"{name}-old", "annotations": {"torchserve-alexnet/deployed": "before"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
        if moment.has_pod:
            labels = {"serving.knative.dev/revision": f"{name}-00002"} if self.mode == "Knative" else {}
            metadata = {"name": f"{name}-new", "labels": labels, "annotations": _handed_on(service)}
            yield {"metadata": metadata, "status": moment.pod}

    def _serve(self, call: Call) -> Any:
        """The pod's own answer, or the proxy's on its behalf."""
        _, _, asked = call.path.partition("/services/http:")
        host, _, route = asked.partition(":80/proxy")
        name = host.removesuffix("-00002").removesuffix("-predictor")
        assert host == (f"{name}-predictor" if self.mode == "Standard" else f"{name}-predictor-00002")
        assert call.headers["Knative-Serving-Revision"] == (None if self.mode == "Standard" else host)
        if self.kserve:
            return self.kserve.ask(self.objects["inferenceservices", name], call)
        uri = _uri(self.objects["inferenceservices", name])
        model = self.models.get(uri, "alexnet")
        answers, usual = {
            ("POST", f"/v1/models/{model}:predict"): (self.answers, ANSWER),
            ("GET", f"/v1/models/{model}"): (self.readiness, IS_READY | {"name": model}),
        }.get((call.method, route), ({}, None))
        status, body = answers.get(uri, (200, usual) if usual else (404, {"error": "path: there is nothing here"}))
        if status != 200:
            problem = Status(status, "")
            problem.body = body
            raise problem
        return body


def _mark(service: Object) -> str:
    return str(service["metadata"].get("annotations", {}).get("torchserve-alexnet/deployed"))


def _uri(service: Object) -> str:
    return str(service["spec"]["predictor"]["model"]["storageUri"])


def _handed_on(service: Object) -> Object:
    """KServe passes on an InferenceService's annotations, and adds one of its own."""
    annotations: Object = service["metadata"].get("annotations", {})
    return annotations | {"internal.serving.kserve.io/storage-initializer-sourceuri": _uri(service)}


def _is_selected(event: Object, wanted: dict[str, str]) -> bool:
    """Filters by `involvedObject.name=…` and the like, and by `type=Warning`."""
    about = event.get("involvedObject")
    values = {f"involvedObject.{key}": value for key, value in (about or {}).items()} | {"type": event.get("type")}
    return about is None or all(values.get(key) == value for key, value in wanted.items())


class _Visit(BaseHTTPRequestHandler):
    server: ApiServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is sent in one piece
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):  # the client was stopped
            super().handle_one_request()

    def serve(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, kind, content = self.server.respond(self.command, self.path, self.headers, sent)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


# --- Fixtures ---------------------------------------------------------------------------------------------------------

MANIFESTS = """
apiVersion: v1
kind: ServiceAccount
metadata:
  name: alexnet
---
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata:
  name: alexnet-torchserve
spec:
  supportedModelFormats:
    - name: pytorch
  containers:
    - name: kserve-container
      image: registry.example/alexnet:1
      env:
        - name: ONE
          value: "1"
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: alexnet
  annotations:
    serving.kserve.io/deploymentMode: Standard
spec:
  predictor:
    minReplicas: 1
    serviceAccountName: alexnet
    model:
      modelFormat:
        name: pytorch
      runtime: alexnet-torchserve
      storageUri: gs://BUCKET/alexnet/VERSION
"""
KUSTOMIZATION = """
resources: [manifests.yaml]
configurations: [names.yaml]
labels:
  - pairs:
      app.kubernetes.io/part-of: torchserve-alexnet
"""


@pytest.fixture
def api(user_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """The cluster of the current kube context, in this process and its children."""
    with in_a_thread(ApiServer()) as served:
        monkeypatch.setenv("KUBECONFIG", str(write_kube_config(tmp_path / "kube-config", served.url)))
        yield served


def write_kube_config(file: Path, url: str, user: Object | None = None, **changes: Any) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": user or {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "here", "user": "me", "namespace": "models"}}],
    }
    file.write_text(json.dumps(config | changes))
    return file


@pytest.fixture
def overlays(tmp_path: Path) -> Path:
    """A folder of overlays: `standard`, and `stock-runtime`, which has no ServingRuntime."""
    made = tmp_path / "overlays"
    for name in ("standard", "stock-runtime"):
        (made / name).mkdir(parents=True)
        (made / name / "kustomization.yaml").write_text(KUSTOMIZATION)
        (made / name / "manifests.yaml").write_text(MANIFESTS)
        shutil.copy(CHECKOUT / "kserve" / "base" / "names.yaml", made / name)
    account, _, service = MANIFESTS.split("---\n")
    (made / "stock-runtime" / "manifests.yaml").write_text(f"{account}---\n{service}")
    return made
