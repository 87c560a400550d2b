"""Promotion by evidence: before traffic moves, a new version gets the same pictures as the live one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rich.console import Console

from pipeline.deployment.annotations import DEPLOYED
from pipeline.deployment.candidate import age_of, candidate_of, check_free, live_of, own_of
from pipeline.deployment.changes import Changes
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.errors import NotPromoted, OutOfReach, SmokeTestFailed, VersionFailed
from pipeline.deployment.golden import Golden
from pipeline.deployment.kserve_versions import KServeVersion, fitted
from pipeline.deployment.models import model_of
from pipeline.deployment.objects import Object, annotations_of, image_of, name_of, service_of, storage_uri_of, title_of
from pipeline.deployment.pace import Pace
from pipeline.deployment.preflight import check_permissions, to_delete
from pipeline.deployment.proof import serves
from pipeline.deployment.removal import Removal
from pipeline.deployment.resources import INFERENCE_SERVICES, SERVING_RUNTIMES
from pipeline.deployment.rollout import Rollout
from pipeline.deployment.smoke_test import NO_PREDICTION, answer_of, ask_model, said_in
from pipeline.deployment.voice import Voice
from pipeline.serving.comparing import Ask, Picture, ask_both, warm_up
from pipeline.serving.comparison import Comparison, Outcome, fewness
from pipeline.serving.comparison_table import tables
from pipeline.serving.protocol import Class, b64_instance, classes_in
from pipeline.serving.route import predict_route
from pipeline.shared.errors import NotClassified, PipelineError, TooManyCalls
from pipeline.shared.signals import NotedSignals

WIDTH = 100  # of the table, in characters


@dataclass(frozen=True)
class Compared:
    """What identifies a live version. deployed: its fingerprint."""

    name: str
    uid: str
    deployed: str | None
    storage_uri: str | None
    image: str | None


class Trial:
    """Tries a version before it is applied. Whatever happens, the live version stays, and the candidate is removed.

    Every method raises PipelineError.
    """

    def __init__(
        self, cluster: Cluster, kserve: KServeVersion | None, changes: Changes, voice: Voice, pace: Pace
    ) -> None:
        self._cluster = cluster
        self._kserve = kserve
        self._changes = changes
        self._voice = voice
        self._pace = pace
        self._removal = Removal(cluster, changes, voice, pace)

    def compare(self, objects: list[Object], golden: Golden) -> None:
        """objects: those to apply. Raises NotPromoted, whatever went wrong: the live version was not changed.

        Without a live version there is nothing to compare with; a line says so.
        """
        try:
            self._judge(objects, golden)
        except NotPromoted:
            raise
        except PipelineError as error:
            raise NotPromoted(str(error)) from None
        self._changes.begin()

    def _judge(self, objects: list[Object], golden: Golden) -> None:
        live = self._cluster.get(INFERENCE_SERVICES, name_of(service_of(objects)))
        if live is None:
            self._voice.say("golden       skipped: there is no live version to compare with")
            return
        if few := fewness(len(golden.pictures)):
            self._voice.warn(few)
        self._require_answer(live, "the live version")
        compared = self._version_of(live)
        self._require_that_it_serves(live)
        candidate = fitted(candidate_of(objects), self._kserve)
        self._prepare(candidate)
        comparison = self._tried(live, candidate, golden)
        self._wait_until_gone(candidate)
        self._require_still(compared)
        if shortfall := comparison.shortfall(golden.required):
            raise NotPromoted(shortfall)

    def _require_answer(self, service: Object, what: str) -> None:
        self._voice.progress(f"asking {what}")
        try:
            if not service.get("status", {}).get("components"):
                raise SmokeTestFailed("KServe reports nothing ready")
            if ask_model(self._cluster, service, self._pace) is not None:
                return
        except (SmokeTestFailed, OutOfReach) as error:
            raise NotPromoted(f"{what} does not answer ({error}), so --golden has nothing to compare") from None
        raise NotPromoted(f"{what} requires credentials, which --golden does not have: deploy without it")

    def _require_that_it_serves(self, live: Object) -> None:
        """Otherwise the old version's pods may have answered, or those of both."""
        if not serves(self._cluster, live, self._image_of(live), self._pace):
            raise NotPromoted(
                f"{storage_uri_of(live)}, the live version, is not what answers, so --golden has nothing to compare: "
                "wait until the deployment under way ends, or deploy without --golden"
            )

    def _require_still(self, compared: Compared) -> None:
        """The version to be replaced must be the one that was compared, not one that was deployed in the meantime."""
        live = self._cluster.get(INFERENCE_SERVICES, compared.name)
        if live is None or self._version_of(live) != compared:
            raise NotPromoted(f"somebody else deployed {compared.name} during the comparison: wait until that one ends")

    def _version_of(self, live: Object) -> Compared:
        deployed = annotations_of(live).get(DEPLOYED)
        return Compared(name_of(live), live["metadata"]["uid"], deployed, storage_uri_of(live), self._image_of(live))

    def _image_of(self, live: Object) -> str | None:
        name = live["spec"]["predictor"].get("model", {}).get("runtime")
        runtime = self._cluster.get(SERVING_RUNTIMES, name) if name else None
        return image_of([runtime]) if runtime else None

    # --- The candidate ------------------------------------------------------------------------------------------------

    def _prepare(self, candidate: list[Object]) -> None:
        """The checks beforehand; also removes what an earlier run left behind."""
        check_permissions(self._cluster, to_delete(self._cluster, candidate), lambda _: None)
        check_free(self._cluster, candidate)
        if left := live_of(self._cluster, candidate):
            self._require_abandoned(left)
            self._changes.begin(self._then(candidate))
            self._remove(candidate, live_of)
            self._wait_until_gone(candidate)
        for thing in candidate:
            self._cluster.apply(thing, dry_run=True)

    def _require_abandoned(self, left: list[Object]) -> None:
        """A candidate younger than the longest deployment may belong to another run that is still going. If the clocks
        differ, an older one may too: that run then notices, and refuses its version."""
        for live in left:
            age = age_of(live)
            if "deletionTimestamp" not in live["metadata"] and age < self._pace.longest:
                raise PipelineError(
                    f"{title_of(live)} was created {max(age, 0):.0f} s ago, perhaps by another run with --golden that "
                    f"is still comparing: wait until it ends or, if it was killed, {self._remedy(left)}"
                )

    def _tried(self, live: Object, candidate: list[Object], golden: Golden) -> Comparison:
        """No signal prevents the candidate's removal. Nor does one cut off a request to apply it, which might take
        effect after the removal."""
        with NotedSignals() as signals:
            try:
                self._changes.begin(self._then(candidate))
                self._apply(candidate)
                with signals.heeded():
                    return self._compare(live, candidate, golden)
            finally:
                self._remove(candidate, own_of)
                signals.obey()

    def _apply(self, candidate: list[Object]) -> None:
        for thing in candidate:
            with self._changes.making(f"apply {title_of(thing)}"):
                self._cluster.apply(thing)

    def _compare(self, live: Object, candidate: list[Object], golden: Golden) -> Comparison:
        service = service_of(candidate)
        self._voice.say(f"candidate    {name_of(service)} with {storage_uri_of(service)}, next to the live version")
        rollout = Rollout(self._cluster, candidate, self._pace, self._voice.progress)
        try:
            ready = rollout.wait()
        except VersionFailed as failure:
            for line in failure.logs:
                self._voice.warn(line)
            raise NotPromoted(f"the new version does not become ready: {failure}") from None
        self._require_answer(ready, "the new version")
        one, other = self._ask(live), self._ask(ready)
        classes = min(warm_up(ask, golden.pictures[0]) for ask in (one, other))
        try:
            outcomes = list(self._told(ask_both(one, other, golden.pictures, classes), len(golden.pictures)))
            comparison = Comparison(outcomes)
            self._require_own(rollout, candidate)
        except (OutOfReach, NotPromoted):
            raise
        except PipelineError as error:
            raise NotPromoted(f"the comparison did not finish: {error}") from None
        for line in _lines(comparison, str(storage_uri_of(live)), str(storage_uri_of(service))):
            self._voice.say(line)
        if comparison.left_out:
            self._voice.warn(comparison.left_out)
        return comparison

    def _require_own(self, rollout: Rollout, candidate: list[Object]) -> None:
        """Nobody may have replaced the candidate: then the replacement would have answered."""
        rollout.live()
        if len(own_of(self._cluster, candidate)) < len(candidate):
            raise PipelineError(f"another run replaced {name_of(service_of(candidate))}: wait until that one ends")

    def _told(self, outcomes: Iterator[Outcome], count: int) -> Iterator[Outcome]:
        """Reports the progress after each tenth."""
        tenths = 0
        for number, outcome in enumerate(outcomes, 1):
            if number * 10 // count > tenths:
                tenths = number * 10 // count
                self._voice.progress(f"comparing: {number} of {count} pictures")
            yield outcome

    def _ask(self, service: Object) -> Ask:
        """Through the API server's proxy. It sends JSON: not every runtime has the front door, which accepts bytes."""
        once = replace(self._pace, smoke=0)  # no retries: they would hide failures, and count as latency
        route = predict_route(model_of(service))

        def ask(picture: Picture, classes: int) -> list[Class]:
            body = {"instances": [b64_instance(picture.content)], "parameters": {"top_k": classes}}
            try:
                answer = answer_of(self._cluster, service, once, NO_PREDICTION, "POST", route, body)
            except SmokeTestFailed as error:
                raise NotClassified(picture.name, str(error)) from None
            if answer.status == 429:
                raise TooManyCalls(picture.name, said_in(answer))
            if answer.status != 200:
                raise NotClassified(picture.name, said_in(answer))
            try:
                return classes_in(answer.body)
            except (ValueError, LookupError, TypeError):
                raise NotClassified(picture.name, "the answer is not this model's") from None

        return ask

    # --- Its removal --------------------------------------------------------------------------------------------------

    def _remove(self, candidate: list[Object], those: Callable[[Cluster, list[Object]], list[Object]]) -> None:
        """Requests the removal of `those` of it; if that fails, says what is left."""
        self._voice.progress("removing the candidate")
        try:
            left = those(self._cluster, candidate)
            for live in reversed(left):
                with self._changes.making(f"delete {title_of(live)}"):
                    self._cluster.delete(self._cluster.resource_of(live), live)
        except PipelineError as error:
            left_over = f"what is left uses a pod; to remove it: {self._remedy(candidate)}"
            self._voice.warn(f"the candidate could not be removed ({error}); {left_over}")
        else:
            self._changes.begin()
            if left:
                self._voice.say("candidate    removed")

    def _then(self, candidate: list[Object]) -> str:
        return f"the live version was not changed; to remove the candidate: {self._remedy(candidate)}"

    def _remedy(self, candidate: list[Object]) -> str:
        names = " ".join(f"{thing['kind'].lower()}/{name_of(thing)}" for thing in reversed(candidate))
        return f"kubectl --namespace {self._cluster.namespace} delete {names}"

    def _wait_until_gone(self, candidate: list[Object]) -> None:
        """Its pod takes room that the next one may need."""
        for live in live_of(self._cluster, candidate):
            if "deletionTimestamp" in live["metadata"]:
                self._removal.wait_until_gone(live, live["metadata"]["uid"])


def _lines(comparison: Comparison, live: str, new: str) -> list[str]:
    console = Console(file=io.StringIO(), width=WIDTH, markup=False, emoji=False, highlight=False, color_system=None)
    for table in tables(comparison, f"A: live, {live}", f"B: new, {new}"):
        console.print(table)
    written = console.file
    assert isinstance(written, io.StringIO)
    return [line.rstrip() for line in written.getvalue().splitlines() if line.strip()]
