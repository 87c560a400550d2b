"""What pods may request on a GKE node, and what GKE's own pods take of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

CPUS_AND_GIB = {  # https://cloud.google.com/compute/docs/machine-resource
    "e2-standard-2": (2, 8),
    "e2-standard-4": (4, 16),
    "c3-standard-4": (4, 16),
    "g2-standard-4": (4, 16),
}
GIB = 1024  # MiB


@dataclass(frozen=True)
class Room:
    """Processor in thousandths, memory and disk in MiB."""

    cpu: int
    memory: float
    disk: float

    def __sub__(self, taken: Room) -> Room:
        return Room(self.cpu - taken.cpu, self.memory - taken.memory, self.disk - taken.disk)

    def __mul__(self, times: int) -> Room:
        return Room(self.cpu * times, self.memory * times, self.disk * times)

    def holds(self, pod: Room) -> int:
        """This many of these pods."""
        each = zip((self.cpu, self.memory, self.disk), (pod.cpu, pod.memory, pod.disk), strict=True)
        return int(min(have // wanted for have, wanted in each if wanted))


# Requests of the DaemonSets on a node without GPU, as users of GKE list them (kubectl get daemonsets -A): fluentbit-gke
# 105m, gke-metadata-server 100m, gke-metrics-agent 19m, netd 8m, ip-masq-agent 10m, pdcsi-node 10m, collector 5m, and
# kube-proxy 100m or, with Dataplane V2, anetd 205m: 462m at most. With a GPU its device plugin and driver: 205m more.
DAEMONS = Room(500, 1 * GIB, 1 * GIB)
GPU_DAEMONS = Room(705, 1 * GIB, 1 * GIB)
# Once in a cluster: two of kube-dns (260m each, the largest), konnectivity-agent, metrics-server, autoscalers of these,
# event-exporter, l7-default-backend, gmp-operator; and KServe 0.20's one controller: 100m, 200Mi. cert-manager's own
# manifest requests nothing.
SYSTEM = Room(750 + 100, 1 * GIB + 200, 0)
LARGEST_OF_SYSTEM = Room(260, 200, 0)


def allocatable(machine: str, disk_gb: int) -> Room:
    """What is left for pods, those of DaemonSets among them, with a boot disk of this size.

    https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes
    """
    cpus, gib = CPUS_AND_GIB[machine]
    # 6 % of the first processor, 1 % of the next, 0.5 % of the next two, 0.25 % of all others.
    cpu_reserved = sum((60, 10, 5, 5)[:cpus]) + 2.5 * max(cpus - 4, 0)
    # Memory, and 100 MiB below which pods are evicted. In Google's example, the node sees 97.3 % of 16 GiB.
    steps = ((4, 0.25), (4, 0.20), (8, 0.10), (112, 0.06), (gib, 0.02))
    memory_reserved, rest = 0.0, float(gib)
    for step, share in steps:
        memory_reserved += min(step, rest) * share
        rest = max(rest - step, 0)
    memory = (gib * 0.973 - memory_reserved) * GIB - 100
    # Half the disk, or 6 GiB and 35 %, or 100 GiB; and a tenth, below which pods are evicted.
    shown = disk_gb * 0.9425  # in the same example, 94.25 GiB of 100 GB
    disk = shown * 0.9 - min(disk_gb * 0.5, 6 + disk_gb * 0.35, 100)
    return Room(int(cpus * 1000 - cpu_reserved), memory, disk * GIB)


def requested(resources: dict[str, str]) -> Room:
    """A container's `requests`."""
    cpu = resources.get("cpu", "0")
    return Room(
        int(cpu[:-1]) if cpu.endswith("m") else int(float(cpu) * 1000),
        mebibytes(resources.get("memory", "0Mi")),
        mebibytes(resources.get("ephemeral-storage", "0Mi")),
    )


def mebibytes(quantity: str) -> float:
    found = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert found, quantity
    return int(found[1]) * (GIB if found[2] == "Gi" else 1)
