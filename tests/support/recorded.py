"""What real clusters showed, moment by moment, from tests/pipeline/deployment/recorded/*.yaml.

    seen: a sentence on what was seen, and where
    answers: {three: wrongly}      versions whose pods answer a prediction wrongly; the others answer
    steps:
      - do: deploy three           also: deploy three --no-rollback, … --overlay scaled, --rollback, --delete, nothing
        then:                      what the cluster shows, from when on the InferenceService has this version
          - live: three
            moments:               one for each look; the last stays
              - ready: False MinimumReplicasUnavailable
                deployment: three, 2 wanted, 3 there, 1 new, 2 available
                pods: [two ready, two ready, three crashing]
                events: [InferenceService ServerlessModeRejected it is not possible]
        ends: rolled back to two   what the last line has; nothing where all is well
        live: two                  which version the InferenceService has at the end
        least: 2                   and its minReplicas
        deletes: [plural, …]       what is deleted, in order
        told once: [what is said in one line and not again]
        never told: [what is not said]

A step also knows `interrupted: N`, before the look N of the step, and `meanwhile: {look: N, do: …}`, which another
machine does then, and which ends as `the other ends` says. `looks at least: N`: no end before the look N.
`version` stands for the storageUri pvc://models/version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.deployment.annotations import DEPLOYED
from pipeline.deployment.objects import Object, annotations_of, name_of, storage_uri_of
from tests.support.api_server import ANSWER, IS_READY, ApiServer, Call, Status
from tests.support.simulated_kserve import SOURCE_URI, Version, version_of

CRASHED: Object = {"terminated": {"exitCode": 1, "reason": "Error"}}
RUNNING: Object = {"running": {}}


def _server(**state: Any) -> Object:
    return {"phase": "Running", "containerStatuses": [{"name": "kserve-container", **state}]}


def _waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


# A pod's status for each word.
PODS = {
    "pending": {"phase": "Pending"},
    "unschedulable": {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
        ],
    },
    "downloading": {
        "phase": "Pending",
        "initContainerStatuses": [{"name": "storage-initializer", "state": RUNNING}],
    },
    "loading": _server(state=RUNNING),
    "ready": _server(state=RUNNING) | {"conditions": [{"type": "Ready", "status": "True"}]},
    "crashing": _server(restartCount=3, state=_waiting("CrashLoopBackOff"), lastState=CRASHED),
    "pull-failed": _server(state=_waiting("ErrImagePull", "not found")),
    "pull-again": _server(state=_waiting("ImagePullBackOff", 'Back-off pulling image "x"')),
}


@dataclass
class Moment:
    """deployment: the version of its template, then counts; None if there is none. pods: version and word."""

    ready: tuple[str, str] = ("Unknown", "")
    deployment: tuple[str, dict[str, int]] | None = None
    pods: list[tuple[str, str]] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)


def moment_of(text: Object) -> Moment:
    status, _, why = str(text.get("ready", "Unknown")).partition(" ")
    moment = Moment((status, why))
    if "deployment" in text:
        version, *counts = str(text["deployment"]).split(", ")
        pairs = [count.split(" ") for count in counts]
        moment.deployment = version, {what: int(number) for number, what in pairs}
    moment.pods = [(version, word) for version, word in (str(pod).split(" ") for pod in text.get("pods", []))]
    moment.events = [(kind, why, said) for kind, why, said in (e.split(" ", 2) for e in text.get("events", []))]
    return moment


def uri_of(version: str) -> str:
    return f"pvc://models/{version}"


def scenarios(folder: Path) -> dict[str, Object]:
    return {file.stem: yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))}


class RecordedKServe:
    """Replays the recording to whoever looks at the InferenceService.

    answered: versions that answered a prediction as they should.
    """

    def __init__(self, api: ApiServer, wrong: set[str]) -> None:
        self._api = api
        self._wrong = wrong
        self._phases: list[tuple[str, list[Moment]]] = []
        self._moments: list[Moment] = [Moment()]
        self._applied: tuple[str, str] | None = None
        self._handed_on: dict[str, dict[str, str]] = {}  # the annotations of a version's pods
        self.now = Moment()
        self.looks = 0
        self.answered: set[Version] = set()

    def begin(self, phases: list[Object]) -> None:
        """A step; with a first phase of the version that is live by then, what that shows from now on."""
        self.looks = 0
        self._phases = [(phase["live"], [moment_of(text) for text in phase["moments"]]) for phase in phases]
        if self._applied and self._phases and self._phases[0][0] == self._applied[0]:
            _, self._moments = self._phases.pop(0)

    def look(self, service: Object) -> None:
        version = str(storage_uri_of(service)).rpartition("/")[2]
        applied = version, annotations_of(service).get(DEPLOYED, "")
        if applied != self._applied:
            assert self._phases, f"nothing was recorded for {version} here"
            expected, self._moments = self._phases.pop(0)
            assert version == expected, f"{version} was applied where {expected} was recorded"
            self._applied = applied
            self._handed_on[version] = annotations_of(service) | {SOURCE_URI: str(storage_uri_of(service))}
        self.now = self._moments.pop(0) if len(self._moments) > 1 else self._moments[0]
        self.looks += 1

    def status(self, service: Object) -> Object:
        status, why = self.now.ready
        conditions = [{"type": kind, "status": status, "reason": why} for kind in ("PredictorReady", "Ready")]
        return {
            "conditions": [*conditions, {"type": "Stopped", "status": "False"}],
            "url": f"http://{name_of(service)}-models.example.com",
            "deploymentMode": "Standard",
        }

    def deployments(self, service: Object) -> Iterator[Object]:
        if self.now.deployment is None:
            return
        version, counts = self.now.deployment
        is_seen = "unseen" not in counts
        yield {
            "metadata": {"name": f"{name_of(service)}-predictor", "generation": 2},
            "spec": {
                "replicas": counts["wanted"],
                "template": {"metadata": {"annotations": self._handed_on.get(version, {})}},
            },
            "status": {
                "observedGeneration": 2 if is_seen else 1,
                "replicas": counts["there"],
                "updatedReplicas": counts["new"],
                "availableReplicas": counts["available"],
            },
        }

    def pods(self, service: Object) -> Iterator[Object]:
        image = version_of(self._api, service).image
        for number, (version, word) in enumerate(self.now.pods):
            going = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if word == "going" else {}
            yield {
                "metadata": {"name": f"{version}-{number}", "annotations": self._handed_on.get(version, {})} | going,
                "spec": {"containers": [{"name": "kserve-container", "image": image}]},
                "status": PODS["ready" if going else word],
            }

    def events(self, service: Object) -> list[Object]:
        about = {"name": name_of(service), "namespace": "models", "uid": service["metadata"]["uid"]}
        return [
            {
                "type": "Warning",
                "reason": why,
                "message": said,
                "involvedObject": about | {"kind": kind},
                "lastTimestamp": "2026-01-01T00:00:00Z",
            }
            for kind, why, said in self.now.events
        ]

    def ask(self, service: Object, call: Call) -> Object:
        """The first ready pod answers: the oldest."""
        ready = [version for version, word in self.now.pods if word == "ready"]
        if not ready:
            raise Status(503, "no endpoints available for service")
        if ready[0] in self._wrong:
            return {"predictions": []}
        if not call.path.endswith(":predict"):
            return IS_READY
        self.answered.add(Version(uri_of(ready[0]), version_of(self._api, service).image))
        return ANSWER

    def scale(self, service: Object, replicas: int) -> None:
        raise NotImplementedError

    def delete_pod(self, name: str) -> None:
        raise NotImplementedError

    def forget(self, service: Object) -> None:
        self._applied = None
