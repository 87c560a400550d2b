"""A service that public-endpoint publishes is closed to anybody without a key, and finds what Terraform created."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import yaml

pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")

from pipeline.deployment import manifests
from server import door, drain
from tests.kserve.callers.service import serving
from tests.support.renderings import CERTIFICATES, CHECKOUT, GUARD, MANIFESTS, Object, faults, one, render, render_with
from tests.support.second_services import write_overlay
from tests.support.waiting import Eventually
from tests.support.walks import commands, section, walked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here, which renders the manifests"),
]

PAGE = CHECKOUT / "docs" / "endpoint.md"
TERRAFORM = (CHECKOUT / "terraform" / "cluster" / "public_endpoint.tf").read_text()
BY_KEY = ("public-gateway", "api-keys", "public-endpoint")
BY_PROXY = ("public-gateway", "public-endpoint-iap")
EITHER = pytest.mark.parametrize("components", [BY_KEY, BY_PROXY], ids=["keys", "proxy"])


@cache
def rendering(components: tuple[str, ...]) -> list[Object]:
    with TemporaryDirectory() as scratch:
        return render_with(components, Path(scratch))


def every(objects: list[Object], kind: str) -> list[Object]:
    found = [object_ for object_ in objects if object_["kind"] == kind]
    assert found, kind
    return found


# --- Nobody without credentials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("components", "missing"),
    [
        (("public-gateway", "public-endpoint"), "alexnet-api-keys"),
        (("public-gateway", "public-endpoint", "api-keys"), "alexnet-api-keys"),
        (("api-keys", "public-endpoint"), "Gateway"),
        (("api-keys", "public-endpoint", "public-gateway"), "Gateway"),
        (("public-endpoint-iap",), "Gateway"),
    ],
    ids=" then ".join,
)
def test_what_it_stands_on_is_there_before_it_or_the_overlay_is_refused(
    components: tuple[str, ...], missing: str, tmp_path: Path
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render_with(components, tmp_path)
    assert "no resource matches strategic merge patch" in refused.value.stderr
    assert missing in refused.value.stderr


def test_the_server_asks_for_a_key() -> None:
    objects = rendering(BY_KEY)
    variables = one(objects, "InferenceService")["spec"]["predictor"]["model"]["env"]
    (folder,) = (variable["value"] for variable in variables if variable["name"] == "API_KEYS")
    runtime = one(objects, "ServingRuntime")["spec"]
    assert folder in {mount["mountPath"] for mount in runtime["containers"][0]["volumeMounts"]}
    assert not any("iap" in policy["spec"]["default"] for policy in every(objects, GUARD))


def test_the_proxy_asks_before_every_version() -> None:
    policies = every(rendering((*BY_PROXY, "canary-standard")), GUARD)
    assert len(policies) == 2
    for policy in policies:
        proxy = policy["spec"]["default"]["iap"]
        assert proxy["enabled"] is True
        assert proxy["clientID"]
        assert proxy["oauth2ClientSecret"]["name"] == "alexnet-iap"


@EITHER
def test_no_version_is_in_the_route_without_a_limit(components: tuple[str, ...]) -> None:
    """Also the next version, whose Service another component adds."""
    objects = rendering((*components, "canary-standard"))
    (rule,) = one(objects, "HTTPRoute")["spec"]["rules"]
    policies = {policy["spec"]["targetRef"]["name"]: policy["spec"]["default"] for policy in every(objects, GUARD)}
    assert policies.keys() == {backend["name"] for backend in rule["backendRefs"]}
    assert len({str(policy) for policy in policies.values()}) == 1
    assert all(policy["securityPolicy"] for policy in policies.values())


def test_a_version_without_a_limit_would_be_found() -> None:
    objects = [
        found
        for found in rendering((*BY_KEY, "canary-standard"))
        if found["metadata"]["name"] != "alexnet-next-public" or found["kind"] != GUARD
    ]
    assert "HTTPRoute: anybody may ask alexnet-next-predictor" in faults(objects)


@EITHER
def test_the_guards_come_before_what_they_guard(components: tuple[str, ...], tmp_path: Path) -> None:
    write_overlay(tmp_path / "it", ("standard", *components))
    kinds = [found["kind"] for found in manifests.render(tmp_path, "it")]
    last_guard = max(place for place, kind in enumerate(kinds) if kind == GUARD)
    assert last_guard < min(kinds.index(kind) for kind in ("Gateway", "HTTPRoute", "InferenceService"))


# --- The load balancer's settings -------------------------------------------------------------------------------------


@EITHER
def test_https_is_the_only_way_in(components: tuple[str, ...]) -> None:
    (listener,) = one(rendering(components), "Gateway")["spec"]["listeners"]
    assert (listener["port"], listener["protocol"]) == (443, "HTTPS")
    assert "tls" not in listener, "GKE refuses certificates of both kinds in one Gateway"


@EITHER
@pytest.mark.parametrize(("name", "suffix"), [("alexnet", ""), ("alexnet-staging", "-staging")])
def test_everything_has_the_name_that_terraform_gives_it(
    components: tuple[str, ...], name: str, suffix: str, tmp_path: Path
) -> None:
    given = set(re.findall(r'^  name += "(.*)"$', TERRAFORM, re.MULTILINE))
    assert given == {"${each.key}-public"}
    objects = render(write_overlay(tmp_path / "it", ("standard", *components), nameSuffix=suffix))
    gateway = one(objects, "Gateway")
    (address,) = gateway["spec"]["addresses"]
    assert address["type"] == "NamedAddress"
    used = {
        address["value"],
        gateway["metadata"]["annotations"][CERTIFICATES],
        one(objects, "GCPGatewayPolicy")["spec"]["default"]["sslPolicy"],
        *(policy["spec"]["default"]["securityPolicy"] for policy in every(objects, GUARD)),
    }
    assert used == {f"{name}-public"}


def test_the_load_balancer_waits_for_as_long_as_an_answer_may_take() -> None:
    settings = yaml.safe_load((CHECKOUT / "handler" / "model-config.yaml").read_text())
    arrives = int(door.NAMES["request_timeout_s"].default)
    for policy in every(rendering(BY_KEY), GUARD):
        assert policy["spec"]["default"]["timeoutSec"] >= arrives + settings["responseTimeout"]
        assert policy["spec"]["default"]["connectionDraining"]["drainingTimeoutSec"] == drain.DRAIN_AT_MOST_S


def test_the_log_has_the_clients_address_behind_googles_load_balancer(
    light_directory: Path, eventually: Eventually
) -> None:
    """It appends the client's and its own: https://cloud.google.com/load-balancing/docs/https#x-forwarded-for_header."""
    variables = one(rendering(BY_KEY), "InferenceService")["spec"]["predictor"]["model"]["env"]
    (hops,) = (variable for variable in variables if variable["name"] == "TRUSTED_HOPS")
    with serving(light_directory, {"TRUSTED_HOPS": hops["value"]}) as (running, heard, _):
        said_by_the_client, client, balancer = "192.0.2.66", "198.51.100.7", "203.0.113.7"
        forwarded = {"x-forwarded-for": f"{said_by_the_client}, {client}, {balancer}"}
        httpx.get(f"{running.url}/none", headers=forwarded, trust_env=False, timeout=60)
        eventually(lambda: any(f'"client": "{client}"' in line for line in heard.lines))
    assert not any(said_by_the_client in line or f'"{balancer}"' in line for line in heard.lines)


# --- The page ---------------------------------------------------------------------------------------------------------

ANSWERS = r"""
"terraform -chdir=terraform/cluster output -raw dns_records"*)
  printf '_acme-challenge.alexnet.example.com. 300 IN CNAME b.\nalexnet.example.com. 300 IN A 203.0.113.7' ;;
"openssl rand -hex 32"*) echo a-key ;;
"publish.sh gs://b/alexnet"*) echo gs://b/alexnet/v ;;
"curl --silent --max-time"*) exit 7 ;;
"curl "*"--header @build/headers"*) echo 200 ;;
"curl "*) echo 401 ;;
"""
SHELL = "ENVIRONMENT=dev NAMESPACE=ns IMAGE=i:1 BUCKET=b PROJECT=p\n"


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("walk")
    script = SHELL + "".join(commands(PAGE, title) for title in ("With keys", "With Google accounts", "Back"))
    return folder, walked(folder, script, {"terraform", "gcloud", "kubectl", "openssl", "curl"}, ANSWERS)


def test_the_page_can_be_followed_from_top_to_bottom(walk: tuple[Path, list[str]]) -> None:
    folder, record = walk
    wanted = [
        "terraform -chdir=terraform/cluster apply -var-file=../environments/dev.tfvars",
        "kubectl create secret generic alexnet-api-keys --namespace ns --from-file=build/alice",
        "deploy.sh --overlay public --namespace ns --image i:1 --storage-uri gs://b/alexnet/v",
        "kubectl wait --namespace ns gateway/alexnet --for=condition=Programmed --timeout=15m",
        "predict.sh --url https://alexnet.example.com --header @build/headers docs/photographs/chelsea.jpg",
        "kubectl create secret generic alexnet-iap --namespace ns --from-file=key=build/client-secret.txt",
        "predict.sh --url https://alexnet.example.com --token-file build/token docs/photographs/chelsea.jpg",
    ]
    assert [line for line in record if line in wanted] == [*wanted, wanted[0]]
    asked = [line for line in record if line.startswith("curl ")]
    assert ["--resolve alexnet.example.com:443:203.0.113.7" in line for line in asked] == [True, False, True]
    assert (folder / "build" / "headers").read_text() == "x-api-key: a-key\n"


def with_overlay(overlay: str, folder: Path) -> list[Object]:
    """Its rendering by kubectl, next to the others."""
    shutil.copytree(MANIFESTS, folder / "kserve")
    (folder / "kserve" / "overlays" / "public").mkdir()
    (folder / "kserve" / "overlays" / "public" / "kustomization.yaml").write_text(overlay)
    return render(folder / "kserve" / "overlays" / "public")


def test_the_overlay_of_the_page_renders_and_is_sound(walk: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, _ = walk
    objects = with_overlay((folder / "kserve" / "overlays" / "public" / "kustomization.yaml").read_text(), tmp_path)
    assert faults(objects) == []
    assert one(objects, "Gateway")["spec"]["listeners"][0]["hostname"] == "alexnet.example.com"
    assert len(every(objects, GUARD)) == 2


def test_the_overlay_with_google_accounts_renders_and_is_sound(tmp_path: Path) -> None:
    (fields,) = re.findall(r"```yaml\n(.*?)```", section(PAGE, "With Google accounts"), re.DOTALL)
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - ../standard\n"
    objects = with_overlay(head + fields, tmp_path)
    assert faults(objects) == []
    assert {policy["spec"]["default"]["iap"]["clientID"] for policy in every(objects, GUARD)} == {"CLIENT_ID"}
    (secret,) = re.findall(r"kubectl create secret generic (\S+)", section(PAGE, "With Google accounts"))
    assert {policy["spec"]["default"]["iap"]["oauth2ClientSecret"]["name"] for policy in every(objects, GUARD)} == {
        secret
    }


def test_the_labels_by_which_the_page_deletes_are_those_of_what_is_public() -> None:
    (kinds, selector) = re.findall(r"kubectl delete (\S+) .*?--selector (\S+)", section(PAGE, "Back"), re.DOTALL)[0]
    label, _, value = selector.partition("=")
    public = [found["kind"].lower() for found in rendering(BY_KEY) if found["metadata"]["labels"].get(label) == value]
    assert set(public) == set(kinds.split(","))
