"""Reading from a cluster, and applying objects."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import urllib3

from pipeline.deployment.answer import Answer
from pipeline.deployment.kube_config import current_context
from pipeline.deployment.objects import Object, name_of
from pipeline.deployment.refusals import refusal, unreachable
from pipeline.deployment.resources import PODS, Resource, path_of
from pipeline.deployment.sdk import client
from pipeline.shared.errors import PipelineError

FIELD_MANAGER = "torchserve-alexnet"
TIMEOUT = (5, 30)  # seconds, to connect and to read


class Cluster:
    """The cluster of the current kube context. Every call raises PipelineError: Unreachable, or Refused.

    namespace: by default the context's, or else `default`.
    """

    def __init__(self, namespace: str | None = None) -> None:
        found = current_context()
        self._api = found.api
        self.context = found.name
        self.namespace = namespace or found.namespace
        self._resources: dict[str, dict[str, Resource]] = {}

    def close(self) -> None:
        self._api.rest_client.pool_manager.clear()

    @cached_property
    def version(self) -> str:
        """Kubernetes' version. Call this first: it needs no permission."""
        return str(self.ask("GET", "/version").fields.get("gitVersion", "of an unknown version"))

    def knows(self, api_version: str, kind: str) -> bool:
        """Whether the cluster has this kind."""
        return self._resource(api_version, kind) is not None

    def resource_of(self, thing: Object) -> Resource:
        """Raises PipelineError if the cluster does not have this object's kind."""
        found = self._resource(thing["apiVersion"], thing["kind"])
        if found is None:
            raise PipelineError(
                f"the cluster does not have {thing['kind']} ({thing['apiVersion']}), which this overlay uses: "
                "install what provides it, or choose another --overlay"
            )
        return found

    def _resource(self, api_version: str, kind: str) -> Resource | None:
        """One call for each apiVersion; a refusal is raised.

        The library's dynamic client makes three, and caches the answers in /tmp under a name that anybody can guess:
        whoever writes that file first decides where objects are sent.
        """
        if api_version not in self._resources:
            listed = self.ask("GET", path_of(api_version), allowed=(404,)).fields.get("resources", [])
            self._resources[api_version] = {
                found["kind"]: Resource(api_version, found["name"], found["namespaced"])
                for found in listed
                if "/" not in found["name"]  # those are subresources
            }
        return self._resources[api_version].get(kind)

    def get(self, resource: Resource, name: str) -> Object | None:
        """None if it does not exist."""
        answer = self.ask("GET", resource.path(self.namespace, name), allowed=(404,))
        return answer.body if answer.status == 200 else None

    def find(self, resource: Resource, **query: str) -> list[Object]:
        return list(self.ask("GET", resource.path(self.namespace), query=query).fields.get("items", []))

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
        return bool(self.ask("POST", path, body=review).fields.get("status", {}).get("allowed"))

    def apply(self, thing: Object, dry_run: bool = False) -> Object:
        """Server-side apply. Fields of other managers are left alone; a conflict is refused."""
        query = {"fieldManager": FIELD_MANAGER, "force": "false"} | ({"dryRun": "All"} if dry_run else {})
        path = self.resource_of(thing).path(self.namespace, name_of(thing))
        applied: Object = self.ask("PATCH", path, query, thing, "application/apply-patch+yaml").body
        return applied

    def write(self, thing: Object) -> None:
        """Writes a whole object that only we manage: a new one, or a replacement for that resourceVersion."""
        resource = self.resource_of(thing)
        is_new = "resourceVersion" not in thing["metadata"]
        path = resource.path(self.namespace, "" if is_new else name_of(thing))
        self.ask("POST" if is_new else "PUT", path, {"fieldManager": FIELD_MANAGER}, thing)

    def delete(self, resource: Resource, live: Object) -> None:
        """Deletes exactly this object, not a later one of the same name, and first what it owns."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": live["metadata"]["uid"]}}
        path = resource.path(self.namespace, name_of(live))
        self.ask("DELETE", path, body=body, allowed=(404,))

    def logs(self, pod: str, container: str, previous: bool, lines: int) -> list[str]:
        """The last lines of a container, or of its previous run; empty if they cannot be read."""
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
        """One call. `allowed`: statuses besides 2xx that are not errors. `timeout`: to connect, and to read."""
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
            response = self._api.call_api(*request, _request_timeout=timeout).response
            answer = Answer(response.status, response.data.decode(errors="replace"))
        except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
            raise unreachable(error, self.context, self._api.configuration.host) from None
        if 200 <= answer.status < 300 or answer.status in allowed:
            return answer
        raise refusal(answer, method, path)
