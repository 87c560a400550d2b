"""The component canary-standard splits the public requests between two services, as its README says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")

from pipeline.deployment.cluster import FIELD_MANAGER
from tests.support.api_server import write_kube_config
from tests.support.in_a_thread import in_a_thread
from tests.support.renderings import HEALTH_CHECK, MANIFESTS, Object, one, render_with

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here, which renders the manifests"),
]

README = (MANIFESTS / "components" / "canary-standard" / "README.md").read_text()
SERVICE = "InferenceService"
GATEWAY, BOTH = ("public-gateway",), ("public-gateway", "canary-standard")


@cache
def rendering(components: tuple[str, ...]) -> list[Object]:
    with TemporaryDirectory() as scratch:
        return render_with(components, Path(scratch))


def test_a_canary_splits_only_the_public_requests() -> None:
    """The same requests as before, split between two Services, each with a health check."""
    without, with_it = rendering(GATEWAY), rendering(BOTH)
    (before,) = one(without, "HTTPRoute")["spec"]["rules"]
    (now,) = one(with_it, "HTTPRoute")["spec"]["rules"]
    assert now["matches"] == before["matches"]
    assert now["backendRefs"] == [
        {"name": "alexnet-predictor", "port": 80, "weight": 90},
        {"name": "alexnet-next-predictor", "port": 80, "weight": 10},
    ]
    (first,) = (found["spec"] for found in without if found["kind"] == HEALTH_CHECK)
    checks = {found["spec"]["targetRef"]["name"]: found["spec"] for found in with_it if found["kind"] == HEALTH_CHECK}
    assert checks.keys() == {backend["name"] for backend in now["backendRefs"]}
    assert {str(check["default"]) for check in checks.values()} == {str(first["default"])}
    assert one(with_it, SERVICE) == one(without, SERVICE)


@pytest.mark.parametrize("components", [("canary-standard",), ("canary-standard", "public-gateway")], ids=len)
def test_a_canary_without_the_route_that_it_splits_is_refused(components: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render_with(components, tmp_path)
    assert "HTTPRoute.v1.gateway.networking.k8s.io/alexnet-public" in refused.value.stderr


def test_the_next_version_is_the_service_that_its_readme_deploys() -> None:
    (named,) = set(re.findall(r"--name (\S+)", README))
    (_, backend) = one(rendering(BOTH), "HTTPRoute")["spec"]["rules"][0]["backendRefs"]
    assert backend["name"] == f"{named}-predictor"
    assert f'pod=~"{backend["name"]}-.*"' in README
    (removed,) = re.findall(r"kubectl delete healthcheckpolicy (\S+)", README)
    names = [found["metadata"]["name"] for found in rendering(BOTH)]
    assert removed in names


class Recorder(ThreadingHTTPServer):
    """The part of the API that kubectl reads before it applies something; records what it applies, and as whom."""

    def __init__(self, objects: list[Object]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.objects = objects
        self.applied: list[tuple[str, str]] = []

    def discovered(self, path: str) -> Object:
        versions = sorted({found["apiVersion"] for found in self.objects if "/" in found["apiVersion"]})
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [
                {"name": version.partition("/")[0], "versions": [named], "preferredVersion": named}
                for version in versions
                for named in [{"groupVersion": version, "version": version.partition("/")[2]}]
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        kinds = {found["kind"] for found in self.objects if found["apiVersion"] == version}
        resources = [
            {"name": f"{kind.lower()}s", "kind": kind, "namespaced": True, "verbs": ["get", "patch"]}
            for kind in sorted(kinds)
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


class Answering(BaseHTTPRequestHandler):
    server: Recorder

    def answer(self, body: Object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.answer(self.server.discovered(self.path.partition("?")[0]))

    def do_PATCH(self) -> None:
        path, _, query = self.path.partition("?")
        (manager,) = re.findall(r"fieldManager=([^&]+)", query)
        self.server.applied.append((path.partition("/namespaces/models/")[2], manager))
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *_: object) -> None:
        pass


def test_new_weights_are_applied_without_restarting_pods(tmp_path: Path, user_environment: None) -> None:
    """As deploy.sh, so that the two do not conflict; and nothing that would restart pods."""
    (command,) = re.findall(r"^ +(kubectl apply -k .*\n.*)$", README, re.MULTILINE)
    words = shlex.split(command.replace("\\\n", " "))
    render_with(BOTH, tmp_path)
    with in_a_thread(Recorder(rendering(BOTH))) as api:
        config = write_kube_config(tmp_path / "config", f"http://127.0.0.1:{api.server_port}")
        words[words.index("kserve/overlays/public")] = str(tmp_path)
        options = ["--kubeconfig", str(config), "--cache-dir", str(tmp_path / "cache"), "--validate=false"]
        done = subprocess.run([*words, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(api.applied) == [
        ("gateways/alexnet", FIELD_MANAGER),
        ("healthcheckpolicys/alexnet", FIELD_MANAGER),
        ("healthcheckpolicys/alexnet-next-public", FIELD_MANAGER),
        ("httproutes/alexnet-public", FIELD_MANAGER),
    ]
