"""Deploys a version on KServe: checks, applies, waits, tests it with a question, and rolls back to the one before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from pipeline.artefact.model import MODEL_NAME
from pipeline.artefact.version import Version
from pipeline.deployment.annotations import (
    OBJECTS,
    OVERLAY,
    objects_from_list,
    our_annotations_of,
    reference_to,
)
from pipeline.deployment.candidate import candidates_left
from pipeline.deployment.changes import Changes
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import (
    LeftAsItIs,
    NotDeployed,
    NothingToReturnTo,
    NoVersionBefore,
    OutOfReach,
    PlaceholderImage,
    Refused,
    RolledBack,
    VersionFailed,
    WayBackFailed,
)
from pipeline.deployment.golden import Golden
from pipeline.deployment.history import History, proved
from pipeline.deployment.kserve_versions import KServeVersion, fitted
from pipeline.deployment.manifests import STANDARD, check_namespace, in_namespace, in_order, placed, render
from pipeline.deployment.models import model_of, with_model
from pipeline.deployment.names import SERVICE, check_free_ending, check_name
from pipeline.deployment.objects import (
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    Object,
    image_of,
    name_of,
    service_in,
    service_of,
    storage_uri_of,
    title_of,
)
from pipeline.deployment.pace import Pace
from pipeline.deployment.preflight import (
    NEEDED_TO_WAIT,
    check_cluster,
    check_helpers,
    check_image,
    check_kserve,
    check_permissions,
    tell_version,
    to_apply,
    to_delete,
    version_at,
)
from pipeline.deployment.proof import serves
from pipeline.deployment.reach import way_in
from pipeline.deployment.records import Records
from pipeline.deployment.registries import check_registry
from pipeline.deployment.removal import Removal
from pipeline.deployment.resources import INFERENCE_SERVICES, SERVING_RUNTIMES
from pipeline.deployment.rollout import Rollout
from pipeline.deployment.smoke_test import ask_model
from pipeline.deployment.trial import Trial
from pipeline.deployment.voice import Voice
from pipeline.shared.errors import PipelineError


class Deployment:
    """An InferenceService of kserve/overlays in one namespace of a cluster, which may hold several.

    name: the service's; by default the overlay's own, or else the model's.
    model: its name, if known: a version in Cloud Storage has it too, and an overlay or a service may.

    Every method raises PipelineError. If a signal ends one (see Terminated), `voice.warn` gets the state it leaves.
    """

    def __init__(
        self,
        cluster: Cluster,
        overlays: Path,
        voice: Voice | None = None,
        pace: Pace | None = None,
        name: str | None = None,
        model: str | None = None,
    ) -> None:
        if name is not None:
            check_name(name)
        self._name = name
        self._model = model
        self._cluster = cluster
        self._overlays = overlays
        self._voice = voice or Voice()
        self._pace = pace or Pace()
        self._changes = Changes(cluster.namespace, self._called)
        self._kserve: KServeVersion | None = None  # until it is read from the cluster

    def deploy(
        self,
        storage_uri: str,
        overlay: str = STANDARD,
        image: str | None = None,
        rollback: bool = True,
        golden: Golden | None = None,
    ) -> str:
        """Applies a version, and waits until it answers → how to call it from here, see `way_in`.

        A version that does not answer is rolled back, if there is one to go back to, before this raises.
        golden: pictures that the version must answer as the live one does, before the live one is changed.
        """
        with self._changes.named_when_stopped(self._voice.warn):
            storage_uri, version = self._version_at(storage_uri)
            rendered = self._rendered(overlay, storage_uri, image, version.model if version else self._model)
            self._changes.service = name_of(service_of(rendered))
            self._check_cluster()
            rendered = fitted(rendered, self._kserve)
            self._check_objects(rendered)
            tell_version(storage_uri, version, self._voice)
            self._apply_dry(rendered)
            history = self._history(rendered)
            if version is None and self._model is None and model_of(service_of(rendered)) == MODEL_NAME:
                rendered = with_model(rendered, history.model)  # no other is named, so it is still that one
            objects = history.noted_in(rendered, overlay)
            if golden is not None:
                trial = Trial(self._cluster, self._kserve, self._changes, self._voice, self._pace)
                trial.compare(objects, golden)
                history = self._history(rendered)  # that took a while
            return self._roll_out(objects, history.before(objects), rollback)

    def roll_back(self) -> str:
        """Returns to the previous version that has proved itself → as `deploy`.

        Doing it twice ends where it began.
        """
        with self._changes.named_when_stopped(self._voice.warn):
            self._check_cluster()
            name = self._called
            live = self._cluster.get(INFERENCE_SERVICES, name)
            if live is None:
                raise NotDeployed(name, self._cluster.namespace)
            check_permissions(self._cluster, [*NEEDED_TO_WAIT], lambda _: None)
            history = self._history([live])
            objects = history.before_live()
            if objects is None:
                raise NoVersionBefore(storage_uri_of(live))
            objects = fitted(objects, self._kserve)
            storage_uri = str(storage_uri_of(service_of(objects)))
            self._check_objects(objects)
            tell_version(storage_uri, version_at(storage_uri)[1], self._voice)
            self._apply_dry(objects)
            url = self._roll_out(objects, history.before(objects), rollback=False)
            self._voice.say(f"back at      {storage_uri}")
            return url

    def delete(self, overlay: str | None = None) -> None:
        """Removes what this tool applied from an overlay (by default: from all of them), and nothing else."""
        with self._changes.named_when_stopped(self._voice.warn):
            check_cluster(self._cluster, self._voice.say)
            perhaps = self._perhaps_applied(overlay)
            objects = [found for found in perhaps if self._cluster.knows(found["apiVersion"], found["kind"])]
            check_permissions(self._cluster, to_delete(self._cluster, objects), self._voice.say)
            objects += candidates_left(self._cluster, objects)
            Removal(self._cluster, self._changes, self._voice, self._pace).remove(objects)

    # --- What to apply, and what was applied --------------------------------------------------------------------------

    @property
    def _called(self) -> str:
        """The service's name, if no overlay gives one."""
        return self._named or SERVICE

    @property
    def _named(self) -> str | None:
        """The name that the caller gave; None if the overlay may choose."""
        return self._name or (None if self._model == SERVICE else self._model)

    def _version_at(self, storage_uri: str) -> tuple[str, Version | None]:
        """As `version_at`. Raises PipelineError if it is a version of another model than the given one."""
        storage_uri, version = version_at(storage_uri)
        if version and self._model not in (None, version.model):
            raise PipelineError(
                f"{storage_uri} is a version of {version.model}, not of {self._model}: give that model's file, or none"
            )
        return storage_uri, version

    def _rendered(self, overlay: str, storage_uri: str, image: str | None, model: str | None) -> list[Object]:
        """model: its name, if known."""
        objects = render(self._overlays, overlay, self._name)
        check_namespace(objects, overlay, self._cluster.namespace)
        model = model or model_of(service_of(objects))
        if self._name is None and model != SERVICE and name_of(service_of(objects)) == SERVICE:
            objects = render(self._overlays, overlay, _as_service(model))
        objects = with_model(placed(objects, storage_uri, image), model)
        chosen = image_of(objects) or ""
        repository = re.sub(r"(@.*|:[^/:]*)$", "", chosen)
        if repository != repository.lower():  # which no registry allows
            folder = f"{self._overlays.parent.name}/{self._overlays.name}/{overlay}"
            raise PlaceholderImage(chosen, f"{folder}/kustomization.yaml")
        return in_namespace(objects, self._cluster.namespace)

    def _perhaps_applied(self, overlay: str | None) -> list[Object]:
        """This overlay's objects; by default the last overlay's, and those of earlier ones by their names."""
        if overlay is not None:
            objects = render(self._overlays, overlay, self._named)
            check_namespace(objects, overlay, self._cluster.namespace)
            self._changes.service = name_of(service_of(objects))
            return in_namespace(objects, self._cluster.namespace)
        name = self._called
        is_known = self._cluster.knows(INFERENCE_SERVICES.api_version, INFERENCE_SERVICE)
        live = self._cluster.get(INFERENCE_SERVICES, name) if is_known else None
        ours = our_annotations_of(live)
        objects = render(self._overlays, ours.get(OVERLAY, STANDARD), name)
        rendered = {reference_to(found) for found in objects}
        earlier = objects_from_list(ours.get(OBJECTS, ""))
        objects += [found for found in earlier if reference_to(found) not in rendered]
        return in_namespace(in_order(objects), self._cluster.namespace)

    def _check_cluster(self) -> None:
        check_cluster(self._cluster, self._voice.say)
        self._kserve = check_kserve(self._cluster, self._voice)

    def _check_objects(self, objects: list[Object]) -> None:
        """The checks that need no dry run."""
        check_helpers(self._cluster, service_of(objects), self._voice.warn)
        check_registry(self._cluster, service_of(objects), self._kserve, self._voice.warn)
        check_permissions(self._cluster, [*to_apply(self._cluster, objects), *NEEDED_TO_WAIT], self._voice.say)
        check_image(image_of(objects), self._voice.say)

    def _apply_dry(self, objects: list[Object]) -> None:
        """The API server's own checks."""
        for found in objects:
            self._cluster.apply(found, dry_run=True)

    def _history(self, objects: list[Object]) -> History:
        """What was there before these objects. If it serves, but is not the latest record, it is recorded now."""
        live = self._live(objects)
        service = service_in(live)
        records = Records(self._cluster, name_of(service_of(objects)))
        history = History(live, records.read(service))
        if service is None or history.is_up_to_date:
            return history
        self._voice.progress("asking the live model")
        uri = storage_uri_of(service)
        try:
            if serves(self._cluster, service, image_of(live), self._pace):
                records.add(history.live_as_proved(), service)
                return History(live, records.read(service))
            self._voice.warn(f"{uri}, the live version, does not serve: it will not be rolled back to")
        except OutOfReach as error:
            self._voice.warn(f"cannot tell whether {uri}, the live version, serves: {error}")
        except Refused as error:
            self._voice.warn(f"could not record that {uri} serves: {error}")
        return history

    def _live(self, objects: list[Object]) -> list[Object]:
        """Those of these objects that the cluster has, as it has them; of runtimes, the one that the service names."""
        looked_for = [self._cluster.get(self._cluster.resource_of(thing), name_of(thing)) for thing in objects]
        found = [thing for thing in looked_for if thing]
        service = service_in(found)
        runtime = service and service["spec"]["predictor"].get("model", {}).get("runtime")
        live = [thing for thing in found if thing["kind"] != SERVING_RUNTIME]
        if runtime and (thing := self._cluster.get(SERVING_RUNTIMES, runtime)):
            live.append(thing)
        return in_order(live)

    # --- Rolling out and back -----------------------------------------------------------------------------------------

    def _roll_out(self, objects: list[Object], earlier: list[Object] | None, rollback: bool) -> str:
        """earlier: what to go back to if these objects do not serve. rollback: whether to go back."""
        try:
            return self._apply_and_prove(objects)
        except VersionFailed as failure:
            for line in failure.logs:
                self._voice.warn(line)
            if not rollback:
                raise LeftAsItIs(failure, name_of(service_of(objects)), earlier is not None) from None
            if earlier is None:
                raise NothingToReturnTo(failure, name_of(service_of(objects))) from None
            self._go_back(earlier, failure)
        except PipelineError as error:
            raise PipelineError(f"{error} ({self._changes.state()})") from None

    def _go_back(self, earlier: list[Object], failure: VersionFailed) -> NoReturn:
        storage_uri = str(storage_uri_of(service_of(earlier)))
        self._voice.warn(f"{failure}; going back to {storage_uri}")
        self._changes.begin()
        try:
            self._apply_and_prove(fitted(earlier, self._kserve))
        except PipelineError as again:
            raise WayBackFailed(failure, storage_uri, again, self._changes.state()) from None
        raise RolledBack(failure, storage_uri) from None

    def _note(self, objects: list[Object], service: Object) -> None:
        """A failure to record does not matter: the version serves, and the next deployment asks it again."""
        try:
            Records(self._cluster, name_of(service)).add(proved(objects), service)
        except PipelineError as error:
            self._voice.warn(f"could not record that {storage_uri_of(service)} serves: {error}")

    def _apply_and_prove(self, objects: list[Object]) -> str:
        """→ how to call it. Raises VersionFailed, or what the cluster raises."""
        for found in objects:
            of_which = f" with {storage_uri_of(found)}" if found["kind"] == INFERENCE_SERVICE else ""
            with self._changes.making(f"apply {title_of(found)}{of_which}"):
                self._cluster.apply(found)
        self._voice.say(f"applied      {', '.join(map(title_of, objects))}")
        rollout = Rollout(self._cluster, objects, self._pace, self._voice.progress)
        ready = rollout.wait()
        self._voice.progress("asking the model")
        label = ask_model(self._cluster, ready, self._pace)
        self._note(objects, rollout.live())
        if label is None:
            untried = "no prediction was tried, since the service requires credentials"
            self._voice.say(f"ready        the model says so; {untried}")
        else:
            self._voice.say(f"predicted    {label} (for a black picture)")
        return way_in(self._cluster, ready, objects, self._voice)


def _as_service(model: str) -> str:
    """A model's name as its service's name. Raises PipelineError if it is not valid as one."""
    try:
        check_name(model)
        check_free_ending(model)
    except PipelineError as error:
        raise PipelineError(f"the service would be named after the model: {error}; give --name") from None
    return model
