"""Deploying a version on KServe: checked, applied, waited for, asked a question; and back to the version before."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artefact.model import MODEL_NAME
from pipeline.deployment.applied_fields import applied_by
from pipeline.deployment.cluster import FIELD_MANAGER, RUNTIMES, SERVICES, Cluster, NoAnswer
from pipeline.deployment.manifests import fingerprint, image_of, in_namespace, placed, render, service, storage_uri_of
from pipeline.deployment.preflight import (
    NEEDED_TO_WAIT,
    check_cluster,
    check_kserve,
    check_permissions,
    check_version,
    to_apply,
    to_delete,
)
from pipeline.deployment.rollout import DEPLOYED, NotReady, Pace, Rollout
from pipeline.serving.question import QUESTION
from pipeline.shared.errors import PipelineError
from pipeline.shared.signals import Terminated

Object = dict[str, Any]
Line = Callable[[str], None]

# Annotations of the InferenceService: from any machine one can go back.
OVERLAY = "torchserve-alexnet/overlay"
PREVIOUS_URI = "torchserve-alexnet/previous-storage-uri"
PREVIOUS_IMAGE = "torchserve-alexnet/previous-image"
OBJECTS = "torchserve-alexnet/objects"  # all that was ever applied with it, for --delete
NOTES = (DEPLOYED, OVERLAY, PREVIOUS_URI, PREVIOUS_IMAGE, OBJECTS)

STANDARD = "standard"
ITS_OWN_ERRORS = tuple({*range(400, 600)} - {401, 403})  # those two are the API server's
MODE = "serving.kserve.io/deploymentMode"


SHARED = ("Namespace", "ClusterStorageContainer")  # with what is not ours


class SmokeTestFailed(PipelineError):
    """The service is ready, and does not answer as this model does."""


@dataclass(frozen=True)
class Voice:
    """How a deployment speaks. `progress` is called at every look, mostly with what it said already."""

    say: Line = lambda _: None
    warn: Line = lambda _: None
    progress: Line = lambda _: None


class Deployment:
    """The InferenceService of kserve/overlays in one namespace of a cluster.

    Every method raises PipelineError. A signal that ends one (see Terminated) leaves a state that `voice.warn` names.
    """

    def __init__(self, cluster: Cluster, overlays: Path, voice: Voice | None = None, pace: Pace | None = None) -> None:
        self._cluster = cluster
        self._overlays = overlays
        self._voice = voice or Voice()
        self._pace = pace or Pace()
        self._done: list[str] = []  # what the cluster was asked to change
        self._under_way: str | None = None

    def deploy(self, storage_uri: str, overlay: str = STANDARD, image: str | None = None, rollback: bool = True) -> str:
        """Applies a version, and waits until it answers → the service's URL.

        One that does not is rolled back, where there is a version to go back to, before this raises.
        """
        with self._naming_the_state():
            objects = self._rendered(overlay, storage_uri, image)
            self._check(objects, storage_uri)
            before = _Before(self._live(objects))
            noted = _noted(objects, before.notes_for(objects, overlay))
            return self._roll_out(noted, before.to_return_to(noted) if rollback else None, rollback)

    def roll_back(self) -> str:
        """Returns to the version before → the service's URL. Done twice, it is where it was."""
        with self._naming_the_state():
            check_cluster(self._cluster, self._voice.say)
            check_kserve(self._cluster, self._voice.say, self._voice.warn)
            live = self._cluster.get(SERVICES, MODEL_NAME)
            if live is None:
                raise PipelineError(
                    f"there is no InferenceService {MODEL_NAME} in namespace {self._cluster.namespace}: "
                    "deploy one with --storage-uri, or choose another --namespace"
                )
            runtime_name = live["spec"]["predictor"].get("model", {}).get("runtime")
            runtime = self._cluster.get(RUNTIMES, runtime_name) if runtime_name else None
            objects = _previous([found for found in (runtime, live) if found])
            if objects is None:
                raise PipelineError(
                    f"there is no version before {storage_uri_of(live)} to go back to: "
                    "deploy another with --storage-uri"
                )
            uri = str(storage_uri_of(service(objects)))
            self._check(objects, uri, cluster_too=False)
            url = self._roll_out(objects, None, rollback=False)
            self._voice.say(f"back at      {uri}")
            return url

    def delete(self, overlay: str | None = None) -> None:
        """Removes what this applied of an overlay (without one: of all that were), and nothing else."""
        with self._naming_the_state():
            check_cluster(self._cluster, self._voice.say)
            known = self._cluster.resource(SERVICES.api_version, "InferenceService") is not None
            live = self._cluster.get(SERVICES, MODEL_NAME) if known else None
            rendered = render(self._overlays, overlay or _notes(live).get(OVERLAY, STANDARD))
            earlier = _named(_notes(live).get(OBJECTS, "")) if overlay is None else []
            rendered += [found for found in earlier if _listed([found]) not in {_listed([one]) for one in rendered}]
            objects = [
                found
                for found in in_namespace(rendered, self._cluster.namespace)
                if self._cluster.resource(found["apiVersion"], found["kind"]) is not None
            ]
            check_permissions(self._cluster, to_delete(self._cluster, objects), self._voice.say)
            self._delete(objects)

    # --- Applying -----------------------------------------------------------------------------------------------------

    def _rendered(self, overlay: str, storage_uri: str, image: str | None) -> list[Object]:
        objects = placed(render(self._overlays, overlay), storage_uri, image)
        repository = re.sub(r"(@.*|:[^/:]*)$", "", image_of(objects) or "")
        if repository != repository.lower():  # which no registry has
            raise PipelineError(
                f"{image_of(objects)} is the placeholder of an image: give --image, or edit "
                f"{self._overlays.parent.name}/{self._overlays.name}/{overlay}/kustomization.yaml"
            )
        return in_namespace(objects, self._cluster.namespace)

    def _check(self, objects: list[Object], storage_uri: str, cluster_too: bool = True) -> None:
        """All that can be known beforehand; the API server's own checks are run dry."""
        say, warn = self._voice.say, self._voice.warn
        if cluster_too:
            check_cluster(self._cluster, say)
            check_kserve(self._cluster, say, warn)
        check_permissions(self._cluster, [*to_apply(self._cluster, objects), *NEEDED_TO_WAIT], say)
        check_version(storage_uri, say, warn)
        for found in objects:
            self._cluster.apply(found, dry_run=True)

    def _live(self, objects: list[Object]) -> list[Object]:
        looked_for = [self._cluster.get(self._cluster.resource_of(found), _name(found)) for found in objects]
        return [found for found in looked_for if found]

    def _roll_out(self, objects: list[Object], earlier: list[Object] | None, rollback: bool) -> str:
        try:
            return self._apply_and_prove(objects)
        except (NotReady, SmokeTestFailed) as error:
            for line in getattr(error, "logs", []):
                self._voice.warn(line)
            if not rollback:
                has_previous = PREVIOUS_URI in _notes(service(objects))
                way = "--rollback returns to what was before" if has_previous else "deploy another, or use --delete"
                raise PipelineError(f"{error}; it is left as it is ({way})") from None
            if earlier is None:
                raise PipelineError(
                    f"{error}; there is no earlier version to go back to, so it is left in place: "
                    "deploy another, or remove it with scripts/deploy.sh --delete"
                ) from None
            reason = str(error)
        except PipelineError as error:
            raise PipelineError(f"{error} ({self._state()})") from None
        raise self._went_back(earlier, reason)

    def _went_back(self, earlier: list[Object], reason: str) -> PipelineError:
        """Goes back, and returns what is to be said of it."""
        uri = storage_uri_of(service(earlier))
        self._voice.warn(f"{reason}; going back to {uri}")
        self._done = []
        try:
            self._apply_and_prove(earlier)
        except PipelineError as again:
            return PipelineError(f"{reason}; going back to {uri} failed as well: {again} ({self._state()})")
        return PipelineError(f"{reason}; rolled back to {uri}, which is ready again")

    def _apply_and_prove(self, objects: list[Object]) -> str:
        for found in objects:
            of_which = f" with {storage_uri_of(found)}" if found["kind"] == "InferenceService" else ""
            with self._doing(f"apply {_what(found)}{of_which}"):
                self._cluster.apply(found)
        name, mark = _name(service(objects)), _notes(service(objects))[DEPLOYED]
        self._voice.say(f"applied      {', '.join(map(_what, objects))}")
        ready = Rollout(self._cluster, name, mark, self._pace, self._voice.progress).wait()
        self._prove(ready)
        return str(ready["status"].get("url") or f"http://{name}-predictor.{self._cluster.namespace}.svc.cluster.local")

    def _prove(self, ready: Object) -> None:
        """One real question, through the API server's proxy. Raises SmokeTestFailed."""
        self._voice.progress("asking the model")
        target, headers = f"{_name(ready)}-predictor", {}
        mode = ready["status"].get("deploymentMode") or ready["metadata"].get("annotations", {}).get(MODE)
        if mode in ("Knative", "Serverless"):
            # There that name is an alias of the ingress gateway; a revision's own Service may lead to the activator,
            # which learns from these headers what to wake.
            target = ready["status"]["components"]["predictor"]["latestReadyRevision"]
            headers = {"Knative-Serving-Namespace": self._cluster.namespace, "Knative-Serving-Revision": target}
        path = f"/api/v1/namespaces/{self._cluster.namespace}/services/http:{target}:80/proxy"
        path += f"/v1/models/{MODEL_NAME}:predict"
        deadline = time.monotonic() + self._pace.smoke
        while True:
            try:
                answer = self._cluster.ask(
                    "POST", path, body=QUESTION, allowed=ITS_OWN_ERRORS, headers=headers, timeout=self._pace.answer
                )
            except NoAnswer:
                raise SmokeTestFailed(
                    f"ready, but the model does not answer a prediction within {self._pace.answer[1]:g} s"
                ) from None
            if answer.status not in (502, 503, 504) or time.monotonic() >= deadline:
                break
            time.sleep(self._pace.poll)  # the proxy may learn of a new pod a moment after it is ready
        if "error trying to reach service" in answer.message and "timeout" in answer.message:
            raise PipelineError(
                f"ready, but the API server cannot reach it ({answer.message}): a NetworkPolicy or a firewall may "
                "refuse that, so ask it from elsewhere with scripts/predict.sh --url URL"
            )
        if answer.status != 200:
            said = answer.body.get("error") if isinstance(answer.body, dict) else None
            raise SmokeTestFailed(
                f"ready, but the model does not answer a prediction ({answer.status}: {said or answer.message})"
            )
        try:
            (prediction,) = answer.body["predictions"]
            self._voice.say(f"predicted    {prediction['classes'][0]['label']} (of a black picture)")
        except (KeyError, TypeError, ValueError, IndexError):
            raise SmokeTestFailed(
                f"ready, but what answers is not this model ({answer.message[:100]}): is the storageUri of another?"
            ) from None

    # --- Removing -----------------------------------------------------------------------------------------------------

    def _delete(self, objects: list[Object]) -> None:
        going = []
        for found in reversed(objects):
            resource, what = self._cluster.resource_of(found), _what(found)
            live = self._cluster.get(resource, _name(found))
            if live is None:
                continue
            if applied_by(FIELD_MANAGER, live) is None:
                self._voice.warn(f"{what} was not applied by this tool: it stays")
            elif found["kind"] in SHARED:
                self._voice.warn(f"{what} stays, others may use it: kubectl delete {found['kind']} {_name(found)}")
            else:
                with self._doing(f"delete {what}"):
                    self._cluster.delete(resource, live)
                self._await_absence(found, live["metadata"]["uid"])
                going.append(what)
        self._voice.say(f"deleted      {', '.join(going)}" if going else "nothing to delete")

    def _await_absence(self, found: Object, uid: str) -> None:
        deadline = time.monotonic() + self._pace.timeout
        resource, what = self._cluster.resource_of(found), _what(found)
        while (live := self._cluster.get(resource, _name(found))) and live["metadata"]["uid"] == uid:
            self._voice.progress(f"waiting until {what} is gone")
            if time.monotonic() > deadline:
                waits_for = ", ".join(live["metadata"].get("finalizers", [])) or "nothing that it names"
                raise PipelineError(
                    f"{what} is being deleted, but not gone within {self._pace.timeout:g} s; it waits for {waits_for}: "
                    "see that KServe's controller runs, and run this again"
                )
            time.sleep(self._pace.poll)

    # --- Signals ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _naming_the_state(self) -> Iterator[None]:
        self._done, self._under_way = [], None
        try:
            yield
        except Terminated:
            self._voice.warn(f"interrupted; {self._state()}")
            raise

    def _state(self) -> str:
        """What the cluster was asked for, and how to go on."""
        done = [*self._done, *([f"perhaps {self._under_way}"] if self._under_way else [])]
        if not done:
            return "nothing was changed"
        return (
            f"in namespace {self._cluster.namespace} this has been asked for, and the cluster goes on with it: "
            f"{', '.join(done)}; run this again to follow it, or use --rollback or --delete"
        )

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        self._under_way = what
        yield
        self._done.append(what)
        self._under_way = None


class _Before:
    """What was there before a deployment."""

    def __init__(self, live: list[Object]) -> None:
        self._live = live
        self._service = next((found for found in live if found["kind"] == "InferenceService"), None)

    @property
    def _is_ready(self) -> bool:
        conditions = (self._service or {}).get("status", {}).get("conditions", [])
        return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)

    def notes_for(self, objects: list[Object], overlay: str) -> dict[str, str]:
        """The annotations of what is to be applied. A version that never was ready is none to go back to."""
        notes = {OVERLAY: overlay, DEPLOYED: fingerprint(objects, NOTES), OBJECTS: self._all(objects)}
        if self._service is None:
            return notes
        uri, image = storage_uri_of(self._service), image_of(self._live)
        is_another = (uri, image) != (storage_uri_of(service(objects)), image_of(objects))
        if is_another and uri and self._is_ready:
            return notes | {PREVIOUS_URI: uri} | ({PREVIOUS_IMAGE: image} if image else {})
        return notes | {
            name: was for name, was in _notes(self._service).items() if name in (PREVIOUS_URI, PREVIOUS_IMAGE)
        }

    def to_return_to(self, objects: list[Object]) -> list[Object] | None:
        """As this tool applied it, field for field, where it did; else these objects with the version before."""
        if self._service is None:
            return None
        is_another = _notes(self._service).get(DEPLOYED) != _notes(service(objects))[DEPLOYED]
        if is_another and self._is_ready:
            own = [applied_by(FIELD_MANAGER, found) for found in self._live]
            was = [found for found in own if found]
            if any(found["kind"] == "InferenceService" and DEPLOYED in _notes(found) for found in was):
                return _noted(was, _notes(service(was)) | {OBJECTS: self._all(objects)})
            older = placed(objects, str(storage_uri_of(self._service)), image_of(self._live))
            return _noted(older, _notes(service(older)) | {DEPLOYED: fingerprint(older, NOTES)})
        notes = _notes(self._service)
        if PREVIOUS_URI not in notes:
            return None
        older = placed(objects, notes[PREVIOUS_URI], notes.get(PREVIOUS_IMAGE) if image_of(objects) else None)
        overlay = notes.get(OVERLAY, STANDARD)
        return _noted(older, {OVERLAY: overlay, DEPLOYED: fingerprint(older, NOTES), OBJECTS: self._all(objects)})

    def _all(self, objects: list[Object]) -> str:
        """What these objects are called, and those of the deployments before."""
        return _listed([*objects, *_named(_notes(self._service).get(OBJECTS, ""))])


def _previous(live: list[Object]) -> list[Object] | None:
    """These objects with the version that their annotations remember, which then remember the one they have."""
    notes = _notes(service(live))
    own = [found for found in (applied_by(FIELD_MANAGER, found) for found in live) if found]
    if PREVIOUS_URI not in notes or not any(found["kind"] == "InferenceService" for found in own):
        return None
    older = placed(own, notes[PREVIOUS_URI], notes.get(PREVIOUS_IMAGE) if image_of(own) else None)
    remembered = {name: notes[name] for name in (OVERLAY, OBJECTS) if name in notes}
    remembered |= {PREVIOUS_URI: str(storage_uri_of(service(live)))}
    if image := image_of(live):
        remembered[PREVIOUS_IMAGE] = image
    return _noted(older, remembered | {DEPLOYED: fingerprint(older, NOTES)})


def _noted(objects: list[Object], notes: dict[str, str]) -> list[Object]:
    """The same objects, whose InferenceService has these of our annotations."""
    target = service(objects)
    others = {name: was for name, was in target["metadata"].get("annotations", {}).items() if name not in NOTES}
    annotated = target | {"metadata": target["metadata"] | {"annotations": others | notes}}
    return [annotated if found is target else found for found in objects]


def _notes(inference_service: Object | None) -> dict[str, str]:
    annotations = (inference_service or {}).get("metadata", {}).get("annotations", {})
    return {name: annotations[name] for name in NOTES if name in annotations}


def _listed(objects: list[Object]) -> str:
    return "; ".join(sorted({f"{found['apiVersion']} {found['kind']} {_name(found)}" for found in objects}))


def _named(listed: str) -> list[Object]:
    """The reverse: objects that have no more than their names."""
    parts = [entry.split(" ") for entry in listed.split("; ") if entry]
    return [{"apiVersion": version, "kind": kind, "metadata": {"name": name}} for version, kind, name in parts]


def _name(found: Object) -> str:
    return str(found["metadata"]["name"])


def _what(found: Object) -> str:
    return f"{found['kind']} {_name(found)}"
