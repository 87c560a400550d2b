"""What stops a deployment.

PipelineError
├── KubeConfigUnusable      the kube config leads to no cluster
├── Unreachable             no answer: it may be temporary
│   └── NoAnswer            the request arrived, but no answer came in time
├── Refused                 the API server refused: carries the HTTP status
│   └── MayNot (403)        a permission is missing
├── NoNamespace             the cluster does not have the namespace
├── OverlayUnusable         an overlay that cannot be rendered, or is not one of this project
├── OtherNamespace          the overlay sets a namespace, and another was requested
├── NotInKServe             this version of KServe lacks something that the overlay needs
├── PlaceholderImage        the overlay's image has not been chosen yet
├── NotDeployed             there is nothing to roll back
├── NoVersionBefore         there is nothing to go back to
├── NotPromoted             a new version differs from the live one, or could not be compared with it
├── VersionFailed           what was applied does not serve: the one reason to roll back
│   ├── NotReady            its pods do not become ready: carries their last log lines
│   └── SmokeTestFailed     it is ready, but does not answer as this model does
├── OutOfReach              it is ready, but the API server cannot reach it
├── LeftAsItIs              a version failed, and rolling back was switched off
├── NothingToReturnTo       a version failed, and it is the first
├── RolledBack              a version failed, and the one before is back
├── WayBackFailed           a version failed, and the one before now fails too
└── NotGone                 an object is being deleted, but is still there
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.deployment.names import with_name
from pipeline.deployment.objects import Object, title_of
from pipeline.shared.errors import PipelineError

GET_CREDENTIALS = "run gcloud container clusters get-credentials CLUSTER --location LOCATION"
LOGIN = "run gcloud auth login, then gcloud container clusters get-credentials CLUSTER --location LOCATION"


class KubeConfigUnusable(PipelineError):
    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"the kube config {where} {problem}")


class Unreachable(PipelineError):
    pass


class NoAnswer(Unreachable):
    pass


class Refused(PipelineError):
    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class MayNot(Refused):
    """what: verbs and resources, such as `get pods/log`. namespace: None for resources without one."""

    def __init__(self, what: str, namespace: str | None) -> None:
        where = f"in namespace {namespace}" if namespace else "in the cluster"
        super().__init__(f"you may not {what} {where}: ask for a role that allows it", 403)


class NoNamespace(PipelineError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no namespace {name}: kubectl create namespace {name}, or choose another --namespace"
        )


class OverlayUnusable(PipelineError):
    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"overlay {name} {problem}")


class OtherNamespace(PipelineError):
    """chosen: the overlay's. namespace: the requested one."""

    def __init__(self, overlay: str, chosen: str, namespace: str) -> None:
        super().__init__(
            f"overlay {overlay} is for namespace {chosen}, not {namespace}, where its settings for {chosen} would not "
            f"apply: give --namespace {chosen}, or edit the overlay"
        )


class NotInKServe(PipelineError):
    """field: the InferenceService's. since, version: KServe's."""

    def __init__(self, field: str, since: str, version: str) -> None:
        super().__init__(
            f"the overlay needs {field}, which KServe has had since {since}, and this cluster has {version}: "
            "upgrade KServe, or remove the component that uses it from the overlay"
        )


class PlaceholderImage(PipelineError):
    def __init__(self, image: str, file: str) -> None:
        super().__init__(f"{image} is a placeholder for an image: give --image, or edit {file}")


class NotDeployed(PipelineError):
    def __init__(self, name: str, namespace: str) -> None:
        super().__init__(
            f"there is no InferenceService {name} in namespace {namespace}: "
            "deploy one with --storage-uri, or choose another --name or --namespace"
        )


class NoVersionBefore(PipelineError):
    def __init__(self, storage_uri: str | None) -> None:
        super().__init__(f"there is no version before {storage_uri} to go back to: deploy another with --storage-uri")


class NotPromoted(PipelineError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; not deployed, the live version was not changed")


class VersionFailed(PipelineError):
    """logs: the last lines of the failed container."""

    def __init__(self, reason: str, logs: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.logs = logs


class NotReady(VersionFailed):
    pass


class SmokeTestFailed(VersionFailed):
    def __init__(self, problem: str) -> None:
        super().__init__(f"ready, but {problem}")


class OutOfReach(PipelineError):
    def __init__(self, said: str) -> None:
        super().__init__(
            f"ready, but the API server cannot reach it ({said}): a NetworkPolicy or a firewall may block that, "
            "so ask it from elsewhere with scripts/predict.sh --url URL"
        )


class LeftAsItIs(PipelineError):
    """name: the service's. has_previous: whether there is a version to go back to."""

    def __init__(self, failure: VersionFailed, name: str, has_previous: bool) -> None:
        back, away = with_name("--rollback", name), with_name("--delete", name)
        way = f"{back} returns to the version before" if has_previous else f"deploy another, or use {away}"
        super().__init__(f"{failure}; it is left as it is ({way})")


class NothingToReturnTo(PipelineError):
    def __init__(self, failure: VersionFailed, name: str) -> None:
        super().__init__(
            f"{failure}; there is no earlier version to go back to, so it is left in place: "
            f"deploy another, or remove it with scripts/deploy.sh {with_name('--delete', name)}"
        )


class RolledBack(PipelineError):
    def __init__(self, failure: VersionFailed, storage_uri: str) -> None:
        super().__init__(f"{failure}; rolled back to {storage_uri}, which is ready again")


class WayBackFailed(PipelineError):
    """state: what was requested from the cluster."""

    def __init__(self, failure: VersionFailed, storage_uri: str, again: PipelineError, state: str) -> None:
        super().__init__(f"{failure}; going back to {storage_uri} failed as well: {again} ({state})")


class NotGone(PipelineError):
    """live: the object as the cluster has it. seconds: how long this waited."""

    def __init__(self, live: Object, seconds: float) -> None:
        waits_for = ", ".join(live["metadata"].get("finalizers", [])) or "nothing it names"
        super().__init__(
            f"{title_of(live)} is being deleted, but was not gone within {seconds:g} s; it is waiting for {waits_for}: "
            "check that KServe's controller is running, and run this again"
        )
