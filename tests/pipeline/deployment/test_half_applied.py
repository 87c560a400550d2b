"""A deployment that is interrupted between the ServingRuntime and the InferenceService."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.shared.signals import Terminated
from tests.support.api_server import ApiServer
from tests.support.ends import End
from tests.support.interleaved import World, quick
from tests.support.simulated_kserve import CRASHES, SimulatedKServe, Version

pytest_plugins = ["tests.support.deployments", "tests.support.interleaved"]

BEFORE, AFTER = (Version("pvc://models/one", f"registry.example/alexnet:{tag}") for tag in (1, 2))
BETWEEN = Version("pvc://models/two", AFTER.image)


@pytest.fixture
def kserve(api: ApiServer) -> SimulatedKServe:
    return SimulatedKServe(api)


def stop(method: str, target: str) -> None:
    """Before the InferenceService is applied."""
    if method == "PATCH" and "/inferenceservices/" in target and "dryRun" not in target:
        raise Terminated(15)


@pytest.fixture
def half_applied(api: ApiServer, scaled: Path, kserve: SimulatedKServe) -> Iterator[World]:
    """KServe acts on the runtime alone: pods have its image, and the annotations of the version before."""
    world = World(api, scaled, kserve)

    with quick(api):
        assert world.deploy(BEFORE).error is None
        assert world.deploy(BETWEEN, disturb=stop).interrupted
        assert world.live == AFTER
        yield world


def test_the_previous_version_is_restored(half_applied: World, kserve: SimulatedKServe) -> None:
    kserve.settle()
    assert kserve.serving() == {AFTER}
    assert half_applied.deploy(BEFORE).error is None
    assert kserve.serving() == {BEFORE}


def test_the_half_applied_version_is_not_the_previous_one(half_applied: World, kserve: SimulatedKServe) -> None:
    kserve.settle()
    kserve.fates["pvc://models/three"] = CRASHES
    end = half_applied.deploy(Version("pvc://models/three", BEFORE.image))
    assert str(end.error).endswith("which is ready again")
    assert half_applied.live == AFTER
    assert kserve.serving() == {AFTER}


def test_a_version_that_was_never_ready_is_not_rolled_back_to(half_applied: World, kserve: SimulatedKServe) -> None:
    kserve.fates[str(AFTER.image)] = CRASHES
    end = half_applied.deploy(BETWEEN)
    assert str(end.error).endswith("which is ready again")
    assert half_applied.live == BEFORE
    assert kserve.serving() == {BEFORE}


def test_a_runtime_that_another_machine_applies_in_the_meantime_is_noticed(api: ApiServer, scaled: Path) -> None:
    world = World(api, scaled, SimulatedKServe(api))
    ends: list[End] = []

    def interfere(method: str, target: str) -> None:
        if "/pods" in target and not ends:
            ends.append(End())
            ends.append(world.deploy(BETWEEN, disturb=stop))

    with quick(api):
        end = world.deploy(BEFORE, disturb=interfere)
    assert ends[-1].interrupted
    assert str(end.error).startswith("somebody else deployed alexnet in the meantime")
