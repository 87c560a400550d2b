"""A cluster to deploy to with scripts/deploy.sh: a real one, or the API server of the tests."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from signal import SIGTERM
from typing import Any

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.objects import Object, is_ready, storage_uri_of
from pipeline.deployment.pace import Pace
from pipeline.deployment.resources import DEPLOYMENTS, INFERENCE_SERVICES, PODS
from pipeline.deployment.smoke_test import ask_model
from tests.support.ends import End
from tests.support.scripts import Start

NO_IMAGE = "registry.example/alexnet:no image has such a tag"  # no kubelet tries it twice


@dataclass
class Lab:
    """one, two: versions that serve, by their storageUri. settings: for each command. place: for each that deploys."""

    start: Start
    cluster: Cluster
    name: str
    one: str
    two: str
    settings: list[str]
    place: list[str]
    patience: float

    def deploy(self, uri: str, *options: str) -> End:
        return self.end(self.deploying(uri, *options))

    def deploy_broken(self, *options: str) -> End:
        return self.deploy(self.one, "--image", NO_IMAGE, *options)

    def deploying(self, uri: str, *options: str) -> subprocess.Popen[str]:
        return self.start("deploy", "--storage-uri", uri, *self.place, *options, *self.settings)

    def roll_back(self) -> End:
        return self.end(self.start("deploy", "--rollback", *self.settings))

    def delete(self) -> End:
        return self.end(self.start("deploy", "--delete", *self.settings))

    def end(self, process: subprocess.Popen[str]) -> End:
        _, stderr = process.communicate(timeout=self.patience)
        lines = stderr.splitlines()
        error = lines[-1].removeprefix("error: ") if process.returncode == 1 else None
        has_applied = any(line.startswith("applied ") for line in lines)
        end = End(error, process.returncode == 128 + SIGTERM, wrote=has_applied, warned=lines)
        assert process.returncode in (0, 1, 128 + SIGTERM), stderr
        assert end.names_the_state, stderr
        return end

    @property
    def service(self) -> Object | None:
        return self.cluster.get(INFERENCE_SERVICES, self.name)

    @property
    def live(self) -> str | None:
        return None if self.service is None else storage_uri_of(self.service)

    def serves(self, uri: str) -> bool:
        """Whether this version is live and answers."""
        service = self.service
        assert service is not None
        return storage_uri_of(service) == uri and ask_model(self.cluster, service, Pace()) is not None

    def scale_up(self) -> None:
        """By one pod, like an autoscaler."""
        (deployment,) = self._find(DEPLOYMENTS)
        name = deployment["metadata"]["name"]
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": self.cluster.namespace},
            "spec": {"replicas": deployment["spec"].get("replicas", 1) + 1},
        }
        path = f"{DEPLOYMENTS.path(self.cluster.namespace, name)}/scale"
        query = {"fieldManager": "cluster-test", "force": "true"}
        self.cluster.ask("PATCH", path, query, body, "application/apply-patch+yaml")

    def lose_pod(self) -> None:
        pod = next(pod for pod in self._find(PODS) if is_ready(pod))
        self.cluster.ask("DELETE", PODS.path(self.cluster.namespace, pod["metadata"]["name"]))

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.patience
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _find(self, resource: Any) -> list[Object]:
        return self.cluster.find(resource, labelSelector=f"serving.kserve.io/inferenceservice={self.name}")
