"""What a real control plane showed, replayed to the code of deploy.sh: recorded/*.yaml."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.deployment.objects import Object
from pipeline.shared.signals import Terminated
from tests.support.api_server import ApiServer
from tests.support.ends import End
from tests.support.interleaved import World, quick
from tests.support.recorded import RecordedKServe, scenarios, uri_of
from tests.support.simulated_kserve import Version

pytest_plugins = ["tests.support.deployments", "tests.support.interleaved"]

SCENARIOS = scenarios(Path(__file__).with_name("recorded"))
IMAGE = "registry.example/alexnet:1"


class Player:
    """Plays the steps of a scenario in order."""

    def __init__(self, api: ApiServer, overlays: Path, answers: dict[str, str]) -> None:
        self._api = api
        self._kserve = RecordedKServe(api, set(answers))
        self._world = World(api, overlays, self._kserve)

    def play(self, step: Object) -> None:
        self._kserve.begin(step.get("then", []))
        self._api.calls.clear()
        end = self._do(step)
        assert step.get("ends", "") in _last_line(end), end
        assert (_last_line(end) == "") == ("ends" not in step), end
        assert self._kserve.looks >= step.get("looks at least", 0)
        told = [line for line, _ in itertools.groupby(end.waited)]
        for text in step.get("told once", []):
            assert sum(text in line for line in told) == 1, told
        for text in step.get("never told", []):
            assert not any(text in line for line in told), told
        self._check_live(step)

    def _check_live(self, step: Object) -> None:
        if "live" in step:
            assert self._api.storage_uri == uri_of(step["live"])
        else:
            assert self._api.objects == {}
        if "least" in step:
            assert self._api.service["spec"]["predictor"]["minReplicas"] == step["least"]
        if "deletes" in step:
            deleted = [call.path.split("/")[-2] for call in self._api.writes if call.method == "DELETE"]
            assert deleted == step["deletes"]

    def _do(self, step: Object) -> End:
        if "interrupted" in step:
            return self._command(step["do"], step["interrupted"], _terminate)
        if "meanwhile" not in step:
            return self._command(step["do"])
        other: list[End] = []
        what = step["meanwhile"]
        end = self._command(step["do"], what["look"], lambda: other.append(self._command(what["do"])))
        assert step["the other ends"] in _last_line(other[0])
        return end

    def _command(self, text: str, look: int | None = None, meanwhile: Callable[[], object] = lambda: None) -> End:
        """look: something else happens before this of the step's looks at the InferenceService."""
        verb, *words = text.split()

        def disturb(method: str, target: str) -> None:
            nonlocal look
            if look is not None and "/inferenceservices/" in target and self._kserve.looks >= look - 1:
                look = None
                meanwhile()

        if verb == "--rollback":
            return self._world.roll_back(disturb=disturb)
        if verb == "--delete":
            return self._world.delete(disturb=disturb)
        overlay = "scaled" if "scaled" in words else "standard"
        version = Version(uri_of(words[0]), IMAGE)
        return self._world.deploy(version, overlay, "--no-rollback" not in words, disturb=disturb)


def _last_line(end: End) -> str:
    return end.warned[-1] if end.interrupted else end.error or ""


def _terminate() -> None:
    raise Terminated(15)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_recorded_scenario_ends_as_it_should(name: str, api: ApiServer, scaled: Path) -> None:
    scenario = SCENARIOS[name]
    player = Player(api, scaled, scenario.get("answers", {}))
    with quick(api):
        for step in scenario["steps"]:
            player.play(step)
