"""Requests, nodes and limits add up, so that no overlay requests pods that fit nowhere.

They are read from the files themselves: the renderings, the READMEs' commands, and Terraform's pools.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")

from tests.support.gke_nodes import (
    CPUS_AND_GIB,
    DAEMONS,
    GIB,
    GPU_DAEMONS,
    LARGEST_OF_SYSTEM,
    SYSTEM,
    Room,
    allocatable,
    requested,
)
from tests.support.renderings import (
    CHECKOUT,
    COMPONENTS,
    MANIFESTS,
    MODE,
    OVERLAYS,
    Object,
    in_order,
    merge,
    one,
    render,
    render_with,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here, which renders the manifests"),
]

ON_A_LAPTOP = {"kind", "local-archive"}
NUMBERS = {"one": 1, "two": 2, "six": 6, "seven": 7, "nine": 9}
QUEUE_PROXY = 25  # thousandths of a processor: Knative's container in each pod

CHOICES = [(name,) for name in OVERLAYS] + [("base", *in_order((name,))) for name in COMPONENTS]
IN_THE_CLOUD = [choice for choice in CHOICES if not ON_A_LAPTOP & set(choice)]
WITH_GPU = [choice for choice in IN_THE_CLOUD if "gpu" in choice]
WITHOUT_GPU = [choice for choice in IN_THE_CLOUD if "gpu" not in choice]


# --- what is requested ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """A service's needs: each pod, its minimum and maximum number, and how many more while a version is rolled out."""

    pod: Room
    least: int
    most: int
    surge: int


@cache
def wanted(choice: tuple[str, ...]) -> Wanted:
    if choice[0] == "base":
        with TemporaryDirectory() as scratch:
            return wanted_of(render_with(choice[1:], Path(scratch)))
    return wanted_of(render(MANIFESTS / "overlays" / choice[0]))


def wanted_of(objects: list[Object]) -> Wanted:
    service = one(objects, "InferenceService")
    predictor = service["spec"]["predictor"]
    runtimes = [found["spec"]["containers"][0] for found in objects if found["kind"] == "ServingRuntime"]
    container = merge(runtimes[0] if runtimes else {}, predictor["model"])
    pod = requested(container["resources"]["requests"])
    least = max(predictor["minReplicas"], 1)
    most = max(predictor.get("maxReplicas", least), least)
    if service["metadata"]["annotations"][MODE] == "Knative":  # which starts a new revision next to the old one
        return Wanted(Room(pod.cpu + QUEUE_PROXY, pod.memory, pod.disk), least, most, 1)
    return Wanted(pod, least, most, predictor["deploymentStrategy"]["rollingUpdate"]["maxSurge"])


# --- what is available ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    machine: str
    disk_gb: int
    least: int
    most: int
    daemons: Room = DAEMONS

    @property
    def node(self) -> Room:
        return allocatable(self.machine, self.disk_gb) - self.daemons


def walk_through() -> Pool:
    """The only pool of kserve/README.md."""
    text = (MANIFESTS / "README.md").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ *(gcloud container clusters create .*)$", text, re.MULTILINE)
    words = shlex.split(command)
    options = {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}
    assert "--enable-autoscaling" in options, "a fixed number of nodes has no room for a second version"
    least, started = int(options["--min-nodes"]), int(options["--num-nodes"])
    assert least == started, "the autoscaler would remove the first nodes"
    return Pool(options["--machine-type"], 100, least, int(options["--max-nodes"]))  # GKE's own disks have 100 GB


def pools(text: str) -> dict[str, Pool]:
    """The pools of a map in HCL, with their defaults."""
    variables = (CHECKOUT / "terraform" / "cluster" / "variables.tf").read_text()
    (least,) = re.findall(r"min_nodes += optional\(number, (\d+)\)", variables)
    (disk,) = re.findall(r"disk_gb += optional\(number, (\d+)\)", variables)
    found = {}
    for name, body in re.findall(r"(\w+) += \{\s+((?:role|machine_type)\b(?:[^{}]|\{[^{}]*\})*)\}", text):
        said: dict[str, Any] = dict(re.findall(r'(\w+) += "?([\w-]+)"?', body))
        found[name] = Pool(
            said["machine_type"],
            int(said.get("disk_gb", disk)),
            int(said.get("min_nodes", least)),
            int(said["max_nodes"]),
            GPU_DAEMONS if "gpu" in body else DAEMONS,
        )
    return found


def default_pools() -> dict[str, Pool]:
    variables = (CHECKOUT / "terraform" / "cluster" / "variables.tf").read_text()
    block = re.search(r'^variable "node_pools" \{.*?^  default = (\{.*?^  \})', variables, re.MULTILINE | re.DOTALL)
    assert block
    return pools(re.sub(r"#.*", "", block[1]))


def example_pools() -> dict[str, Pool]:
    example = (CHECKOUT / "terraform" / "environments" / "dev.tfvars.example").read_text()
    return pools(re.sub(r"^# ?", "", example, flags=re.MULTILINE))


PLACES: dict[str, Callable[[], Pool]] = {
    "walk-through": walk_through,
    "terraform": lambda: default_pools()["serving"],
    "terraform's example": lambda: example_pools()["serving"],
}
every_place = pytest.mark.parametrize("place", PLACES)


def test_every_pool_is_read() -> None:
    assert default_pools().keys() == {"system", "serving"}
    assert example_pools().keys() == {"system", "serving", "gpu"}
    assert {name: pool for name, pool in example_pools().items() if name != "gpu"} == default_pools()
    assert example_pools()["gpu"].daemons == GPU_DAEMONS


# --- the sums ---------------------------------------------------------------------------------------------------------


def test_a_node_offers_what_google_says() -> None:
    """The example on Google's page: four processors, 16 GiB and a 100 GB disk; and its rates, for two and eight."""
    room = allocatable("e2-standard-4", 100)
    assert room.cpu == 3920
    assert room.memory == pytest.approx(13498416 / 1024, rel=0.001)
    assert room.disk == pytest.approx(47060071478 / 2**20, rel=0.001)
    assert allocatable("e2-standard-2", 100).cpu == 1930


@every_place
@pytest.mark.parametrize("choice", WITHOUT_GPU, ids="+".join)
def test_a_node_holds_a_pod(place: str, choice: tuple[str, ...]) -> None:
    assert PLACES[place]().node.holds(wanted(choice).pod) >= 1


@every_place
@pytest.mark.parametrize("choice", WITHOUT_GPU, ids="+".join)
def test_there_is_room_for_all_replicas_a_new_version_and_a_canary(place: str, choice: tuple[str, ...]) -> None:
    """At its limit, a service can still be rolled out, while a second one (a canary) has its fewest pods."""
    pool, service = PLACES[place](), wanted(choice)
    places = pool.most * pool.node.holds(service.pod)
    assert places >= service.most + service.surge + service.least


@pytest.mark.parametrize("choice", WITH_GPU, ids="+".join)
def test_there_is_a_gpu_for_each_replica_and_for_a_new_version(choice: tuple[str, ...]) -> None:
    pool, service = example_pools()["gpu"], wanted(choice)
    assert pool.node.holds(service.pod) >= 1
    assert pool.most >= service.most + service.surge, "a node has one GPU, and a pod takes it"


def test_the_walk_through_starts_with_room_for_its_service_and_the_system() -> None:
    """Without waiting for a node: `standard`, GKE's own pods and KServe fit on the first nodes."""
    pool, service = walk_through(), wanted(("standard",))
    assert pool.least * pool.node.holds(service.pod) >= service.least
    left = pool.node - service.pod
    assert left.holds(LARGEST_OF_SYSTEM) >= 1
    assert (left * pool.least).holds(SYSTEM) >= 1


def test_terraforms_system_pool_holds_what_it_is_for() -> None:
    system = default_pools()["system"]
    assert (system.node * system.least).holds(SYSTEM) >= 1
    assert system.node.holds(wanted(("standard",)).pod) == 0, "as variables.tf says"


def test_terraforms_page_has_the_pools_their_quotas_and_their_costs() -> None:
    page = (CHECKOUT / "terraform" / "README.md").read_text()
    found, service = default_pools(), wanted(("standard",))
    system, serving = found["system"], found["serving"]
    (row,) = re.findall(r"^\| `node_pools` \| (.*?) \|", page, re.MULTILINE)
    assert re.findall(r"`(\w+)`: ([\w-]+), .*?(\d+) to (\d+)", row) == [
        (name, pool.machine, str(pool.least), str(pool.most)) for name, pool in found.items()
    ]
    vcpus = {name: pool.most * CPUS_AND_GIB[pool.machine][0] for name, pool in found.items()}
    disks = sum(pool.most * pool.disk_gb for pool in found.values())
    quotas = re.findall(r"quota for (\d+) E2 and (\d+) C3 vCPUs .*?and (\d+) GB of disks", page, re.DOTALL)
    assert quotas == [(str(vcpus["system"]), str(vcpus["serving"]), str(disks))]
    assert system.machine.startswith("e2-")
    assert serving.machine.startswith("c3-")
    counts = re.findall(r"^\| (two|six|nine)\b", page, re.MULTILINE)
    assert [NUMBERS[count] for count in counts] == [service.least, service.most, serving.most]


def test_the_walk_through_says_what_its_nodes_are_for() -> None:
    page = " ".join((MANIFESTS / "README.md").read_text().split())
    pool, service = walk_through(), wanted(("standard",))
    said = re.findall(r"(\w+) are enough for (\w+) replicas, (\w+) more during a roll-out and (\w+) of a canary", page)
    assert [[NUMBERS[word.lower()] for word in words] for words in said] == [
        [pool.most, service.most, service.surge, service.least]
    ]
    assert f"quota for {pool.most * CPUS_AND_GIB[pool.machine][0]} CPUs" in page
    assert pool.node.holds(service.pod) == 1, "as it says"


def test_a_laptop_holds_both_pods_of_a_roll_out() -> None:
    readme = (MANIFESTS / "overlays" / "kind" / "README.md").read_text()
    ((cpus, gigabytes),) = re.findall(r"Docker\s+needs (\d+) CPUs and (\d+) GB", readme)
    # kind's control plane requests 950m and 290Mi, its network included; then KServe, and the pod of upload.yaml.
    taken = Room(950 + 100 + 10, 290 + 200 + 32, 0)
    laptop = Room(int(cpus) * 1000, int(gigabytes) * 1e9 / 2**20 * 0.973, 20 * GIB) - taken
    for choice in CHOICES:
        if ON_A_LAPTOP & set(choice):
            service = wanted(choice)
            assert laptop.holds(service.pod) >= service.most + service.surge, choice


@pytest.mark.parametrize("component", ["autoscaling-hpa", "autoscaling-keda", "scale-to-zero"])
def test_autoscaling_components_say_how_many_pods_need_room(component: str) -> None:
    service = wanted(("base", *in_order((component,))))
    readme = (MANIFESTS / "components" / component / "README.md").read_text()
    (pods,) = re.findall(r"room for (\w+) pods", readme)
    assert NUMBERS[pods] == service.most + service.surge


def test_a_budget_leaves_a_pod_to_answer_and_one_to_be_moved() -> None:
    objects = render(MANIFESTS / "overlays" / "standard")
    budget, service = one(objects, "PodDisruptionBudget")["spec"], wanted(("standard",))
    assert 1 <= budget["maxUnavailable"] < service.least
