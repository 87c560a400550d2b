"""Deployments in the cluster of tests/support/api_server.py, for the tests of pipeline/deployment/.

Test modules import this and name it as a plugin, for its fixtures and those of the API server: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from pipeline.deployment.manifests import render
from pipeline.deployment.objects import Object
from pipeline.deployment.pace import Pace
from pipeline.deployment.voice import Voice
from pipeline.shared.errors import PipelineError
from tests.support.api_server import ApiServer, running

pytest_plugins = ["tests.support.api_server"]

FAST = Pace(timeout=30, poll=0.001, patience=0.03, smoke=0.01)
ONE, TWO, THREE = (f"pvc://models/{number}" for number in ("one", "two", "three"))

CRASHED = {"exitCode": 1, "reason": "Error"}
BROKEN = running(restartCount=3, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": CRASHED})

Make = Callable[..., Deployment]
Deploy = Callable[..., str]
Attempt = Callable[..., str]


class Heard:
    """The output of a deployment."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.waited: list[str] = []

    @property
    def voice(self) -> Voice:
        return Voice(self.said.append, self.warned.append, self.waited.append)


def reason(attempt: Callable[[], object]) -> str:
    """The line with which it failed."""
    with pytest.raises(PipelineError) as raised:
        attempt()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def heard() -> Heard:
    return Heard()


RENDERED: dict[object, list[Object]] = {}


@pytest.fixture
def rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """kubectl renders the same files only once: each rendering takes 0.2 s of processor time."""

    def once(overlays: Path, overlay: str, name: str | None = None) -> list[Object]:
        files = [(file.relative_to(overlays), file.read_bytes()) for file in overlays.rglob("*") if file.is_file()]
        asked = (os.environ["PATH"], tuple(sorted(files)), overlay, name)
        if asked not in RENDERED:
            RENDERED[asked] = render(overlays, overlay, name)
        return copy.deepcopy(RENDERED[asked])

    monkeypatch.setattr("pipeline.deployment.deploy.render", once)


@pytest.fixture
def make(api: ApiServer, overlays: Path, heard: Heard, rendered_once: None) -> Iterator[Make]:
    """A deployment in the current kube context, as in another process."""
    with closing(Cluster()) as cluster:
        yield lambda pace=FAST, name=None: Deployment(cluster, overlays, heard.voice, pace, name)


@pytest.fixture
def deploy(make: Make) -> Deploy:
    return lambda uri, *arguments, **options: make().deploy(uri, *arguments, **options)


@pytest.fixture
def lines() -> list[str]:
    """What a deployment says while checking, including warnings."""
    return []


@pytest.fixture
def refusal(overlays: Path, lines: list[str], user_environment: None) -> Attempt:
    """The line with which a deployment fails, in the cluster that the kube config names by then."""

    def attempt(uri: str = ONE, overlay: str = "standard", namespace: str | None = None) -> str:
        def run() -> None:
            voice = Voice(lines.append, lambda line: lines.append(f"warning: {line}"))
            with closing(Cluster(namespace)) as cluster:
                Deployment(cluster, overlays, voice, FAST).deploy(uri, overlay)

        return reason(run)

    return attempt
