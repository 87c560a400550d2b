"""What deploy.sh leaves in a cluster, whatever goes wrong.

`make cluster-test CONTEXT=…` runs this in a real cluster with KServe: see kserve/README.md. Otherwise the context is
the tests' own, with their API server.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.objects import annotations_of
from pipeline.deployment.resources import CONFIG_MAPS, INFERENCE_SERVICES
from tests.support.api_server import ApiServer, write_kube_config
from tests.support.in_a_thread import in_a_thread
from tests.support.lab import NO_IMAGE, Lab
from tests.support.scripts import Start
from tests.support.simulated_kserve import MISSING, UNNAMED, SimulatedKServe
from tests.support.waiting import Eventually

pytestmark = pytest.mark.slow

NO_ARCHIVE = "no/archive/there"


@dataclass(frozen=True)
class Place:
    """Where this runs: a context of the kube config, and the options for scripts/deploy.sh; "" for its defaults.

    versions: two working ones, by their storageUri. patience: how long a command may take, in seconds.
    """

    context: str
    versions: str
    namespace: str
    name: str
    overlay: str
    image: str
    patience: float = 1500

    @property
    def settings(self) -> list[str]:
        return _options(name=self.name, namespace=self.namespace)

    @property
    def deploying(self) -> list[str]:
        return _options(overlay=self.overlay, image=self.image)


def _options(**values: str) -> list[str]:
    return [word for name, value in values.items() if value for word in (f"--{name}", value)]


def chosen() -> Place:
    names = ("context", "versions", "namespace", "name", "overlay", "image")
    values = {name: os.environ.get(f"CLUSTER_TEST_{name.upper()}", "") for name in names}
    return Place(**values)  # type: ignore[arg-type]  # patience has its default


@contextmanager
def simulated(config: Path) -> Iterator[Place]:
    image = "registry.example/alexnet:1"
    with in_a_thread(ApiServer()) as api, pytest.MonkeyPatch.context() as patch:
        kserve = api.kserve = SimulatedKServe(api)
        kserve.fates |= {NO_IMAGE: UNNAMED, f"pvc://models/one/{NO_ARCHIVE}": MISSING}
        patch.setenv("KUBECONFIG", str(write_kube_config(config, api.url)))
        yield Place("test", "pvc://models/one pvc://models/two", "", "", "standard", image, patience=120)


@contextmanager
def entered(place: Place, config: Path) -> Iterator[Place]:
    """With a kube config that has only this context. At the end, what was deployed is removed, and nothing else."""
    shown = ["kubectl", "config", "view", "--raw", "--minify", "--flatten", "--context", place.context]
    config.touch(mode=0o600)
    config.write_text(subprocess.run(shown, check=True, stdout=subprocess.PIPE, text=True).stdout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(config))
        name = place.name or "alexnet"
        with closing(Cluster(place.namespace or None)) as cluster:
            is_there = cluster.get(INFERENCE_SERVICES, name) is not None
        assert not is_there, f"there is an InferenceService {name}, which must not be touched: choose another NAME"
        try:
            yield place
        finally:
            script = Path(__file__).resolve().parents[3] / "scripts" / "deploy.sh"
            subprocess.run([str(script), "--delete", *place.settings], check=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("kube")
    with ExitStack() as stack:
        given = chosen()
        found = given if given.context else stack.enter_context(simulated(folder / "simulated"))
        yield stack.enter_context(entered(found, folder / "config"))


@pytest.fixture
def served(place: Place, start: Start) -> Iterator[Lab]:
    """A place where two versions have been deployed, and the second one serves."""
    one, two = place.versions.split()
    with closing(Cluster(place.namespace or None)) as cluster:
        name = place.name or "alexnet"
        lab = Lab(start, cluster, name, one, two, place.settings, place.deploying, place.patience)
        for uri in (one, two) if lab.live is None else (two,):
            if lab.live != uri:
                assert lab.deploy(uri).error is None
            assert lab.serves(uri)
        yield lab


def test_a_broken_version_is_rolled_back_to_the_one_that_serves(served: Lab) -> None:
    assert f"; rolled back to {served.two}, which is ready again" in str(served.deploy_broken().error)
    assert served.serves(served.two)


def test_a_path_without_an_archive_changes_nothing_permanently(served: Lab) -> None:
    """In Cloud Storage, preflight notices that."""
    error = str(served.deploy(f"{served.one}/{NO_ARCHIVE}").error)
    assert f"; rolled back to {served.two}, which is ready again" in error or served.one.startswith("gs://")
    assert served.serves(served.two)


def test_rolling_back_twice_ends_where_it_began(served: Lab) -> None:
    for uri in (served.one, served.two):
        assert served.roll_back().error is None
        assert served.serves(uri)


@pytest.mark.parametrize("what", ["scale_up", "lose_pod"])
def test_a_missing_replica_does_not_lose_a_version(served: Lab, what: str) -> None:
    getattr(served, what)()
    assert f"; rolled back to {served.two}, which is ready again" in str(served.deploy_broken().error)
    assert served.serves(served.two)


def test_a_version_that_was_never_ready_is_not_rolled_back_to(served: Lab) -> None:
    assert "left as it is" in str(served.deploy_broken("--no-rollback").error)
    assert f"; rolled back to {served.two}, which is ready again" in str(served.deploy_broken().error)
    assert served.serves(served.two)


def test_nor_is_an_interrupted_one(served: Lab) -> None:
    before = annotations_of(served.service or {})
    process = served.deploying(served.one, "--image", NO_IMAGE)
    served.wait_until(lambda: annotations_of(served.service or {}) != before)
    process.send_signal(SIGTERM)
    assert served.end(process).interrupted
    assert f"; rolled back to {served.two}, which is ready again" in str(served.deploy_broken().error)
    assert served.serves(served.two)


def test_two_concurrent_deployments_leave_one_of_the_two(served: Lab) -> None:
    processes = [served.deploying(uri) for uri in (served.one, served.two)]
    ends = [served.end(process) for process in processes]
    told = [end.error for end in ends]
    assert None in told or all("somebody else deployed" in str(error) for error in told), told
    assert served.live in (served.one, served.two)


def test_delete_leaves_nothing(served: Lab, eventually: Eventually) -> None:
    assert served.delete().error is None
    assert served.service is None
    # The cluster removes it a moment after its owner.
    eventually(lambda: served.cluster.get(CONFIG_MAPS, f"{served.name}-deployments") is None)
