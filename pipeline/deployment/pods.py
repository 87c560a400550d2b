"""What a pod reports about its containers, as far as a deployment needs it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.deployment.objects import Object

INITIALIZER = "storage-initializer"


@dataclass(frozen=True)
class Ended:
    """How a run of a container ended."""

    exit_code: int | None
    reason: str


@dataclass(frozen=True)
class Container:
    """`waits_for`: why it does not run, such as `ImagePullBackOff`. `ended`: this run; `ended_before`: the previous."""

    name: str
    restarts: int
    is_running: bool
    waits_for: str
    message: str
    ended: Ended | None
    ended_before: Ended | None


def init_containers_of(pod: Object) -> list[Container]:
    return [_container(status) for status in pod.get("status", {}).get("initContainerStatuses", [])]


def containers_of(pod: Object) -> list[Container]:
    """Without init containers."""
    return [_container(status) for status in pod.get("status", {}).get("containerStatuses", [])]


def doing_of(pod: Object) -> str:
    """What a pod that is not ready yet is doing, for the user."""
    for container in init_containers_of(pod):
        if container.name == INITIALIZER and container.is_running:
            return "downloading the model"
        if container.ended is None:
            return f"{container.name} is starting"
    containers = containers_of(pod)
    if any(container.is_running for container in containers):
        return "loading the model"
    return "pulling images" if containers else "being scheduled"


def _container(status: Object) -> Container:
    state = status.get("state", {})
    waiting = state.get("waiting", {})
    return Container(
        status["name"],
        status.get("restartCount", 0),
        "running" in state,
        waiting.get("reason") or "",
        waiting.get("message") or "",
        _ended(state),
        _ended(status.get("lastState", {})),
    )


def _ended(state: Object) -> Ended | None:
    terminated = state.get("terminated")
    return Ended(terminated.get("exitCode"), terminated.get("reason") or "") if terminated else None
