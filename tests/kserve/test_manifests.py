"""Every overlay, and the base with every component and every compatible pair, renders and is sound."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
import yaml
from ts.model_server import load_properties

from pipeline.artefact.model import MODEL_NAME
from pipeline.deployment.annotations import IMAGE as IMAGE_IS_NOTED
from pipeline.serving.java import java_home
from pipeline.serving.route import model_route, predict_route
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import Ports
from reliability.pictures import base64_text
from server import door, drain, torchserve
from server.door import settings
from server.folder import Address
from server.health import HEALTH_PORT
from server.status import IMAGE

pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")

from tests.support.kserve_crds import Schemas
from tests.support.renderings import (
    AUTOSCALER,
    CHECKOUT,
    COMPONENTS,
    MANIFESTS,
    MODE,
    OVERLAYS,
    Object,
    crd_faults,
    faults,
    go_together,
    image_faults,
    in_order,
    kind_faults,
    merge,
    metadata_faults,
    one,
    pod_security_faults,
    render,
    render_with,
)

pytestmark = [
    pytest.mark.usefixtures("one_worker"),
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here, which renders the manifests"),
]

CHOICES = [(name,) for name in OVERLAYS] + sorted(
    {
        ("base", *in_order(pair))
        for size in (0, 1, 2)
        for pair in itertools.combinations(COMPONENTS, size)
        if go_together(pair)
    }
)


@cache
def rendering(*choice: str) -> list[Object]:
    if choice[0] in OVERLAYS:
        return render(MANIFESTS / "overlays" / choice[0])
    with TemporaryDirectory() as scratch:
        return render_with(choice[1:], Path(scratch))


@pytest.mark.parametrize("choice", CHOICES, ids="+".join)
def test_a_rendering_is_sound(choice: tuple[str, ...]) -> None:
    assert faults(rendering(*choice)) == []


@pytest.mark.parametrize("choice", CHOICES, ids="+".join)
def test_a_rendering_fits_kserves_crds(choice: tuple[str, ...], crd_schemas: Schemas) -> None:
    assert crd_faults(rendering(*choice), crd_schemas) == []


def test_the_crds_cover_the_kinds_that_are_used(crd_schemas: Schemas) -> None:
    used = {"serving.kserve.io/v1beta1 InferenceService", "serving.kserve.io/v1alpha1 ServingRuntime"}
    assert used <= crd_schemas.keys()


def test_every_component_is_rendered_and_says_what_it_adds() -> None:
    assert set(COMPONENTS) == {name for choice in CHOICES for name in choice[1:]}
    for name in COMPONENTS:
        text = (MANIFESTS / "components" / name / "README.md").read_text()
        assert text.startswith(f"# {name}\n")
        assert "The cluster needs" in text
        assert f"    components:\n{'':6}- ../../components/" in text
        assert f"- ../../components/{name}\n" in text


def test_every_kustomization_is_short_and_every_file_is_used() -> None:
    for file in MANIFESTS.rglob("kustomization.yaml"):
        used = yaml.safe_load(file.read_text())
        assert used["kind"] == ("Component" if "components" in file.relative_to(MANIFESTS).parts else "Kustomization")
        there = {path.name for path in file.parent.glob("*.yaml")} - {
            file.name,
            "cloudbuild.yaml",
            "envoy.yaml",
            "upload.yaml",
        }
        named = [*used.get("resources", []), *used.get("configurations", [])]
        assert there == {name for name in named if name.endswith(".yaml")}, file
    for name in OVERLAYS:  # overlays only combine
        used = yaml.safe_load((MANIFESTS / "overlays" / name / "kustomization.yaml").read_text())
        assert used.keys() <= {"apiVersion", "kind", "resources", "components", "images"}


def test_only_a_restricted_namespace_names_one() -> None:
    for choice in CHOICES:
        named = {object_["metadata"].get("namespace") for object_ in rendering(*choice)}
        assert (named == {None}) != ("restricted-namespace" in choice), choice


def test_the_line_to_edit_is_in_one_place() -> None:
    lines = [
        (str(file.relative_to(MANIFESTS)), line.strip())
        for file in MANIFESTS.rglob("*.yaml")
        for line in file.read_text().splitlines()
        if "gs://BUCKET/alexnet/VERSION" in line
    ]
    assert lines == [("base/inference-service.yaml", "storageUri: gs://BUCKET/alexnet/VERSION")]


def test_an_overlay_chooses_the_image_where_it_is_ours() -> None:
    for name in OVERLAYS:
        images = {
            container["image"].partition(":")[0]
            for object_ in rendering(name)
            if object_["kind"] == "ServingRuntime"
            for container in object_["spec"]["containers"]
        }
        expected = {"stock-runtime": set(), "kind": {"alexnet-torchserve"}}
        pushed = {"REGION-docker.pkg.dev/PROJECT/alexnet/alexnet-torchserve"}
        assert images == expected.get(name, pushed), name


def test_each_overlay_has_its_mode_and_autoscaler() -> None:
    found = {name: one(rendering(name), "InferenceService")["metadata"]["annotations"] for name in OVERLAYS}
    assert {name: (its[MODE], its.get(AUTOSCALER)) for name, its in found.items()} == {
        "gpu": ("Standard", "none"),
        "kind": ("Standard", "none"),
        "knative": ("Knative", None),
        "standard": ("Standard", "hpa"),
        "stock-runtime": ("Standard", "none"),
    }


# --- agreement with the image and with TorchServe's settings ----------------------------------------------------------


@pytest.fixture(scope="module")
def properties() -> dict[str, str]:
    read: dict[str, str] = load_properties(str(CHECKOUT / "config.properties"))
    return read


@pytest.fixture(scope="module")
def ports(properties: dict[str, str]) -> dict[str, int]:
    """The ports that other machines can reach."""
    return {
        "inference": int(properties["inference_address"].rpartition(":")[2]),
        "metrics": int(properties["metrics_address"].rpartition(":")[2]),
        "health": HEALTH_PORT,
    }


def test_the_runtime_listens_where_the_settings_say(ports: dict[str, int]) -> None:
    runtime = one(rendering("standard"), "ServingRuntime")["spec"]
    (container,) = runtime["containers"]
    assert container["name"] == "kserve-container"
    assert container["ports"][0]["containerPort"] == ports["inference"]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {probe["port"] for probe in probes.values()} == {ports["health"]}
    assert runtime["annotations"]["prometheus.kserve.io/port"] == str(ports["metrics"])


def test_knative_gets_one_port(ports: dict[str, int]) -> None:
    runtime = one(rendering("knative"), "ServingRuntime")["spec"]
    declared = [port for container in runtime["containers"] for port in container.get("ports", [])]
    assert [(port["name"], port["containerPort"]) for port in declared] == [("http1", ports["inference"])]


@pytest.mark.parametrize("before", [(), ("knative",), ("public-gateway",)])
def test_the_ports_name_lets_grpc_through(before: tuple[str, ...]) -> None:
    """KServe 0.15 to 0.20 set appProtocol for a name that contains h2c; Knative accepts h2c and http1."""
    objects = rendering("base", *before, "grpc")
    (container,) = one(objects, "ServingRuntime")["spec"]["containers"]
    assert [port["name"] for port in container["ports"]] == ["h2c"]
    if "public-gateway" in before:
        (rule,) = one(objects, "HTTPRoute")["spec"]["rules"]
        added = [match["path"]["value"] for match in rule["matches"] if "inference." in match["path"]["value"]]
        assert added == [f"/inference.GRPCInferenceService/{method}" for method in ("ModelInfer", "ModelReady")]


def test_the_runtime_says_which_protocols_it_has() -> None:
    versions = one(rendering("standard"), "ServingRuntime")["spec"]["protocolVersions"]
    assert versions == ["v1", "v2", "grpc-v2"]


def test_knative_gets_no_liveness_probe() -> None:
    """It would send one to the requests' port, which answers 404."""
    probed = {name: "livenessProbe" in container(name) for name in OVERLAYS if name != "stock-runtime"}
    assert probed == {"gpu": True, "kind": True, "knative": False, "standard": True}


def container(overlay: str) -> Object:
    first: Object = one(rendering(overlay), "ServingRuntime")["spec"]["containers"][0]
    return first


def test_components_use_existing_ports(ports: dict[str, int]) -> None:
    def of(component: str, kind: str) -> Object:
        spec: Object = one(rendering("base", component), kind)["spec"]
        return spec

    assert of("monitoring-google", "PodMonitoring")["endpoints"][0]["port"] == ports["metrics"]
    assert of("monitoring-prometheus", "Service")["ports"][0]["targetPort"] == ports["metrics"]
    check = of("public-gateway", "HealthCheckPolicy")["default"]["config"]["httpHealthCheck"]
    runtime = one(rendering("base"), "ServingRuntime")["spec"]["containers"][0]
    assert {name: check[field] for name, field in (("port", "port"), ("path", "requestPath"))} == runtime[
        "readinessProbe"
    ]["httpGet"]
    rules = of("network-policy", "NetworkPolicy")["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == set(ports.values())
    assert all(rule["from"] for rule in rules)
    (stock,) = one(rendering("stock-runtime"), "InferenceService")["spec"]["predictor"]["model"]["ports"]
    assert stock["containerPort"] == ports["inference"]


def ways_out(*components: str) -> set[tuple[str, int]]:
    """(destination, port) of each connection that may leave a pod."""
    policy = one(rendering("base", *components), "NetworkPolicy")["spec"]
    assert "Egress" in policy["policyTypes"]  # without it, everything is allowed
    return {
        (place["ipBlock"]["cidr"] if "ipBlock" in place else "kube-system", port["port"])
        for rule in policy.get("egress") or []
        for place in rule["to"]
        for port in rule["ports"]
    }


def test_what_leaves_the_pods_is_what_a_policy_says() -> None:
    """https://cloud.google.com/kubernetes-engine/docs/how-to/network-policy#network-policy-and-workload-identity"""
    names = {("kube-system", 53), ("169.254.20.10/32", 53)}
    credentials = {("169.254.169.254/32", 80), ("169.254.169.252/32", 988)}
    google = {("199.36.153.4/30", 443), ("199.36.153.8/30", 443)}
    assert ways_out("network-policy") == names | credentials | {("0.0.0.0/0", 443)}
    assert ways_out("network-policy", "network-policy-private-google") == names | credentials | google
    assert ways_out("network-policy", "network-policy-offline") == set()
    ingress = [
        one(rendering("base", "network-policy", *more), "NetworkPolicy")["spec"]["ingress"]
        for more in ((), ("network-policy-private-google",), ("network-policy-offline",))
    ]
    assert ingress[0] == ingress[1] == ingress[2]


@pytest.mark.parametrize("variant", ["network-policy-private-google", "network-policy-offline"])
def test_egress_components_without_the_policy_itself_are_refused(variant: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render_with((variant,), tmp_path)
    assert "NetworkPolicy.v1.networking.k8s.io/alexnet" in refused.value.stderr


def test_other_machines_reach_metrics_only_where_a_component_collects_them(ports: dict[str, int]) -> None:
    for choice in CHOICES:
        variables = one(rendering(*choice), "InferenceService")["spec"]["predictor"]["model"]["env"]
        values = {variable["name"]: variable["value"] for variable in variables}
        collected = any(name.startswith("monitoring-") for name in choice)
        address = "0.0.0.0" if collected else "127.0.0.1"
        assert values.pop("TS_METRICS_ADDRESS") == f"http://{address}:{ports['metrics']}", choice
        assert set(values) == {name for component in choice for name in VARIABLES.get(component, ())}, choice


VARIABLES = {
    "signature": {"ALEXNET_PUBLIC_KEY"},
    "identity": {"ALEXNET_IDENTITY", "ALEXNET_IDENTITY_PROVIDER", "ALEXNET_TRUST_ROOT"},
    "api-keys": {"API_KEYS"},
    "jwt": {"JWT_ISSUER", "JWT_AUDIENCES", "JWT_JWKS_URI"},
    "rate-limit": {"RATE_LIMIT_PER_CLIENT", "RATE_LIMIT_PER_POD"},
    "short-shutdown": {"DRAIN_AT_LEAST_S", "DRAIN_AT_MOST_S"},
    "public-endpoint": {"TRUSTED_HOPS"},
    "public-endpoint-iap": {"TRUSTED_HOPS"},
}


def test_the_runtime_reads_the_image_where_deployments_put_it() -> None:
    (variable,) = one(rendering("base"), "ServingRuntime")["spec"]["containers"][0]["env"]
    place = f"metadata.annotations['{IMAGE_IS_NOTED}']"
    assert variable == {"name": IMAGE, "valueFrom": {"fieldRef": {"fieldPath": place}}}


def with_variable(place: str, tmp_path: Path) -> list[Object]:
    """The base with a component that adds a variable to the runtime at this place, and then knative."""
    patch = json.dumps(
        [{"op": "add", "path": f"/spec/containers/0/env/{place}", "value": {"name": "OURS", "value": "1"}}]
    )
    mine = {"target": {"kind": "ServingRuntime"}, "patch": patch}
    component = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "patches": [mine]}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(component))
    root = os.path.relpath(MANIFESTS, tmp_path.resolve())
    together = {"resources": [f"{root}/base"], "components": ["mine", f"{root}/components/knative"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(together))
    return render(tmp_path)


def test_on_knative_only_the_image_is_removed_from_the_runtimes_variables(tmp_path: Path) -> None:
    assert not one(rendering("base", "knative"), "ServingRuntime")["spec"]["containers"][0]["env"]
    container = one(with_variable("-", tmp_path), "ServingRuntime")["spec"]["containers"][0]
    assert container["env"] == [{"name": "OURS", "value": "1"}]


def test_on_knative_no_other_variable_is_removed_instead(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        with_variable("0", tmp_path)
    assert "/spec/containers/0/env/0/name" in refused.value.stderr


def test_the_server_accepts_the_components_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All authentication variables at once, and every volume that the signature needs too."""
    objects = rendering("base", "api-keys", "jwt", "rate-limit", "signature")
    model = one(objects, "InferenceService")["spec"]["predictor"]["model"]
    for variable in model["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    runtime = one(objects, "ServingRuntime")["spec"]
    (mount,) = (mount for mount in runtime["containers"][0]["volumeMounts"] if mount["name"] == "api-keys")
    assert (mount["mountPath"], mount["readOnly"]) == (os.environ["API_KEYS"], True)
    volume = {"name": "api-keys", "secret": {"secretName": "alexnet-api-keys"}}  # pragma: allowlist secret
    assert volume in runtime["volumes"]
    assert [mount["name"] for mount in model["volumeMounts"]] == ["public-key"]
    monkeypatch.setenv("API_KEYS", str(tmp_path))  # where the Secret would be
    filled_in = yaml.safe_load(settings(tmp_path, (MODEL_NAME, ""), Address("127.0.0.1", 8080), 8081))
    (chain,) = filled_in["static_resources"]["listeners"][0]["filter_chains"]
    filters = [entry["name"] for entry in chain["filters"][0]["typed_config"]["http_filters"]]
    assert filters[:4] == ["api_keys", "envoy.filters.http.jwt_authn", "per_client", "per_pod"]


def test_the_public_route_is_that_of_the_model() -> None:
    """Predictions, their preflights, and whether the model answers; nothing else that the door says about itself."""
    (rule,) = one(rendering("base", "public-gateway"), "HTTPRoute")["spec"]["rules"]
    let_through = [(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]]
    assert let_through == [
        ("Exact", predict_route(MODEL_NAME)),
        ("Exact", f"/v2/models/{MODEL_NAME}/infer"),
        ("Exact", model_route(MODEL_NAME)),
    ]
    assert all(match.keys() == {"path"} for match in rule["matches"])  # the door knows which methods they have


def test_one_user_owns_the_download_and_the_server() -> None:
    runtime = one(rendering("standard"), "ServingRuntime")["spec"]["containers"][0]["securityContext"]
    storage = one(rendering("base", "restricted-namespace"), "ClusterStorageContainer")["spec"]["container"]
    (upload,) = yaml.safe_load_all((MANIFESTS / "overlays" / "kind" / "upload.yaml").read_text())
    for other in (storage["securityContext"], upload["spec"]["securityContext"]):
        assert (other["runAsUser"], other["runAsGroup"]) == (runtime["runAsUser"], runtime["runAsGroup"])
    dockerfile = (MANIFESTS / "runtime" / "Dockerfile").read_text()
    assert re.findall(r"^USER (\d+)", dockerfile, re.MULTILINE)[-1:] == [str(runtime["runAsUser"])]


def test_the_upload_pod_is_sound() -> None:
    objects = rendering("kind")
    upload = yaml.safe_load((MANIFESTS / "overlays" / "kind" / "upload.yaml").read_text())
    found = [*kind_faults(upload), *metadata_faults(upload), *image_faults(upload), *pod_security_faults([upload])]
    assert found == []
    (volume,) = upload["spec"]["volumes"]
    claim = one(objects, "PersistentVolumeClaim")["metadata"]["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert upload["spec"]["containers"][0]["image"] == one(objects, "ServingRuntime")["spec"]["containers"][0]["image"]


def test_a_roll_out_never_has_fewer_replicas_and_leaves_time_to_drain() -> None:
    predictor = one(rendering("standard"), "InferenceService")["spec"]["predictor"]
    assert predictor["deploymentStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    stopping = door.STOP_TIMEOUT_S + torchserve.STOP_TIMEOUT_S
    assert predictor["terminationGracePeriodSeconds"] > drain.DRAIN_AT_MOST_S + stopping


def test_a_spot_node_gives_a_pod_enough_time() -> None:
    pools = (CHECKOUT / "terraform" / "cluster" / "node_pools.tf").read_text()
    ((whole, critical),) = re.findall(r"shutdown = \{ whole = (\d+), critical = (\d+)", pools)
    predictor = one(rendering("standard"), "InferenceService")["spec"]["predictor"]
    assert predictor["terminationGracePeriodSeconds"] <= int(whole) - int(critical)


def test_a_short_shutdown_ends_a_pod_in_time() -> None:
    readme = (MANIFESTS / "components" / "short-shutdown" / "README.md").read_text()
    (seconds,) = re.findall(r"give a pod (\d+) s", readme)
    variables = one(rendering("base", "short-shutdown"), "InferenceService")["spec"]["predictor"]["model"]["env"]
    told = {entry["name"]: float(entry["value"]) for entry in variables if entry["name"].startswith("DRAIN_")}
    assert told.keys() == {name for name in vars(drain) if name.startswith("DRAIN_")}
    assert told["DRAIN_AT_LEAST_S"] < told["DRAIN_AT_MOST_S"] < float(seconds)
    assert f"drains for {told['DRAIN_AT_LEAST_S']:g} to {told['DRAIN_AT_MOST_S']:g} s" in readme


def test_replicas_are_spread_over_zones_and_nodes_where_there_are_several() -> None:
    spread = one(rendering("standard"), "InferenceService")["spec"]["predictor"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for each in spread:
        assert (each["maxSkew"], each["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
        assert each["labelSelector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": "alexnet"}


def test_replicas_tolerate_the_nodes_reserved_for_them() -> None:
    kept = {"key": "torchserve-alexnet/role", "value": "serving", "effect": "NoSchedule"}
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    for name in OVERLAYS:
        tolerations = one(rendering(name), "InferenceService")["spec"]["predictor"]["tolerations"]
        assert tolerations == ([kept, gpu] if name == "gpu" else [kept]), name


def test_the_autoscaler_uses_metrics_that_torchserve_has(server: TorchServe, photographs: list[Path]) -> None:
    httpx.post(
        server.predict_url,
        content=photographs[0].read_bytes(),
        headers={"Content-Type": "image/jpeg"},
        timeout=60,
        trust_env=False,
    ).raise_for_status()
    metrics = httpx.get(f"{server.metrics_url}/metrics", timeout=60, trust_env=False).text
    predictor = one(rendering("base", "autoscaling-keda"), "InferenceService")["spec"]["predictor"]
    query = predictor["autoScaling"]["metrics"][0]["external"]["metric"]["query"]
    labels = set()
    names = re.findall(r'(ts_\w+)\{pod=~"[^"]+"\}', query)  # `pod` is Prometheus's own; the pod has one model
    assert len(names) == 2
    for name in names:
        (line,) = (line for line in metrics.splitlines() if line.startswith(f"{name}{{"))
        labels.add(line.partition("{")[2].partition("}")[0])
    assert len(labels) == 1, "a division needs the same labels on both sides"


def test_the_stock_runtimes_start_command_serves_without_the_envelope(
    directory: Path, photographs: list[Path], tmp_path: Path
) -> None:
    model = one(rendering("stock-runtime"), "InferenceService")["spec"]["predictor"]["model"]
    # As in KServe 0.20's config/runtimes/kserve-torchserve.yaml, here with this machine's paths.
    launcher = [sys.executable, "-P", "-m", "ts.model_server"]
    stock = [*launcher, "--start", f"--model-store={directory}/model-store"]
    stock += [f"--ts-config={directory}/config/config.properties"]
    ports = Ports.any_free()
    environment = dict(os.environ, JAVA_HOME=str(java_home()), TS_SERVICE_ENVELOPE="kserve", TMPDIR=str(tmp_path))
    environment |= {
        "TS_INFERENCE_ADDRESS": f"http://127.0.0.1:{ports.inference}",
        "TS_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{ports.management}",
        "TS_METRICS_ADDRESS": f"http://127.0.0.1:{ports.metrics}",
        "TS_GRPC_INFERENCE_PORT": str(ports.grpc_inference),
        "TS_GRPC_MANAGEMENT_PORT": str(ports.grpc_management),
    }
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [*model["command"], *stock, *model["args"]],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        transport = httpx.HTTPTransport(retries=7)  # 0.5 s, 1 s, 2 s … until it listens
        with httpx.Client(transport=transport, timeout=60) as http:
            url = f"http://127.0.0.1:{ports.inference}/v1/models/alexnet:predict"
            image = photographs[0].read_bytes()
            as_json = http.post(url, json={"instances": [{"b64": base64_text(image)}]})
            # The envelope accepts only JSON.
            as_image = http.post(url, content=image, headers={"Content-Type": "image/jpeg"})
            for answer in (as_json, as_image):
                assert answer.status_code == 200, answer.text
                assert len(answer.json()["predictions"][0]["classes"]) == 5
            ping = model["readinessProbe"]["httpGet"]
            assert http.get(f"http://127.0.0.1:{ports.inference}{ping['path']}").status_code == 200
        assert process.poll() is None, "it stays in the foreground"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


# --- every check can fail ---------------------------------------------------------------------------------------------


def at(path: str, value: object) -> Callable[[Object], None]:
    """Sets, deletes (None) or adds the value at a path such as `spec.rules.0.matches`."""

    def change(object_: Object) -> None:
        part: Any = object_
        *above, last = path.replace("~", ".").split("/")
        for step in above:
            part = part[int(step)] if isinstance(part, list) else part[step]
        if value is None:
            del part[last]
        else:
            part[int(last) if isinstance(part, list) else last] = value

    return change


SERVICE, RUNTIME, BUDGET = "InferenceService", "ServingRuntime", "PodDisruptionBudget"
BROKEN = {
    "an unknown field of the SDK": ("base", SERVICE, at("spec/predictor/minReplica", 1), "no field minReplica"),
    "a type of the SDK": ("base", SERVICE, at("spec/predictor/minReplicas", "1"), "'1' is not of type int"),
    "what the SDK requires": ("base", RUNTIME, at("spec/containers", None), "`containers`"),
    "a model's name": ("base", SERVICE, at("spec/predictor/model/name", "alexnet"), "model.name is refused"),
    "a runtime that is not there": ("base", SERVICE, at("spec/predictor/model/runtime", "other"), "no runtime other"),
    "an account that is not there": ("base", SERVICE, at("spec/predictor/serviceAccountName", "x"), "account x"),
    "a claim that is not there": ("base", SERVICE, at("spec/predictor/model/storageUri", "pvc://x"), "volume claim x"),
    "bounds the wrong way": ("base+autoscaling-hpa", SERVICE, at("spec/predictor/minReplicas", 9), "above maxReplicas"),
    "a metric that the HPA lacks": (
        "base+autoscaling-hpa",
        SERVICE,
        at("spec/predictor/scaleMetric", "rps"),
        "cpu and",
    ),
    "an autoscaler without settings": (
        "base",
        SERVICE,
        at(f"metadata/annotations/{AUTOSCALER.replace('/', '~')}", 1),
        "",
    ),
    "nobody who scales": ("base", SERVICE, at("spec/predictor/maxReplicas", 3), "has no autoscaler"),
    "zero replicas in Standard mode": ("base", SERVICE, at("spec/predictor/minReplicas", 0), "keeps one replica"),
    "a share that is ignored": ("base", SERVICE, at("spec/predictor/canaryTrafficPercent", 5), "ignores canary"),
    "a field of the pod for Knative": (
        "base+knative",
        RUNTIME,
        at("spec/containers/0/env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        "Knative refuses a fieldRef (A)",
    ),
    "a strategy for Knative": ("base+knative", SERVICE, at("spec/predictor/deploymentStrategy", {}), "refuses deploym"),
    "no mode": ("base", SERVICE, at("metadata/annotations", {}), "should be Standard or Knative"),
    "a canary of KServe's": ("base", SERVICE, at("spec/canary", []), "no release divides"),
    "more than all requests": (
        "base+public-gateway+canary-standard",
        "HTTPRoute",
        at("spec/rules/0/backendRefs/1/weight", 20),
        "the weights [90, 20] are no hundredths",
    ),
    "a share without a word": (
        "base+public-gateway+canary-standard",
        "HTTPRoute",
        at("spec/rules/0/backendRefs/0/weight", None),
        "the weights [1, 10] are no hundredths",
    ),
    "a next version that nobody asks after its health": (
        "base+public-gateway",
        "HTTPRoute",
        at("spec/rules/0/backendRefs/0/name", "alexnet-next-predictor"),
        "GKE asks no health of alexnet-next-predictor",
    ),
    "an unknown storage": (
        "base",
        SERVICE,
        at("spec/predictor/storageContainerName", "x"),
        "ClusterStorageContainer x",
    ),
    "a storage that another scheme needs": (
        "base+restricted-namespace",
        SERVICE,
        at("spec/predictor/model/storageUri", "s3://b/m"),
        "does not take s3://b/m",
    ),
    "an image without a version": ("base", RUNTIME, at("spec/containers/0/image", "a:80/b"), "a:80/b has no version"),
    "the latest image": ("base", RUNTIME, at("spec/containers/0/image", "a:latest"), "a:latest has no version"),
    "no labels": ("base", RUNTIME, at("metadata/labels", {}), "the project's two"),
    "root": ("base", RUNTIME, at("spec/containers/0/securityContext/runAsNonRoot", False), "runAsNonRoot of kserve"),
    "no user": ("base", RUNTIME, at("spec/containers/0/securityContext/runAsUser", 0), "a user of its own"),
    "privileges": ("base", RUNTIME, at("spec/containers/0/securityContext/privileged", True), "is privileged"),
    "capabilities": ("base", RUNTIME, at("spec/containers/0/securityContext/capabilities", None), "capabilities of"),
    "a folder of the node": ("base", RUNTIME, at("spec/volumes/0/hostPath", {"path": "/"}), "of a kind that"),
    "a port of the node": ("base", RUNTIME, at("spec/containers/0/ports/0/hostPort", 80), "a port of the node"),
    "an unknown field of Kubernetes": ("base+disruption-budget", BUDGET, at("spec/minAvail", 1), "minAvail"),
    "a type of Kubernetes": ("base+network-policy", "NetworkPolicy", at("spec/egress/0/ports/0/port", []), "egress"),
    "a selector that finds nothing": (
        "base+disruption-budget",
        BUDGET,
        at("spec/selector/matchLabels/component", "transformer"),
        "finds no pod",
    ),
    "a monitor that finds nothing": (
        "base+monitoring-prometheus",
        "ServiceMonitor",
        at("spec/selector/matchLabels/x", "y"),
        "finds the ports []",
    ),
    "an unknown field of another project": (
        "base+public-gateway",
        "Gateway",
        at("spec/listeners/0/host", "a"),
        "host is",
    ),
    "a word of another project": (
        "base+public-gateway",
        "Gateway",
        at("spec/listeners/0/protocol", "HTTPs"),
        "'HTTPs'",
    ),
    "an unknown kind": (
        "base+public-gateway",
        "Gateway",
        at("apiVersion", "gateway.networking.k8s.io/v9"),
        "nothing here",
    ),
    "a listener that is not there": (
        "base+public-gateway",
        "HTTPRoute",
        at("spec/parentRefs/0/sectionName", "http"),
        "no listener alexnet/http",
    ),
    "a route that KServe makes itself": (
        "base+public-gateway",
        "HTTPRoute",
        at("metadata/name", "alexnet"),
        "KServe overwrites the route alexnet",
    ),
    "a Service that is not there": (
        "base+public-gateway",
        "HTTPRoute",
        at("spec/rules/0/backendRefs/0/name", "alexnet"),
        "no Service alexnet with",
    ),
    "certificates of two kinds": (
        "base+public-gateway",
        "Gateway",
        at("metadata/annotations", {"networking.gke.io/certmap": "a"}),
        "from a Secret or from a map",
    ),
    "a policy of a Gateway that is not there": (
        "base+public-gateway+public-endpoint-iap",
        "GCPGatewayPolicy",
        at("spec/targetRef/name", "other"),
        "no Gateway other",
    ),
    "a health check of nothing": (
        "base+public-gateway",
        "HealthCheckPolicy",
        at("spec/targetRef/name", "alexnet"),
        "no Service alexnet",
    ),
    "a cluster's object in a namespace": (
        "base+restricted-namespace",
        "ClusterStorageContainer",
        at("metadata/namespace", "alexnet"),
        "is in none",
    ),
    "a storage initializer with privileges": (
        "base+restricted-namespace",
        "ClusterStorageContainer",
        at("spec/container/securityContext/allowPrivilegeEscalation", True),
        "allowPrivilegeEscalation of storage-initializer",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_object_is_found(name: str) -> None:
    choice, kind, change, sentence = BROKEN[name]
    objects = copy.deepcopy(rendering(*choice.split("+")))
    change(one(objects, kind))
    found = faults(objects)
    assert any(fault.startswith(f"{kind}: ") or kind in fault for fault in found), found
    assert any(sentence in fault for fault in found), found


CRD_BROKEN = {
    "an unknown field": (SERVICE, at("spec/predictor/minReplica", 1), "minReplica is not a field"),
    "an unknown field far below": (RUNTIME, at("spec/containers/0/ports/0/port", 1), "port is not a field"),
    "a type": (SERVICE, at("spec/predictor/minReplicas", "1"), "'1' is not of type integer"),
    "a boolean for a number": (SERVICE, at("spec/predictor/minReplicas", True), "True is not of type integer"),
    "a word": (SERVICE, at("spec/predictor/scaleMetric", "gpu"), "'gpu' is none of 'cpu'"),
    "a bound": (SERVICE, at("spec/canary", [{"predictor": {}, "trafficPercent": 101}]), "101 is out of bounds"),
    "what is required": (RUNTIME, at("spec/containers/0/name", None), "name is missing"),
    "an int or string": (RUNTIME, at("spec/containers/0/startupProbe/httpGet/port", 1.5), "not of type int or string"),
    "a pattern": (RUNTIME, at("spec/containers/0/resources/limits/cpu", "two"), "'two' does not match"),
    "a label that is no string": (SERVICE, at("metadata/labels/version", 1), "1 is not of type string"),
}


@pytest.mark.parametrize("name", CRD_BROKEN)
def test_violations_of_the_crds_are_found(name: str, crd_schemas: Schemas) -> None:
    kind, change, sentence = CRD_BROKEN[name]
    objects = copy.deepcopy(rendering("base"))
    change(one(objects, kind))
    found = crd_faults(objects, crd_schemas)
    assert any(sentence in fault for fault in found), found


def test_containers_merge_as_kserve_merges_them() -> None:
    stock = {"args": ["a"], "resources": {"limits": {"cpu": "1", "memory": "2Gi"}}}
    ours = {"args": ["b"], "resources": {"limits": {"cpu": "2"}}, "command": ["c"]}
    merged = {"args": ["a", "b"], "resources": {"limits": {"cpu": "2", "memory": "2Gi"}}, "command": ["c"]}
    assert merge(stock, ours) == merged
