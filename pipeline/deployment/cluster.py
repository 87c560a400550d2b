"""A Kubernetes cluster: getting in, asking it, applying objects, and what went wrong, in one line with its remedy."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import urllib3
import yaml
from kubernetes import client, config

from pipeline.shared.errors import PipelineError
from pipeline.shared.text import one_line

Object = dict[str, Any]

FIELD_MANAGER = "torchserve-alexnet"
DEFAULT_CONFIG = "~/.kube/config"
TIMEOUT = (5, 30)  # seconds, to connect and to read
GET_CREDENTIALS = "run gcloud container clusters get-credentials CLUSTER --location LOCATION"
LOGIN = "run gcloud auth login, then gcloud container clusters get-credentials CLUSTER --location LOCATION"


class Unreachable(PipelineError):
    """Nobody answered, or nobody could: it may pass."""


class NoAnswer(Unreachable):
    """Who was asked took the question, and said nothing in time."""


class Refused(PipelineError):
    """The API server refuses."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def body(self) -> Any:
        """What the JSON says; {} where it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return {}

    @property
    def message(self) -> str:
        """The sentence of a Kubernetes Status, on one line; or the body, where it is something else."""
        body = self.body
        said = body.get("message") if isinstance(body, dict) else None
        return one_line(said or self.text, 500)


@dataclass(frozen=True)
class Resource:
    """A kind as the API server calls it: `inferenceservices` of `serving.kserve.io/v1beta1`."""

    api_version: str
    plural: str
    namespaced: bool

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def name(self) -> str:
        """As kubectl and error messages have it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str, name: str = "") -> str:
        prefix = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        inside = f"/namespaces/{quote(namespace)}" if self.namespaced else ""
        return f"{prefix}{inside}/{self.plural}" + (f"/{quote(name)}" if name else "")


SERVICES = Resource("serving.kserve.io/v1beta1", "inferenceservices", True)
RUNTIMES = Resource("serving.kserve.io/v1alpha1", "servingruntimes", True)
DEPLOYMENTS = Resource("apps/v1", "deployments", True)
PODS = Resource("v1", "pods", True)
EVENTS = Resource("v1", "events", True)


class Cluster:
    """The cluster of the current kube context. Every call raises PipelineError: Unreachable, or Refused.

    namespace: without one, that of the context, or else `default`.
    """

    def __init__(self, namespace: str | None = None) -> None:
        self._api, self.context, default = _api_client()
        self.namespace = namespace or default
        self._resources: dict[str, dict[str, Resource]] = {}

    def close(self) -> None:
        self._api.rest_client.pool_manager.clear()

    @cached_property
    def version(self) -> str:
        """Of Kubernetes. The first call to make: it needs no permission."""
        return str(self.ask("GET", "/version").body.get("gitVersion", "of an unknown version"))

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """None where the cluster does not have this kind."""
        if api_version not in self._resources:
            path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
            listed = self.ask("GET", path, allowed=(404,)).body.get("resources", [])
            self._resources[api_version] = {
                found["kind"]: Resource(api_version, found["name"], found["namespaced"])
                for found in listed
                if "/" not in found["name"]  # those are of subresources
            }
        return self._resources[api_version].get(kind)

    def resource_of(self, thing: Object) -> Resource:
        """Raises PipelineError where the cluster does not have the kind of this object."""
        found = self.resource(thing["apiVersion"], thing["kind"])
        if found is None:
            raise PipelineError(
                f"the cluster does not have {thing['kind']} ({thing['apiVersion']}), which this overlay uses: "
                "install what brings it, or choose another --overlay"
            )
        return found

    def get(self, resource: Resource, name: str) -> Object | None:
        """None where there is none."""
        answer = self.ask("GET", resource.path(self.namespace, name), allowed=(404,))
        return answer.body if answer.status == 200 else None

    def find(self, resource: Resource, **query: str) -> list[Object]:
        return list(self.ask("GET", resource.path(self.namespace), query=query).body.get("items", []))

    def may(self, verb: str, resource: Resource, subresource: str = "") -> bool:
        attributes = {"verb": verb, "group": resource.group, "resource": resource.plural, "subresource": subresource}
        if resource.namespaced:
            attributes["namespace"] = self.namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self.ask("POST", path, body=review).body.get("status", {}).get("allowed"))

    def apply(self, thing: Object, dry_run: bool = False) -> Object:
        """Server-side apply; fields of other managers are left to them, or refused."""
        resource, name = self.resource_of(thing), thing["metadata"]["name"]
        query = {"fieldManager": FIELD_MANAGER, "force": "false"} | ({"dryRun": "All"} if dry_run else {})
        path = resource.path(self.namespace, name)
        applied: Object = self.ask("PATCH", path, query, thing, "application/apply-patch+yaml").body
        return applied

    def delete(self, resource: Resource, live: Object) -> None:
        """This very object, not one of the same name that came after it; and what it owns, first."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": live["metadata"]["uid"]}}
        path = resource.path(self.namespace, live["metadata"]["name"])
        self.ask("DELETE", path, body=body, allowed=(404,))

    def logs(self, pod: str, container: str, previous: bool, lines: int) -> list[str]:
        """The last lines of a container, or of its previous run; none where there are none to have."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        try:
            return self.ask("GET", f"{PODS.path(self.namespace, pod)}/log", query).text.splitlines()[-lines:]
        except PipelineError:
            return []

    def ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        allowed: tuple[int, ...] = (),
        headers: dict[str, str] | None = None,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> Answer:
        """One call. `allowed`: statuses that are answers like any other, beside 2xx. `timeout`: to connect, to read."""
        headers = {"Accept": "application/json, */*", "User-Agent": FIELD_MANAGER} | (headers or {})
        if body is not None:
            headers["Content-Type"] = content_type
        request = self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=json.dumps(body) if body is not None and content_type != "application/json" else body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._api.call_api(*request, _request_timeout=timeout)
            answer = Answer(response.status, response.read().decode(errors="replace"))
        except urllib3.exceptions.HTTPError as error:
            sentence = _unreachable(error, self.context, self._api.configuration.host)
            is_silence = isinstance(getattr(error, "reason", None) or error, urllib3.exceptions.ReadTimeoutError)
            raise (NoAnswer if is_silence else Unreachable)(sentence) from None
        except (client.ApiException, OSError) as error:
            raise Unreachable(_unreachable(error, self.context, self._api.configuration.host)) from None
        if 200 <= answer.status < 300 or answer.status in allowed:
            return answer
        is_passing = answer.status == 500 and method == "GET"  # "etcdserver: leader changed", for one
        if is_passing or answer.status in (429, 502, 503, 504):
            raise Unreachable(f"the API server is busy ({answer.status}: {answer.message}): run this again in a minute")
        raise Refused(_refusal(answer, method, path), answer.status)


def _api_client() -> tuple[Any, str, str]:
    """A client, the name of the current context, and its namespace."""
    said = _Said()
    logging.getLogger().addHandler(said)  # where the kubernetes package says what its plugins could not do
    where = os.environ.get("KUBECONFIG") or DEFAULT_CONFIG
    files = [os.path.expanduser(file) for file in where.split(os.pathsep) if file]
    if not any(os.path.exists(file) for file in files):
        raise PipelineError(f"no kube config at {where}: {GET_CREDENTIALS}")
    try:
        _, current = config.list_kube_config_contexts(where)  # type: ignore[no-untyped-call]
        configuration = client.Configuration()
        config.load_kube_config(  # type: ignore[no-untyped-call]
            where, client_configuration=configuration, persist_config=False
        )
    except (config.ConfigException, yaml.YAMLError, OSError, LookupError, TypeError, ValueError) as error:
        name = re.search(r"object with name (.*) in \S+/contexts list", str(error))
        if name and name[1]:
            raise PipelineError(
                f"the kube config {where} has no context {name[1]}: choose another with kubectl config use-context, "
                f"or {GET_CREDENTIALS}"
            ) from None
        if name or "current-context" in str(error):
            raise PipelineError(
                f"the kube config {where} has no current context: choose one with kubectl config use-context"
            ) from None
        raise PipelineError(f"the kube config {where} cannot be used ({one_line(error)}): {GET_CREDENTIALS}") from None
    finally:
        logging.getLogger().removeHandler(said)
    if said.lines:
        raise PipelineError(f"the kube config's credentials plugin failed ({one_line(said.lines[-1])}): {LOGIN}")
    configuration.retries = urllib3.Retry(total=1, redirect=0, status=0)
    return client.ApiClient(configuration), current["name"], current["context"].get("namespace") or "default"


class _Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


# --- What went wrong --------------------------------------------------------------------------------------------------


def _unreachable(error: Exception, context: str, host: str) -> str:
    reason = getattr(error, "reason", None) or error
    said = one_line(reason)
    if "certificate" in said.lower():
        return f"the certificate of {host} is not trusted ({said}): {GET_CREDENTIALS}"
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        said = "its name cannot be resolved"
    elif isinstance(reason, urllib3.exceptions.NewConnectionError):
        said = said.rpartition("] ")[2].lower()
    elif isinstance(reason, urllib3.exceptions.TimeoutError):
        said = "no answer in time"
    return (
        f"the cluster of context {context} does not answer at {host} ({said}): check that it runs and that this "
        f"network may reach it, or {GET_CREDENTIALS}"
    )


def _refusal(answer: Answer, method: str, path: str) -> str:
    said, details = answer.message, answer.body.get("details", {}) if isinstance(answer.body, dict) else {}
    if answer.status == 401 or "system:anonymous" in said:
        return f"the cluster does not accept your credentials (expired, or none): {LOGIN}"
    if webhook := re.search(r'admission webhook "([^"]+)" denied the request: (?:\[?denied by \S+\]? )?(.*)', said):
        return f"{_thing(path)} is refused by the admission webhook {webhook[1]}: {webhook[2]}"
    if webhook := re.search(r'failed calling webhook "([^"]+)": (.*)', said):
        return (
            f"the admission webhook {webhook[1]} does not answer ({webhook[2]}): "
            "see kubectl -n kserve get pods, and wait until KServe runs"
        )
    if "exceeded quota" in said:
        return f"{_thing(path)}: {said[said.index('exceeded quota') :]}: free some, or have the quota raised"
    if missing := re.search(r'^namespaces "([^"]+)" not found', said):
        return f"there is no namespace {missing[1]}: kubectl create namespace {missing[1]}, or choose another"
    if answer.status == 403:
        may_not = re.search(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"(.*)', said)
        if may_not:
            resource = f"{may_not[2]}.{may_not[3]}" if may_not[3] else may_not[2]
            place = re.search(r'in the namespace "([^"]+)"', may_not[4])
            where = f"in namespace {place[1]}" if place else "in the cluster"
            return f"you may not {may_not[1]} {resource} {where}: ask for a role that allows it"
    conflicts = [cause for cause in details.get("causes", []) if cause.get("reason") == "FieldManagerConflict"]
    if conflicts:
        return _conflict(conflicts, path)
    return f"{method} {path}: the API server refuses ({answer.status}): {said}"


def _conflict(causes: list[dict[str, str]], path: str) -> str:
    managers = sorted({(re.search(r'"([^"]+)"', cause["message"]) or ["", "another manager"])[1] for cause in causes})
    fields = ", ".join(cause["field"] for cause in causes)
    where = re.search(r"/namespaces/([^/]+)/([^/]+)/([^/]+)$", path)
    removal = f" (kubectl -n {where[1]} delete {where[2]} {where[3]})" if where else ""
    return (
        f"{_thing(path)}: {fields} was set by another field manager, {' and '.join(managers)}: "
        f"change it with that, or remove the object{removal} and run this again"
    )


def _thing(path: str) -> str:
    kind, name = path.rsplit("/", 2)[-2:]
    return f"{name} ({kind})"
