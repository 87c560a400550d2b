"""Whatever happens, in any order: a roll-back leads to a version that answered, and every ending names the state.

DEPLOYMENTS_EXAMPLES=2000 plays more examples than CI has time for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from pipeline.shared.signals import Terminated
from tests.support.api_server import ApiServer
from tests.support.ends import End
from tests.support.interleaved import Turns, World, at_call, quick
from tests.support.simulated_kserve import (
    CRASHES,
    MISSING,
    NEVER_READY,
    SERVES,
    UNPULLABLE,
    WRONG,
    SimulatedKServe,
    Version,
)

pytest_plugins = ["tests.support.deployments", "tests.support.interleaved"]

EXAMPLES = int(os.environ.get("DEPLOYMENTS_EXAMPLES", "0"))
IMAGE, OTHER_IMAGE, NO_IMAGE = (f"registry.example/alexnet:{tag}" for tag in ("1", "2", "none"))
FATES = {
    "pvc://models/crashes": CRASHES,
    "pvc://models/never-ready": NEVER_READY,
    "pvc://models/wrong": WRONG,
    "pvc://models/missing": MISSING,
    NO_IMAGE: UNPULLABLE,
}
GOOD = [Version(f"pvc://models/{name}", image) for name in ("one", "two") for image in (IMAGE, OTHER_IMAGE)]
BAD = [*(Version(uri, IMAGE) for uri in list(FATES)[:4]), Version("pvc://models/one", NO_IMAGE)]

RECORD = ("configmaps", "alexnet-deployments")

versions = st.sampled_from([*GOOD, *GOOD, *BAD])
overlays_ = st.sampled_from(["standard", "scaled"])
calls = st.integers(0, 60)


def terminate() -> None:
    raise Terminated(15)


class AnyOrder(RuleBasedStateMachine):
    """good: the live version, which this tool has proved and nobody has changed since."""

    new_world: Callable[[], World]

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).new_world()
        assert isinstance(self.world.kserve, SimulatedKServe)
        self.kserve = self.world.kserve
        self.kserve.fates = dict(FATES)
        self.good: Version | None = None

    @initialize(restless=st.sets(st.sampled_from(["deployments", "pods"])))
    def begin(self, restless: set[str]) -> None:
        self.kserve.restless = restless

    @rule(version=versions, overlay=overlays_, rollback=st.sampled_from([True, True, True, False]))
    def deploy(self, version: Version, overlay: str, rollback: bool) -> None:
        self.deployed(version, overlay, rollback)

    @rule(version=versions, overlay=overlays_, at=calls, came_through=st.booleans())
    def deploy_interrupted(self, version: Version, overlay: str, at: int, came_through: bool) -> None:
        before = self.world.live
        end = self.deployed(version, overlay, True, disturb=at_call(at, terminate), came_through=came_through)
        if end.interrupted and self.world.live != before:
            self.good = None

    @rule(version=versions, second=versions, at=calls, until=calls)
    def another_is_interrupted_meanwhile(self, version: Version, second: Version, at: int, until: int) -> None:
        """A second machine begins at this call of the first, and is interrupted at one of its own calls."""
        self.good = None
        other = at_call(until, terminate)
        with self.world.shared():
            self.world.deploy(version, disturb=at_call(at, lambda: self.world.deploy(second, disturb=other)))

    @rule(version=versions, second=versions, at=calls, until=calls)
    def two_at_once(self, version: Version, second: Version, at: int, until: int) -> None:
        """A second machine begins at this call of the first, waits at one of its own, and ends after the first."""
        self.good = None

        def deploy_second() -> None:
            self.check_success(self.world.deploy(second, disturb=at_call(until, turns.pause)), second)

        turns = Turns(deploy_second)
        with self.world.shared():
            try:
                first = self.world.deploy(version, disturb=at_call(at, turns.begin))
                assert first.error or version in self.kserve.answered
            finally:
                turns.finish()

    @rule(
        version=versions,
        at=calls,
        what=st.sampled_from(["scale", "lose", "back", "kubectl"]),
        without_ours=st.booleans(),
    )
    def deploy_while(self, version: Version, at: int, what: str, without_ours: bool) -> None:
        happen = {
            "scale": lambda: setattr(self.kserve, "load", 3),
            "lose": self.lose_pod,
            "back": self.pods_back,
            "kubectl": lambda: self.world.apply_by_others(GOOD[0], False, without_ours),
        }[what]
        if what == "kubectl":
            self.good = None
            self.world.deploy(version, disturb=at_call(at, happen))
        else:
            self.deployed(version, "standard", True, disturb=at_call(at, happen))

    @rule()
    def roll_back(self) -> None:
        self.rolled_back()

    @rule(at=calls, came_through=st.booleans())
    def roll_back_interrupted(self, at: int, came_through: bool) -> None:
        self.good = None
        self.world.roll_back(disturb=at_call(at, terminate), came_through=came_through)

    @precondition(lambda self: self.good is not None)
    @rule()
    def roll_back_twice(self) -> None:
        before = self.world.spec
        if self.rolled_back().error is None and self.rolled_back().error is None:
            assert self.world.spec == before

    @rule(load=st.integers(1, 4))
    def scale(self, load: int) -> None:
        self.kserve.load = load
        self.kserve.settle(2)

    @rule()
    def lose_pod(self) -> None:
        if "alexnet" in self.kserve.workloads:
            self.kserve.lose_pod()

    @rule()
    def pods_back(self) -> None:
        self.kserve.places = 9

    @rule()
    def time_passes(self) -> None:
        self.kserve.places = 9
        self.kserve.settle()

    @rule(version=versions, keeps_fields=st.booleans(), without_ours=st.booleans())
    def kubectl_apply(self, version: Version, keeps_fields: bool, without_ours: bool) -> None:
        self.good = None
        self.world.apply_by_others(version, keeps_fields, without_ours)

    @rule(text=st.sampled_from([None, "", "[]", "{}", '[{"deployed": 1}]']))
    def lose_the_record(self, text: str | None) -> None:
        self.good = None
        record = self.world.api.objects.get(RECORD)
        if record and text is None:
            del self.world.api.objects[RECORD]
        elif record:
            record["data"] = {"deployments.json": text}

    @rule(version=st.sampled_from(GOOD), is_there=st.booleans())
    def archive_goes_or_comes(self, version: Version, is_there: bool) -> None:
        """Running pods do not need it."""
        self.good = None
        self.kserve.fates[version.uri] = SERVES if is_there else MISSING

    @rule()
    def kubectl_lets_go(self) -> None:
        self.world.let_go()

    @rule()
    def delete(self) -> None:
        end = self.world.delete()
        assert end.error is None
        assert self.world.api.objects == {}
        self.good = None

    # What must hold.

    def deployed(self, version: Version, overlay: str, rollback: bool, **disturbed: Any) -> End:
        kserve, before, good = self.kserve, self.world.live, self.good
        end = self.world.deploy(version, overlay, rollback, **disturbed)
        after, said = self.world.live, end.error or ""
        if end.interrupted:
            return end
        if end.error is None:
            self.check_success(end, version)
            self.good = version
        elif "which is ready again" in said:
            assert after is not None
            assert after in kserve.answered
            assert kserve.serving() <= {after}
            assert f"; rolled back to {after.uri}, " in said
            assert good in (None, after), f"rolled back past {good}"
            self.good = after
        elif not end.wrote:
            assert after == before
        else:
            is_told = "left as it is" in said or "failed as well" in said
            assert is_told or good in (None, version), f"{good} was left: {said}"
            self.good = None
        return end

    def check_success(self, end: End, version: Version) -> None:
        if end.error is None and not end.interrupted:
            assert self.world.live == version
            assert version in self.kserve.answered
            assert self.kserve.serving() <= {version}  # a pod may have been lost since

    def rolled_back(self) -> End:
        end = self.world.roll_back()
        if end.error is None:
            assert self.world.live in self.kserve.serving()
            self.good = self.world.live
        elif end.wrote:
            self.good = None
        return end


@pytest.fixture
def machine(api: ApiServer, scaled: Path) -> Iterator[type[AnyOrder]]:
    def new_world() -> World:
        api.objects.clear()
        api.calls.clear()
        return World(api, scaled, SimulatedKServe(api))

    class Here(AnyOrder):
        pass

    Here.new_world = staticmethod(new_world)
    with quick(api):
        yield Here


@pytest.mark.timeout(900)  # shrinks a failure as far as possible
def test_a_rollback_leads_to_a_version_that_answered_and_every_end_names_the_state(machine: type[AnyOrder]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or 40,
            stateful_step_count=12,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
