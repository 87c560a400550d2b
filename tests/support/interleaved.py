"""deploy.sh's commands in a simulated cluster, disturbed wherever a test wants, and the invariants.

Test modules import this and name it as a plugin, for its fixtures: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import copy
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import pytest

from pipeline.deployment import deploy as deploying
from pipeline.deployment import manifests
from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from pipeline.deployment.objects import Object, annotations_of
from pipeline.deployment.pace import Pace
from pipeline.shared.errors import PipelineError
from pipeline.shared.signals import Terminated
from tests.support.api_server import MANAGER, ApiServer, KServe
from tests.support.deployments import Heard
from tests.support.ends import End
from tests.support.simulated_kserve import Version, version_of
from tests.support.without_sockets import connect, timeless

PACE = Pace(timeout=60, poll=1, patience=5, smoke=3)
Disturb = Callable[[str, str], None]  # takes a call's method and path
SERVICE = ("inferenceservices", "alexnet")


class World:
    """A cluster, and the machines that deploy to it.

    alone: whether one at a time does. Else an InferenceService may meet the other's ServingRuntime.
    """

    def __init__(self, api: ApiServer, overlays: Path, kserve: KServe) -> None:
        self.api = api
        self.kserve = api.kserve = kserve
        self._overlays = overlays
        self.alone = True

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Somebody else deploys meanwhile."""
        self.alone = False
        yield
        self.alone = True

    @property
    def live(self) -> Version | None:
        service = self.api.objects.get(SERVICE)
        return None if service is None else version_of(self.api, service)

    @property
    def spec(self) -> Any:
        return copy.deepcopy(self.api.objects.get(SERVICE, {}).get("spec")), self.live

    def deploy(self, version: Version, overlay: str = "standard", rollback: bool = True, **disturbed: Any) -> End:
        return self.run(lambda run: run.deploy(version.uri, overlay, version.image, rollback), version, **disturbed)

    def roll_back(self, **disturbed: Any) -> End:
        return self.run(lambda run: run.roll_back(), None, **disturbed)

    def delete(self, **disturbed: Any) -> End:
        return self.run(lambda run: run.delete(), None, **disturbed)

    def run(
        self,
        command: Callable[[Deployment], object],
        wanted: Version | None,
        disturb: Disturb = lambda *_: None,
        came_through: bool = False,
    ) -> End:
        """One command of one machine. wanted: the version that it is to bring, if any.

        disturb: called with each of its calls, where anything else may happen; what it raises ends the command.
        came_through: it is after the call rather than before.
        """
        heard, end = Heard(), End()

        def watch(method: str, target: str) -> None:
            if method not in ("PATCH", "DELETE") or "dryRun" in target:
                return
            end.wrote = end.wrote or "/configmaps/" not in target  # a record does not change what is served
            if method == "PATCH" and "/inferenceservices/" in target:
                applied = self.live
                is_wanted = applied == wanted or (not self.alone and applied and wanted and applied.uri == wanted.uri)
                assert is_wanted or applied in self.kserve.answered, f"went back to {applied}: {heard.warned}"

        def both(method: str, target: str) -> None:
            watch(method, target)
            if came_through:
                disturb(method, target)

        with closing(Cluster()) as cluster:
            connection = connect(cluster, self.api)
            connection.after = both
            if not came_through:
                connection.before = disturb
            try:
                command(Deployment(cluster, self._overlays, heard.voice, PACE))
            except Terminated:
                end.interrupted = True
            except PipelineError as error:
                end.error = str(error)
        end.warned, end.waited = heard.warned, heard.waited
        assert end.names_the_state, end
        return end

    # Actions of others.

    def apply_by_others(self, version: Version, keeps_fields: bool, without_ours: bool = True) -> None:
        """`kubectl apply` of another version: its fields are kubectl's from then on.

        keeps_fields: else they are as after a restored backup, of which nobody manages a field. without_ours: our
        annotations are gone, as after `kubectl replace`; `kubectl apply` leaves them, and they say what was before.
        """
        service = self.api.objects.get(SERVICE)
        if service is None:
            return
        thing = {"metadata": {"name": "alexnet"}, "spec": {"predictor": {"model": {"storageUri": version.uri}}}}
        self.api.put("inferenceservices", thing, "kubectl")
        ours = [name for name in annotations_of(service) if name.startswith(MANAGER)]
        for name in ours if without_ours else ():
            del service["metadata"]["annotations"][name]
        service["metadata"]["resourceVersion"] = "kubectl"
        if not keeps_fields:
            self.let_go()

    def let_go(self) -> None:
        for found in self.api.objects.values():
            managed = found["metadata"]["managedFields"]
            managed[:] = [entry for entry in managed if entry["manager"] == MANAGER]


def at_call(number: int, happens: Callable[[], object]) -> Disturb:
    """At the call of this number, of those that could make a difference: not of the questions about permissions and
    kinds, nor of what is tried dry."""
    numbers = itertools.count()

    def disturb(method: str, target: str) -> None:
        path = urlsplit(target).path
        is_question = "/namespaces/models/" not in path or "selfsubjectaccessreviews" in path or "dryRun" in target
        if not is_question and next(numbers) == number:
            happens()

    return disturb


class Turns:
    """Two commands at once, one of which runs at a time: the second from some call of the first on.

    It stops at a call of its own until the first has ended, and then goes on. begin, pause: what the two are disturbed
    with. finish: to be called when the first has ended; it raises what the second raised.
    """

    def __init__(self, second: Callable[[], None]) -> None:
        self._second = second
        self._thread = threading.Thread(target=self._run)
        self._stopped, self._go_on = threading.Semaphore(0), threading.Semaphore(0)
        self._raised: BaseException | None = None
        self._has_begun = self._first_has_ended = False

    def begin(self) -> None:
        self._has_begun = True
        self._thread.start()
        self._stopped.acquire()

    def pause(self) -> None:
        if not self._first_has_ended:
            self._stopped.release()
            self._go_on.acquire()

    def finish(self) -> None:
        self._first_has_ended = True
        if self._has_begun:
            self._go_on.release()
            self._thread.join()
        if self._raised:
            raise self._raised

    def _run(self) -> None:
        try:
            self._second()
        except BaseException as error:  # the first one's thread raises it
            self._raised = error
        self._stopped.release()


@contextmanager
def quick(api: ApiServer) -> Iterator[None]:
    """Without waits, and with each overlay rendered only once."""
    rendered = functools.cache(manifests.render)

    def render(*arguments: Any) -> list[Object]:
        return copy.deepcopy(rendered(*arguments))

    with timeless(), mock.patch.object(deploying, "render", render):
        yield


@pytest.fixture
def scaled(overlays: Path) -> Path:
    """With another overlay, which has two replicas and an HPA."""
    text = (overlays / "standard" / "manifests.yaml").read_text()
    (overlays / "scaled").mkdir()
    for file in ("kustomization.yaml", "names.yaml"):
        (overlays / "scaled" / file).write_text((overlays / "standard" / file).read_text())
    changed = text.replace("minReplicas: 1", "minReplicas: 2\n    maxReplicas: 4")
    (overlays / "scaled" / "manifests.yaml").write_text(changed)
    fixed = text.replace("Standard\n", "Standard\n    serving.kserve.io/autoscalerClass: none\n")
    (overlays / "standard" / "manifests.yaml").write_text(fixed)
    return overlays
