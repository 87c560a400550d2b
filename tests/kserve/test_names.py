"""A second service in the same namespace: nothing that refers to one of the two refers to the other."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

pytest.importorskip("kserve", reason="kserve 0.21 needs Python below 3.14")

from pipeline.deployment import manifests
from pipeline.deployment.models import LABEL, model_of, with_model
from tests.support.kserve_crds import Schemas
from tests.support.renderings import MANIFESTS, Object, crd_faults, faults, one, pod_labels, render
from tests.support.second_services import CHOICES, Choice, called, write_overlay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here, which renders the manifests"),
]

# How the second service gets its name, and that name.
WAYS = {"nameSuffix": "alexnet-staging", "namePrefix": "my-alexnet", "--name": "cats"}


@cache
def rendering(choice: Choice, way: str | None = None) -> list[Object]:
    with TemporaryDirectory() as scratch:
        overlays = Path(scratch) / "overlays"
        first = write_overlay(overlays / "first", choice)
        if way == "--name":
            return manifests.render(overlays, "first", WAYS[way])
        if way is None:
            return render(first)
        second = overlays / "second"
        second.mkdir()
        affix = WAYS[way].replace("alexnet", "")
        (second / "kustomization.yaml").write_text(json.dumps({"resources": ["../first"], way: affix}))
        return render(second)


both = pytest.mark.parametrize("way", WAYS)
each = pytest.mark.parametrize("choice", CHOICES, ids=called)


@both
@each
def test_a_second_service_is_sound(choice: Choice, way: str, crd_schemas: Schemas) -> None:
    objects = rendering(choice, way)
    assert faults(objects) == []
    assert crd_faults(objects, crd_schemas) == []
    assert one(objects, "InferenceService")["metadata"]["name"] == WAYS[way]


@both
@each
def test_two_services_have_no_object_in_common(choice: Choice, way: str) -> None:
    first, second = by_kind(rendering(choice)), by_kind(rendering(choice, way))
    assert first.keys() == second.keys()
    same = {kind for kind in first if first[kind]["metadata"]["name"] == second[kind]["metadata"]["name"]}
    assert same <= {"Namespace"}, "which they are both in"


# Texts that contain one of the project's names, and do not follow the service's.
STAYS = {
    "what it is": r".*/metadata/labels/app\.kubernetes\.io~(name|part-of)=(torchserve-)?alexnet",
    "the namespace": r"(Namespace/metadata/name|.*/metadata/namespace)=alexnet",
    "the Pod Security Standard": r"Namespace/metadata/labels/pod-security\.kubernetes\.io~\w+=restricted",
    "the image": r"ServingRuntime/spec/containers/0/image=.*",
    "where its name is noted": r"ServingRuntime/spec/containers/0/env/0/valueFrom/fieldRef/fieldPath=.*",
    "where the model is published": r"InferenceService/spec/.*/storageUri=gs://BUCKET/alexnet/VERSION",
    "the model": r"InferenceService/metadata/annotations/torchserve-alexnet~model=alexnet",
    "the model's URL": r"HTTPRoute/.*/path/value=(/v1/models/alexnet(:predict)?|/v2/models/alexnet/infer)",
    "the host, a line to edit": r"Gateway/spec/listeners/0/hostname=alexnet\.example\.com",
    "the audience, a line to edit": r"InferenceService/spec/predictor/model/env/\d/value=alexnet",
    "a path in the container": r"InferenceService/.*/(value|mountPath)=/etc/alexnet(/key\.pub|/trusted_root\.json)?",
    "nodes that are kept for all": r"InferenceService/spec/predictor/tolerations/0/key=torchserve-alexnet/role",
}


@both
@each
def test_whatever_has_the_services_name_follows_it(choice: Choice, way: str) -> None:
    first, second = by_kind(rendering(choice)), by_kind(rendering(choice, way))
    stayed = [
        f"{path}={value}"
        for kind, object_ in first.items()
        for (path, value), (_, now) in zip(texts(object_, kind), texts(second[kind], kind), strict=True)
        if value == now and re.search("alexnet|restricted", value)
    ]
    assert [line for line in stayed if not any(re.fullmatch(known, line) for known in STAYS.values())] == []


@both
@each
def test_no_selector_of_one_matches_the_others_objects(choice: Choice, way: str) -> None:
    for ours, others in ((None, way), (way, None)):
        theirs = rendering(choice, others)
        labels = [pod_labels(theirs), *(found["metadata"]["labels"] for found in theirs if found["kind"] == "Service")]
        for kind, selector in selectors(rendering(choice, ours)):
            assert not any(selector.items() <= found.items() for found in labels), kind


def selectors(objects: list[Object]) -> Iterator[tuple[str, dict[str, str]]]:
    for object_ in objects:
        spec, kind = object_.get("spec", {}), object_["kind"]
        selector = spec.get("podSelector") or spec.get("selector")
        if selector:
            yield kind, selector.get("matchLabels", selector)
        for constraint in spec.get("predictor", {}).get("topologySpreadConstraints", []):
            yield kind, constraint["labelSelector"]["matchLabels"]


@both
def test_the_autoscaler_counts_the_requests_of_its_own_pods(way: str) -> None:
    choice = ("base", "autoscaling-keda")
    names = {None: "alexnet", way: WAYS[way]}
    for ours, name in names.items():
        predictor = one(rendering(choice, ours), "InferenceService")["spec"]["predictor"]
        query = predictor["autoScaling"]["metrics"][0]["external"]["metric"]["query"]
        chosen, again = re.findall(r'pod=~"([^"]*)"', query)
        assert chosen == again
        # As a Deployment and its ReplicaSet name them; Prometheus compares the whole label.
        found = [other for other in names.values() if re.fullmatch(chosen, f"{other}-predictor-6d5f8c7b9-x2x4z")]
        assert found == [name]


# --- Another model ----------------------------------------------------------------------------------------------------

PATCH = "- {op: add, path: /metadata/annotations/torchserve-alexnet~1model, value: pets}"


@cache
def of_pets(choice: Choice) -> list[Object]:
    """With the line from kserve/overlays/README.md for kubectl, and its own name."""
    with TemporaryDirectory() as scratch:
        patches = [{"target": {"kind": "InferenceService"}, "patch": PATCH}]
        return render(write_overlay(Path(scratch) / "overlay", choice, nameSuffix="-pets", patches=patches))


@each
def test_whatever_has_the_models_name_follows_one_line(choice: Choice) -> None:
    """The public path does; nothing else by which requests are routed or counted contains that name."""
    objects = of_pets(choice)
    assert model_of(one(objects, "InferenceService")) == "pets"
    for found in objects:
        for path, text in texts(found.get("spec", {}), found["kind"]):
            assert "models/alexnet" not in text, path
            assert not re.search(r'model_name="alexnet"|\$\(', text), path
    if any(found["kind"] == "HTTPRoute" for found in objects):
        matches = one(objects, "HTTPRoute")["spec"]["rules"][0]["matches"]
        of_a_model = {match["path"]["value"] for match in matches if "/inference." not in match["path"]["value"]}
        assert of_a_model == {"/v1/models/pets:predict", "/v1/models/pets", "/v2/models/pets/infer"}


@each
def test_the_script_renders_a_model_as_kubectl_does(choice: Choice) -> None:
    """Except for the label that names the application."""
    assert unlabelled(with_model(rendering(choice, "nameSuffix"), "pets")) == unlabelled(
        [renamed(found) for found in of_pets(choice)]
    )
    labels = {found["metadata"].get("labels", {}).get(LABEL) for found in with_model(rendering(choice), "pets")}
    assert labels <= {"pets", None}


def renamed(found: Object) -> Object:
    """As with the other suffix."""
    made: Object = json.loads(json.dumps(found).replace("-pets", "-staging"))
    return made


def unlabelled(objects: list[Object]) -> list[Object]:
    for found in objects:
        found["metadata"].get("labels", {}).pop(LABEL, None)
    return objects


def test_a_model_whose_name_cannot_be_a_label_or_a_path_changes_neither() -> None:
    long = "a" * 64
    objects = with_model(rendering(("base", "public-gateway")), long)
    assert {found["metadata"]["labels"][LABEL] for found in objects} == {"alexnet"}
    assert model_of(one(objects, "InferenceService")) == long
    for said in ("../../secrets", "", "a/b", "a b", "a?b", "a%2fb"):
        service = {"metadata": {"annotations": {"torchserve-alexnet/model": said}}}
        assert model_of(service) == "alexnet"


def test_a_name_is_given_where_components_are_added(tmp_path: Path) -> None:
    """In one kustomization: components come before the suffix."""
    chosen = ("standard", "network-policy", "monitoring-prometheus", "public-gateway")
    folder = write_overlay(tmp_path / "staging", chosen, nameSuffix="-staging")
    assert by_kind(render(folder)) == by_kind(rendering(chosen, "nameSuffix"))


def test_both_fit_into_one_kustomization(tmp_path: Path) -> None:
    """If each has a suffix, and no component with `vars`: overlays/README.md."""
    chosen = ("standard", "api-keys", "signature", "monitoring-google", "monitoring-prometheus", "network-policy")
    write_overlay(tmp_path / "one", chosen, nameSuffix="-live")
    write_overlay(tmp_path / "two", chosen, nameSuffix="-staging")
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "kustomization.yaml").write_text(json.dumps({"resources": ["../one", "../two"]}))
    found = sorted(render(tmp_path / "both"), key=json.dumps)
    assert found == sorted(render(tmp_path / "one") + render(tmp_path / "two"), key=json.dumps)


def test_an_overlays_own_configuration_follows_too(tmp_path: Path) -> None:
    """ConfigMaps and Secrets that an overlay creates, wherever a KServe container refers to them."""
    patch = """
- op: add
  path: /spec/predictor/model/envFrom
  value: [{configMapRef: {name: settings}}, {secretRef: {name: passwords}}]
- op: add
  path: /spec/predictor/model/env/-
  value: {name: ONE, valueFrom: {secretKeyRef: {name: passwords, key: one}}}
- op: add
  path: /spec/predictor/model/env/-
  value: {name: TWO, valueFrom: {configMapKeyRef: {name: settings, key: two}}}
- op: add
  path: /spec/predictor/volumes
  value:
    - {name: a, configMap: {name: settings}}
    - {name: b, secret: {secretName: passwords}}
    - {name: c, persistentVolumeClaim: {claimName: space}}
"""
    claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: space}\nspec: {}\n"
    folder = write_overlay(
        tmp_path / "own",
        ("base",),
        nameSuffix="-staging",
        configMapGenerator=[{"name": "settings", "literals": ["two=2"]}],
        secretGenerator=[{"name": "passwords", "literals": ["one=1"]}],
        patches=[{"target": {"kind": "InferenceService"}, "patch": patch}],
    )
    (folder / "claim.yaml").write_text(claim)
    kustomization = folder / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("resources:\n", "resources:\n- claim.yaml\n"))
    objects = render(folder)
    names = {kind: one(objects, kind)["metadata"]["name"] for kind in ("ConfigMap", "Secret", "PersistentVolumeClaim")}
    predictor = one(objects, "InferenceService")["spec"]["predictor"]
    used = re.findall(r"\b(?:settings|passwords|space)\S*?\b(?=\")", json.dumps(predictor))
    assert len(used) == 7
    assert set(used) == set(names.values())


def test_objects_that_components_leave_to_the_user_may_be_in_the_overlay(tmp_path: Path) -> None:
    folder = write_overlay(
        tmp_path / "own",
        ("base", "api-keys", "public-gateway", "signature"),
        nameSuffix="-staging",
        configMapGenerator=[{"name": "alexnet-public-key", "literals": ["key.pub=key"]}],
        secretGenerator=[{"name": name, "literals": ["a=b"]} for name in ("alexnet-api-keys", "alexnet-tls")],
    )
    objects = render(folder)
    (volume,) = one(objects, "InferenceService")["spec"]["predictor"]["volumes"]
    (*_, keys) = one(objects, "ServingRuntime")["spec"]["volumes"]
    (certificate,) = one(objects, "Gateway")["spec"]["listeners"][0]["tls"]["certificateRefs"]
    used = {volume["configMap"]["name"], keys["secret"]["secretName"], certificate["name"]}
    made = {found["metadata"]["name"] for found in objects if found["kind"] in ("ConfigMap", "Secret")}
    assert used == made
    assert all(re.fullmatch(r"alexnet-[a-z-]+-staging-\w{10}", name) for name in made), made


@pytest.mark.parametrize("way", [None, "--name", "nameSuffix"])
def test_the_readme_says_what_follows(way: str | None) -> None:
    """Each name in this way's column is in a rendering, or created by KServe."""
    readme = (MANIFESTS / "overlays" / "README.md").read_text()
    _, _, table = readme.partition("| follows the service's name |")
    rows = [row.split(" | ") for row in re.findall(r"^\|(.+)\|$", table.partition("\n\n")[0], re.MULTILINE)[1:]]
    column = {None: 1, "--name": 2, "nameSuffix": 3}[way]
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row[column])}
    assert len(told) == 10
    objects = [object_ for choice in CHOICES for object_ in rendering(choice, way)]
    there = {text for object_ in objects for _, text in texts(object_, "")}
    made_by_kserve = f"{WAYS[way] if way else 'alexnet'}-predictor"
    assert told <= there | {made_by_kserve}


def by_kind(objects: list[Object]) -> dict[str, Object]:
    """There is one of each kind, except for those about a Service: the next version has its own."""
    found = {object_["kind"] + about(object_): object_ for object_ in objects}
    assert len(found) == len(objects)
    return found


def about(found: Object) -> str:
    target = found.get("spec", {}).get("targetRef", {}).get("name", "")
    return " of the next version" if target.endswith("-next-predictor") else ""


def texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every string in JSON, with its path."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from texts(value[key], f"{path}/{key.replace('/', '~')}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from texts(inner, f"{path}/{number}")
    elif isinstance(value, str):
        yield path, value
