"""Promotion by evidence: the candidate next to the live version, the requests to both, and its certain removal."""

from __future__ import annotations

import copy
import dataclasses
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pipeline.deployment.cluster import Cluster
from pipeline.deployment.deploy import Deployment
from pipeline.deployment.golden import Golden
from pipeline.deployment.objects import Object, name_of
from pipeline.serving.comparing import Picture
from pipeline.serving.protocol import b64_instance
from pipeline.shared.signals import Terminated, on_stopping, terminate
from tests.support.api_server import MANAGER, URL, ApiServer, Call, Status
from tests.support.deployments import BROKEN, FAST, ONE, THREE, TWO, Deploy, Heard, Make, reason

pytest_plugins = ["tests.support.deployments"]

GOLDEN = Golden("here", [Picture(f"{number}.jpg", b"picture") for number in range(20)], 0.98)
UNTOUCHED = "; not deployed, the live version was not changed"


def prediction(*labels: str) -> Any:
    probabilities = [0.9, 0.06, 0.04][: len(labels)]
    classes = [
        {"index": "abc".index(label), "wnid": "n", "label": label, "probability": probability}
        for label, probability in zip(labels, probabilities)
    ]
    return {"predictions": [{"classes": classes}]}


SAME, OTHER = prediction("a", "b", "c"), prediction("b", "a", "c")


@pytest.fixture
def live(api: ApiServer, deploy: Deploy) -> dict[tuple[str, str], Object]:
    """The objects once a version serves."""
    api.answers[ONE] = api.answers[TWO] = 200, SAME
    deploy(ONE)
    api.calls.clear()
    return copy.deepcopy(api.objects)


def kept(api: ApiServer) -> dict[tuple[str, str], Object]:
    """The objects that exist and are not being deleted."""
    return {key: found for key, found in api.objects.items() if "deletionTimestamp" not in found["metadata"]}


def asked(api: ApiServer) -> list[str]:
    """The Services whose models were called."""
    return [call.path.partition("http:")[2].partition(":80")[0] for call in api.calls if call.path.endswith(":predict")]


# --- When all is well -------------------------------------------------------------------------------------------------


def test_a_version_that_agrees_is_deployed_and_its_candidate_is_gone(
    live: object, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    assert deploy(TWO, golden=GOLDEN) == URL
    assert api.storage_uri == TWO
    assert not [name for _, name in api.objects if name.endswith("-candidate")]
    assert api.storage_uris == [TWO, TWO]  # the candidate, and then the service
    said = "\n".join(heard.said)
    assert f"candidate    alexnet-candidate with {TWO}, next to the live version" in said
    assert "100.0%, 20 of 20 pictures" in said
    assert f"B: new, {TWO}" in said


def test_both_are_asked_in_turn_before_the_service_is_applied(live: object, api: ApiServer, deploy: Deploy) -> None:
    deploy(TWO, golden=GOLDEN)
    turns = ["alexnet-predictor", *["alexnet-candidate-predictor"] * 2, "alexnet-predictor"] * 20
    assert asked(api)[-81:] == [*turns, "alexnet-predictor"]  # the last is the smoke test
    applied = [call for call in api.writes if call.method == "PATCH"]
    paths = [call.path.rsplit("/", 1)[1] for call in applied]
    assert paths[:2] == ["alexnet-torchserve-candidate", "alexnet-candidate"]
    last = max(number for number, call in enumerate(api.calls) if "candidate-predictor" in call.path)
    assert api.calls.index(applied[2]) > last


def test_the_first_version_has_nothing_to_be_compared_with(api: ApiServer, deploy: Deploy, heard: Heard) -> None:
    assert deploy(ONE, golden=GOLDEN) == URL
    assert "golden       skipped: there is no live version to compare with" in heard.said
    assert api.storage_uris == [ONE]


@pytest.mark.parametrize(("count", "said"), [(1, "1 picture is few"), (3, "3 pictures are few")])
def test_a_warning_says_if_there_are_few_pictures(
    count: int, said: str, live: object, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    deploy(TWO, golden=Golden("here", GOLDEN.pictures[:count], 1))
    assert f"{said}: with fewer than 20, a single one can decide" in heard.warned
    assert api.storage_uri == TWO


# --- What is refused --------------------------------------------------------------------------------------------------


def test_a_version_with_different_answers_is_refused_and_nothing_changes(
    live: object, api: ApiServer, deploy: Deploy
) -> None:
    api.answers[TWO] = 200, OTHER
    assert reason(lambda: deploy(TWO, golden=GOLDEN)) == (
        "the agreement is 0.0%, but 98% is required: 20 of 20 pictures have a different first class" + UNTOUCHED
    )
    assert kept(api) == live


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((200, prediction("a", "b")), "the comparison did not finish: A answers with 3 classes and B with 2"),
        (
            (500, {"error": "broken"}),
            "the new version does not answer (ready, but the model does not answer predictions",
        ),
        ((401, {"error": "credentials: missing or invalid"}), "the new version requires credentials"),
    ],
)
def test_a_version_that_does_not_answer_properly_is_refused(
    answer: tuple[int, Any], sentence: str, live: object, api: ApiServer, deploy: Deploy
) -> None:
    api.answers[TWO] = answer
    failed = reason(lambda: deploy(TWO, golden=GOLDEN))
    assert failed.startswith(sentence)
    assert failed.endswith(UNTOUCHED)
    assert kept(api) == live


def test_one_that_does_not_become_ready_is_refused_with_its_last_log_lines(
    live: object, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    api.scripts[TWO] = [BROKEN]
    failed = reason(lambda: deploy(TWO, golden=GOLDEN))
    assert failed.startswith("the new version does not become ready: kserve-container of alexnet-candidate-predictor-")
    assert "kserve-container: two" in heard.warned
    assert kept(api) == live


@pytest.mark.parametrize("method", ["PATCH", "GET"])
def test_if_the_cluster_refuses_the_message_says_that_nothing_was_changed(
    method: str, live: object, api: ApiServer, deploy: Deploy
) -> None:
    """For example a quota, which a dry run does not check; and later reads."""

    def refuse(call: Call) -> None:
        was_applied = ("servingruntimes", "alexnet-torchserve-candidate") in api.objects
        if was_applied and call.method == method and call.path.endswith(("/alexnet-candidate", "/deployments")):
            raise Status(403, "exceeded quota")

    api.trouble = refuse
    failed = reason(lambda: deploy(TWO, golden=GOLDEN))
    assert "exceeded quota" in failed
    assert failed.endswith(UNTOUCHED)
    assert api.storage_uri == ONE


def test_a_version_that_stops_answering_disagrees(live: object, api: ApiServer, deploy: Deploy) -> None:
    count = 0

    def die(call: Call) -> None:
        nonlocal count
        count += "candidate-predictor" in call.path
        api.answers[TWO] = (503, {"error": "busy"}) if count > 30 else (200, SAME)

    api.trouble = die
    failed = reason(lambda: deploy(TWO, golden=GOLDEN))
    assert "of 20 pictures have a different first class, and B did not answer" in failed
    assert failed.endswith(UNTOUCHED)
    assert kept(api) == live


def test_missing_answers_are_not_waited_for(live: object, api: ApiServer, make: Make) -> None:
    """Each question is asked once: retries would hide errors from the table, and count as latency."""
    count = 0

    def fail(call: Call) -> None:
        nonlocal count
        count += "candidate-predictor" in call.path
        api.answers[TWO] = (503, {"error": "busy"}) if count == 10 else (200, SAME)

    api.trouble = fail
    failed = reason(lambda: make(dataclasses.replace(FAST, smoke=30)).deploy(TWO, golden=GOLDEN))
    assert failed.startswith("the agreement is 95.0%, but 98% is required: 0 of 20 pictures")
    assert asked(api).count("alexnet-candidate-predictor") == 1 + 3 + 40


def test_it_waits_where_calls_are_limited(
    live: object, api: ApiServer, deploy: Deploy, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All requests through the API server count as one client of the component rate-limit."""
    monkeypatch.setattr("pipeline.serving.comparing.PAUSE", 0.001)
    count = 0

    def limit(call: Call) -> None:
        nonlocal count
        count += call.path.endswith(":predict")
        refused = count > 20 and count % 3 == 0
        api.answers[ONE] = api.answers[TWO] = (429, {"error": "calls: too many"}) if refused else (200, SAME)

    api.trouble = limit
    assert deploy(TWO, golden=GOLDEN)
    assert "100.0%, 20 of 20 pictures" in "\n".join(heard.said)
    assert len(asked(api)) > 100


@pytest.mark.parametrize("answered", [10, 19])
def test_pictures_that_the_live_version_does_not_answer_are_reported(
    answered: int, live: object, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    assert deploy(TWO, golden=only_answered(api, answered))
    why = f"{answered}.jpg: 500: broken"
    assert f"A did not answer {20 - answered} of 20 pictures: they do not count ({why})" in heard.warned


def test_if_it_answers_less_than_half_nothing_is_promoted(live: object, api: ApiServer, deploy: Deploy) -> None:
    golden = only_answered(api, 9)
    assert reason(lambda: deploy(TWO, golden=golden)) == (
        "A answered only 9 of 20 pictures (9.jpg: 500: broken)" + UNTOUCHED
    )
    assert kept(api) == live


def only_answered(api: ApiServer, count: int) -> Golden:
    """Pictures of which the live version answers only so many."""
    golden = Golden("here", [Picture(f"{number}.jpg", bytes([number])) for number in range(20)], 0.98)
    refused = [b64_instance(picture.content) for picture in golden.pictures[count:]]

    def trouble(call: Call) -> None:
        if "alexnet-predictor" in call.path:
            is_refused = call.method == "POST" and call.body["instances"][0] in refused
            api.answers[ONE] = (500, {"error": "broken"}) if is_refused else (200, SAME)

    api.trouble = trouble
    return golden


@pytest.mark.parametrize("status", [401, 403])
def test_a_live_version_that_requires_credentials_is_reported_before_anything_is_applied(
    status: int, live: object, api: ApiServer, deploy: Deploy
) -> None:
    api.answers[ONE] = status, {"error": "credentials: missing or invalid"}
    assert reason(lambda: deploy(TWO, golden=GOLDEN)) == (
        "the live version requires credentials, which --golden does not have: deploy without it" + UNTOUCHED
    )
    assert api.writes == []


def test_a_live_version_that_does_not_answer_is_reported(live: object, api: ApiServer, deploy: Deploy) -> None:
    api.answers[ONE] = 500, {"error": "broken"}
    assert reason(lambda: deploy(TWO, golden=GOLDEN)).startswith("the live version does not answer (")
    assert api.writes == []


@pytest.mark.parametrize("kind", ["inferenceservices", "servingruntimes"])
def test_permissions_are_checked_before_anything_is_applied(
    kind: str, live: object, api: ApiServer, deploy: Deploy
) -> None:
    api.denied = {("delete", kind)}
    assert reason(lambda: deploy(TWO, golden=GOLDEN)).startswith(f"you may not delete {kind}.serving.kserve.io in")
    assert api.writes == []
    assert deploy(TWO) == URL


def test_an_older_versions_pods_are_not_used_for_the_comparison(live: object, api: ApiServer, deploy: Deploy) -> None:
    """After a failed or interrupted deployment, another version answers than the one that the table would name."""
    api.scripts[THREE] = [BROKEN]
    reason(lambda: deploy(THREE, rollback=False))
    api.calls.clear()
    assert reason(lambda: deploy(TWO, golden=GOLDEN)).startswith(f"{THREE}, the live version, is not what answers")
    assert api.writes == []


# --- What happens in the meantime -------------------------------------------------------------------------------------


def during_questions(api: ApiServer, act: Callable[[], object]) -> None:
    """Does that once, at the candidate's tenth request."""
    count = 0

    def trouble(call: Call) -> None:
        nonlocal count
        count += "candidate-predictor" in call.path
        if count == 10:
            count += 1
            act()

    api.trouble = trouble


def elsewhere(overlays: Path, **arguments: Any) -> None:
    """A deployment from another machine."""
    with closing(Cluster()) as cluster:
        Deployment(cluster, overlays, pace=FAST).deploy(**arguments)


def test_a_version_deployed_in_the_meantime_is_not_replaced(
    live: object, api: ApiServer, deploy: Deploy, overlays: Path
) -> None:
    api.answers[THREE] = 200, SAME
    during_questions(api, lambda: elsewhere(overlays, storage_uri=THREE))
    assert reason(lambda: deploy(TWO, golden=GOLDEN)) == (
        "somebody else deployed alexnet during the comparison: wait until that one ends" + UNTOUCHED
    )
    assert api.storage_uri == THREE
    assert not [name for _, name in api.objects if name.endswith("-candidate")]


def test_the_version_to_roll_back_to_is_read_after_the_comparison(api: ApiServer, deploy: Deploy, make: Make) -> None:
    deploy(ONE)
    api.scripts[TWO] = [BROKEN]
    with mock.patch("pipeline.deployment.deploy.Trial.compare", side_effect=lambda *_: make().deploy(THREE)):
        assert reason(lambda: deploy(TWO, golden=GOLDEN)).endswith(f"; rolled back to {THREE}, which is ready again")
    assert api.storage_uri == THREE


def test_two_machines_neither_compare_nor_remove_each_others_candidate(
    live: object, api: ApiServer, deploy: Deploy, overlays: Path, heard: Heard
) -> None:
    """The second takes the first's for an abandoned one, as if their clocks differed."""
    api.answers[TWO], api.answers[THREE] = (200, OTHER), (200, SAME)
    others: list[str] = []

    def be_replaced() -> None:
        for plural, ending in (("inferenceservices", ""), ("servingruntimes", "-torchserve")):
            name = f"alexnet{ending}-candidate"
            theirs = api.objects.pop((plural, name))
            theirs["metadata"]["uid"] = f"theirs-{plural}"
            theirs["metadata"]["annotations"]["torchserve-alexnet/candidate-run"] = "theirs"
            if plural == "inferenceservices":
                theirs["metadata"]["annotations"]["torchserve-alexnet/deployed"] = "theirs"
                theirs["spec"]["predictor"]["model"]["storageUri"] = THREE
            api.objects[plural, name] = theirs
            others.append(name)

    during_questions(api, be_replaced)
    assert reason(lambda: deploy(TWO, golden=GOLDEN)) == (
        "the comparison did not finish: somebody else deployed alexnet-candidate in the meantime, and replaced what "
        "this run applied: wait until that one ends" + UNTOUCHED
    )
    assert api.storage_uri == ONE
    assert sorted(name for _, name in kept(api) if name.endswith("-candidate")) == sorted(others)
    assert not any("%" in line for line in heard.said)


def test_so_is_a_runtime_that_another_has_applied(live: object, api: ApiServer, deploy: Deploy) -> None:
    def be_replaced() -> None:
        annotations = api.objects["servingruntimes", "alexnet-torchserve-candidate"]["metadata"]["annotations"]
        annotations["torchserve-alexnet/candidate-run"] = "theirs"

    during_questions(api, be_replaced)
    assert reason(lambda: deploy(TWO, golden=GOLDEN)).startswith(
        "the comparison did not finish: another run replaced alexnet-candidate: wait until that one ends"
    )
    assert ("servingruntimes", "alexnet-torchserve-candidate") in kept(api)
    assert api.storage_uri == ONE


# --- Leftovers, and what is not ours ----------------------------------------------------------------------------------


@pytest.fixture
def left(live: object, api: ApiServer, deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate of a run that was killed."""
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.deployment.trial.Trial._remove", lambda *_: None)
        patched.setattr("pipeline.deployment.trial.Trial._wait_until_gone", lambda *_: None)
        api.answers[TWO] = 200, OTHER
        reason(lambda: deploy(TWO, golden=GOLDEN))
    api.answers[TWO] = 200, SAME
    assert ("inferenceservices", "alexnet-candidate") in api.objects


def test_an_abandoned_candidate_is_replaced(left: None, api: ApiServer, deploy: Deploy) -> None:
    before = api.objects["inferenceservices", "alexnet-candidate"]["metadata"]["uid"]
    seen = set()

    def look(call: Call) -> None:
        if "candidate-predictor" in call.path:
            seen.add(api.objects["inferenceservices", "alexnet-candidate"]["metadata"]["uid"])

    api.trouble = look
    deploy(TWO, golden=GOLDEN)
    assert len(seen) == 1
    assert before not in seen
    assert not [name for _, name in api.objects if name.endswith("-candidate")]


@pytest.mark.parametrize("age", [0, FAST.timeout + 60], ids=["just made", "its nodes were made first"])
def test_a_candidate_that_may_belong_to_another_run_is_left_alone(
    age: float, left: None, api: ApiServer, deploy: Deploy
) -> None:
    made = (datetime.now(UTC) - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    api.objects["inferenceservices", "alexnet-candidate"]["metadata"]["creationTimestamp"] = made
    api.calls.clear()
    failed = reason(lambda: deploy(TWO, golden=GOLDEN))
    assert re.match(
        r"InferenceService alexnet-candidate was created \d+ s ago, perhaps by another run with --golden", failed
    )
    assert failed.endswith(f"if it was killed, {REMOVE}{UNTOUCHED}")
    assert api.writes == []
    api.objects["inferenceservices", "alexnet-candidate"]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    deploy(TWO, golden=GOLDEN)
    assert api.storage_uri == TWO


def test_delete_removes_an_abandoned_candidate(left: None, api: ApiServer, make: Make, heard: Heard) -> None:
    make().delete()
    assert api.objects == {}
    assert heard.said[-1].startswith(
        "deleted      InferenceService alexnet-candidate, ServingRuntime alexnet-torchserve-candidate, "
    )


def test_an_object_with_only_the_name_is_left_alone(live: object, api: ApiServer, deploy: Deploy, make: Make) -> None:
    theirs = copy.deepcopy(api.service)
    theirs["metadata"] |= {"name": "alexnet-candidate", "annotations": {}}
    api.put("inferenceservices", theirs, MANAGER, "Apply")
    api.calls.clear()
    assert reason(lambda: deploy(TWO, golden=GOLDEN)).startswith(
        "InferenceService alexnet-candidate already exists and is not a candidate of this tool"
    )
    assert api.writes == []
    make().delete()
    assert list(api.objects) == [("inferenceservices", "alexnet-candidate")]


def test_if_it_cannot_be_removed_the_message_says_what_is_left(
    live: object, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    api.answers[TWO] = 200, OTHER
    api.refuse(403, "no", lambda call: call.method == "DELETE")
    assert reason(lambda: deploy(TWO, golden=GOLDEN)).startswith("the agreement is 0.0%")
    assert heard.warned[-1].startswith("the candidate could not be removed (")
    assert heard.warned[-1].endswith(REMOVE)


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM, signal.SIGTERM]])
@pytest.mark.parametrize("when", ["applied", "asked", "removed"])
def test_it_is_removed_whenever_signals_arrive(
    when: str, numbers: list[int], live: object, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    left = list(numbers)

    def interrupt(call: Call) -> None:
        of_candidate = (
            "alexnet-candidate" in call.path
            and {
                "applied": call.method == "PATCH" and call.is_write,
                "asked": call.path.endswith(":predict"),
                "removed": call.method == "DELETE",
            }[when]
        )
        if left and (of_candidate or len(left) < len(numbers)):
            signal.pthread_kill(threading.main_thread().ident or 0, left.pop(0))

    api.trouble = interrupt
    with on_stopping_terminated(), pytest.raises(Terminated):
        deploy(TWO, golden=GOLDEN)
    assert kept(api) == live
    assert heard.warned[-1] == "interrupted; nothing was changed"


@contextmanager
def on_stopping_terminated() -> Iterator[None]:
    """As in scripts/deploy.sh."""
    handlers = on_stopping(terminate)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


REMOVE = (
    "kubectl --namespace models delete inferenceservice/alexnet-candidate servingruntime/alexnet-torchserve-candidate"
)


def test_if_an_interrupted_one_cannot_be_removed_the_message_does_not_suggest_a_rollback(
    live: object, api: ApiServer, deploy: Deploy, heard: Heard
) -> None:
    api.refuse(403, "no", lambda call: call.method == "DELETE")
    with mock.patch("pipeline.deployment.trial.ask_both", side_effect=Terminated(15)), pytest.raises(Terminated):
        deploy(TWO, golden=GOLDEN)
    assert "apply InferenceService alexnet-candidate" in heard.warned[-1]
    assert heard.warned[-1].endswith(f"; the live version was not changed; to remove the candidate: {REMOVE}")


def test_a_deployment_after_a_failed_removal_reports_its_own_state(
    live: object, api: ApiServer, deploy: Deploy
) -> None:
    """There was a warning about the candidate; the deployment goes on."""

    def refuse(call: Call) -> None:
        if call.method == "DELETE" or (call.method == "PATCH" and call.is_write and api.storage_uris.count(TWO) > 1):
            raise Status(403, "no")

    api.trouble = refuse
    failed = reason(lambda: deploy(TWO, golden=GOLDEN))
    assert "use --rollback or --delete" in failed
    assert "candidate" not in failed


# --- The candidate ----------------------------------------------------------------------------------------------------


NETWORK_POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: alexnet
spec:
  podSelector:
    matchLabels:
      serving.kserve.io/inferenceservice: alexnet
  policyTypes: [Ingress]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: anything-else
spec:
  podSelector: {}
"""


@pytest.mark.parametrize("name", [None, "cats"])
def test_its_pod_is_covered_by_the_others_network_policies(
    name: str | None, api: ApiServer, make: Make, overlays: Path
) -> None:
    """Including the component's own: kserve/components/network-policy."""
    file = overlays / "standard" / "manifests.yaml"
    file.write_text(f"{file.read_text().strip()}\n---{NETWORK_POLICY}")
    api.kinds["networking.k8s.io/v1"] = {"NetworkPolicy": "networkpolicies"}
    api.answers[ONE] = api.answers[TWO] = 200, SAME
    make(name=name).deploy(ONE)
    api.calls.clear()
    make(name=name).deploy(TWO, golden=GOLDEN)
    service = name or "alexnet"
    first = api.writes[0].body
    assert first["kind"] == "NetworkPolicy"
    assert name_of(first).endswith("-candidate")
    assert first["spec"] == {
        "podSelector": {"matchLabels": {"serving.kserve.io/inferenceservice": f"{service}-candidate"}},
        "policyTypes": ["Ingress"],
    }
    assert [call.path.rsplit("/", 2)[1] for call in api.writes if call.method == "DELETE"] == [
        "inferenceservices",
        "servingruntimes",
        "networkpolicies",
    ]
    assert not [found for _, found in api.objects if found.endswith("-candidate")]
    assert len([plural for plural, _ in api.objects if plural == "networkpolicies"]) == 2


def test_a_name_too_long_for_the_ending_is_refused(live: object, api: ApiServer, make: Make, deploy: Deploy) -> None:
    name = "a" * 40
    make(name=name).deploy(ONE)
    api.calls.clear()
    assert reason(lambda: make(name=name).deploy(TWO, golden=GOLDEN)).startswith("--golden needs the name aaaa")
    assert api.writes == []
