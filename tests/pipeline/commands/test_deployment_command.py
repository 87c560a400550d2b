"""scripts/deploy.sh as a user runs it: the URL or command on stdout, progress on stderr, one line for each error."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefact.model import Model
from pipeline.store.publish import Outcome
from tests.support.api_server import DOWNLOADING, LOADING, READY, URL, ApiServer, Call, Moment, running
from tests.support.deployments import BROKEN, CRASHED, ONE, TWO
from tests.support.scripts import Start

pytest_plugins = ["tests.support.api_server"]

Deploy = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def deploy(start: Start, checkout: Path, overlays: Path, tmp_path: Path) -> Deploy:
    """Starts scripts/deploy.sh of a checkout that has the test's own overlays."""
    made = tmp_path / "checkout"
    for folder in ("pipeline", "scripts", "models", "kserve/runtime"):
        shutil.copytree(checkout / folder, made / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (made / ".venv").symlink_to(checkout / ".venv")
    (made / "kserve" / "overlays").symlink_to(overlays)
    return partial(start, "deploy", of=made)


@pytest.fixture
def run(deploy: Deploy) -> Run:
    def finish(*arguments: object) -> subprocess.CompletedProcess[str]:
        started = deploy(*arguments)
        stdout, stderr = started.communicate(timeout=60)
        return subprocess.CompletedProcess(started.args, started.returncode, stdout, stderr)

    return finish


# --- When all is well -------------------------------------------------------------------------------------------------


def test_it_prints_the_way_in_alone_and_says_on_stderr_what_it_does(
    run: Run, api: ApiServer, cloud: Any, publish: Callable[..., Outcome], small: dict[str, Path]
) -> None:
    uri = publish(small).uri
    api.scripts[str(uri)] = [DOWNLOADING, READY]
    done = run("--storage-uri", uri)
    assert (done.returncode, done.stdout) == (0, f"{URL}\n"), done
    assert done.stderr.splitlines() == [
        "cluster      test, Kubernetes v1.33.1, namespace models",
        "KServe       0.20.0",
        "permissions  all that are needed",
        "image        registry.example/alexnet:1: a tag can be moved to another image, a digest (NAME@sha256:…) cannot",
        f"version      {uri} is whole",
        "applied      ServiceAccount alexnet, ServingRuntime alexnet-torchserve, InferenceService alexnet",
        "waiting      0 of 1 pods ready; alexnet-predictor-new: downloading the model",
        "waiting      ready",
        "waiting      asking the model",
        "predicted    tench (for a black picture)",
        "inside       http://alexnet-predictor.models.svc.cluster.local",
    ]


def test_the_service_is_called_as_the_model_of_a_file(run: Run, api: ApiServer, pets_model: Model) -> None:
    """For a version outside Cloud Storage, which would name its model."""
    api.models = dict.fromkeys((ONE, TWO), "pets")
    for uri in (ONE, TWO):
        assert run(pets_model.file, "--storage-uri", uri).stdout == f"{URL}\n".replace("alexnet", "pets")
    assert run(pets_model.file, "--rollback").returncode == 0
    assert api.objects["inferenceservices", "pets"]["spec"]["predictor"]["model"]["storageUri"] == ONE
    assert run(pets_model.file, "--delete").returncode == 0
    assert api.objects == {}


def test_there_and_back_and_to_nothing(run: Run, api: ApiServer) -> None:
    for uri in (ONE, TWO):
        assert run("--storage-uri", uri, "--image", "registry.example/alexnet:2").stdout == f"{URL}\n"
    done = run("--rollback")
    assert (done.returncode, done.stdout, api.storage_uri) == (0, f"{URL}\n", ONE)
    done = run("--delete")
    assert (done.returncode, done.stdout, api.objects) == (0, "", {})


def test_the_namespace_can_be_chosen(run: Run, api: ApiServer) -> None:
    assert run("--storage-uri", ONE, "--namespace", "default").returncode == 0
    assert all("/namespaces/default/" in call.path for call in api.writes)


def test_two_services_live_in_one_namespace(run: Run, api: ApiServer) -> None:
    assert run("--storage-uri", ONE).stdout == f"{URL}\n"
    first = dict(api.objects)
    for uri in (TWO, ONE):
        assert run("--storage-uri", uri, "--name", "cats").stdout == URL.replace("alexnet", "cats") + "\n"
    assert run("--rollback", "--name", "cats").returncode == 0
    assert api.objects["inferenceservices", "cats"]["spec"]["predictor"]["model"]["storageUri"] == TWO
    done = run("--delete", "--name", "cats")
    assert (done.returncode, done.stdout, api.objects) == (0, "", first)
    assert done.stderr.splitlines()[-1] == (
        "deleted      InferenceService cats, ServingRuntime cats-torchserve, ServiceAccount cats"
    )


def test_an_overlay_can_be_chosen(run: Run, api: ApiServer) -> None:
    assert run("--storage-uri", ONE, "--overlay", "stock-runtime").returncode == 0
    assert api.applied == ["ServiceAccount", "InferenceService"]


def test_a_version_is_compared_before_it_takes_the_place_of_another(run: Run, api: ApiServer, checkout: Path) -> None:
    run("--storage-uri", ONE)
    photographs = checkout / "docs" / "photographs"
    done = run("--storage-uri", TWO, "--golden", photographs)
    assert (done.returncode, done.stdout) == (0, f"{URL}\n"), done
    assert "waiting      comparing: 5 of 5 pictures" in done.stderr
    assert "100.0%, 5 of 5 pictures" in done.stderr
    api.answers[ONE] = 500, {"error": "broken"}
    done = run("--storage-uri", ONE, "--golden", photographs)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("; not deployed, the live version was not changed")
    assert api.storage_uri == TWO


def test_without_pictures_the_cluster_is_not_asked(run: Run, api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = run("--storage-uri", ONE, "--golden", tmp_path / "none")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: no pictures in ")
    assert api.calls == []


# --- When it is not ---------------------------------------------------------------------------------------------------


def waits(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix("waiting      ") for line in done.stderr.splitlines() if line.startswith("waiting")]


def test_a_pull_that_fails_by_turns_in_two_words_is_told_once(run: Run, api: ApiServer) -> None:
    """The message of Kubernetes 1.35's kubelet."""
    image = "registry.example/alexnet:1"
    said = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": not found'
    failed = running(state={"waiting": {"reason": "ErrImagePull", "message": said}})
    waits_again = f'Back-off pulling image "{image}": ErrImagePull: {said}'
    backs_off = running(state={"waiting": {"reason": "ImagePullBackOff", "message": waits_again}})
    api.scripts[ONE] = [*[failed, backs_off] * 2, LOADING, READY]
    done = run("--storage-uri", ONE)
    assert done.returncode == 0
    assert waits(done) == [
        f"kserve-container of alexnet-predictor-new: the image cannot be pulled, {said}: give another --image",
        "0 of 1 pods ready; alexnet-predictor-new: loading the model",
        "ready",
        "asking the model",
    ]


def test_a_container_that_crashes_and_starts_again_is_told_once(run: Run, api: ApiServer) -> None:
    def crashed(restarts: int) -> Moment:
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        return running(restartCount=restarts, state=waiting, lastState={"terminated": CRASHED})

    api.scripts[ONE] = [LOADING, crashed(1), LOADING, crashed(2), LOADING, READY]
    done = run("--storage-uri", ONE)
    assert done.returncode == 0
    assert waits(done) == [
        "0 of 1 pods ready; alexnet-predictor-new: loading the model",
        "kserve-container of alexnet-predictor-new exited with status 1 (CrashLoopBackOff), restarted once",
        "ready",
        "asking the model",
    ]


def test_a_version_that_fails_is_rolled_back_and_the_reason_is_the_last_line(run: Run, api: ApiServer) -> None:
    run("--storage-uri", ONE)
    api.scripts[TWO] = [BROKEN]
    api.log = ["Traceback:", "ValueError: no such layer"]
    done = run("--storage-uri", TWO)
    assert (done.returncode, done.stdout) == (1, "")
    assert "kserve-container: ValueError: no such layer\n" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: kserve-container of alexnet-predictor-new exited with status 1 (CrashLoopBackOff), restarted 3 times; "
        f"rolled back to {ONE}, which is ready again"
    )


def test_no_rollback_leaves_it(run: Run, api: ApiServer) -> None:
    run("--storage-uri", ONE)
    api.answers[TWO] = 500, {"error": "broken"}
    done = run("--storage-uri", TWO, "--no-rollback")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: ready, but the model does not answer predictions (500: broken); "
        "it is left as it is (--rollback returns to the version before)"
    )
    assert api.storage_uri == TWO


def test_the_timeout_can_be_chosen(run: Run, api: ApiServer) -> None:
    api.scripts[ONE] = [DOWNLOADING]
    done = run("--storage-uri", ONE, "--timeout", 1)
    assert "error: not ready within 1 s: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("option", ["--rollback", "--delete"])
def test_without_a_kube_config_there_is_one_line(option: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    done = run(option)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: no kube config at /nowhere/config: ")


def test_what_is_no_name_is_one_line(run: Run, api: ApiServer) -> None:
    done = run("--storage-uri", ONE, "--name", "Cats")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: 'Cats' cannot be a service's name: use lower-case letters, digits and")
    assert api.calls == []


ENDINGS = {
    "predictor": "KServe",
    "metrics": "monitoring-prometheus",
    "public": "public-gateway",
    "candidate": "--golden",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_new_service_does_not_take_what_belongs_to_another(ending: str, run: Run, api: ApiServer) -> None:
    done = run("--storage-uri", ONE, "--name", f"alexnet-{ending}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: a service's name may not end in -{ending}: ")
    assert ENDINGS[ending] in done.stderr
    assert api.calls == []


def test_what_has_such_a_name_already_can_be_removed(run: Run, api: ApiServer) -> None:
    done = run("--delete", "--name", "cats-candidate")
    assert done.returncode == 0, done
    assert done.stderr.endswith("nothing to delete\n")
    assert api.calls


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--rollback", "--delete"],
        ["--storage-uri", ONE, "--rollback"],
        ["--rollback", "--image", "i"],
        ["--delete", "--no-rollback"],
        ["--rollback", "--overlay", "standard"],
        ["--storage-uri", ONE, "--timeout", "0"],
        ["--delete", "--golden", "."],
        ["--storage-uri", ONE, "--require-agreement", "1"],
        ["--storage-uri", ONE, "--golden", ".", "--require-agreement", "1.1"],
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_wrong_usage(arguments: list[str], run: Run, api: ApiServer) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: scripts/deploy.sh" in done.stderr
    assert api.calls == []


# --- When it is stopped -----------------------------------------------------------------------------------------------


def test_stopped_it_names_the_service_in_what_can_be_done(deploy: Deploy, api: ApiServer) -> None:
    api.scripts[ONE] = [DOWNLOADING]
    started = deploy("--storage-uri", ONE, "--name", "cats")
    assert started.stderr is not None
    while "downloading" not in started.stderr.readline():
        assert started.poll() is None
    os.kill(started.pid, signal.SIGTERM)
    _, stderr = started.communicate(timeout=30)
    assert stderr.endswith("to follow it, or use --rollback --name cats or --delete --name cats\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_stopped_while_it_waits_it_names_the_state(number: signal.Signals, deploy: Deploy, api: ApiServer) -> None:
    api.scripts[ONE] = [DOWNLOADING]
    started = deploy("--storage-uri", ONE)
    assert started.stderr is not None
    while "downloading" not in started.stderr.readline():
        assert started.poll() is None
    os.kill(started.pid, number)
    stdout, stderr = started.communicate(timeout=30)
    assert (started.returncode, stdout) == (128 + number, "")
    assert stderr.splitlines()[-1] == (
        "interrupted; in namespace models this was requested, and the cluster is still working on it: apply "
        f"ServiceAccount alexnet, apply ServingRuntime alexnet-torchserve, apply InferenceService alexnet with {ONE}; "
        "run this again to follow it, or use --rollback or --delete"
    )


def test_stopped_in_the_middle_of_applying_it_names_what_may_have_come_through(deploy: Deploy, api: ApiServer) -> None:
    started = deploy("--storage-uri", ONE)

    def stop(call: Call) -> None:
        if call.is_write and "/servingruntimes/" in call.path:
            os.kill(started.pid, signal.SIGINT)
            started.wait(30)

    api.trouble = stop
    _, stderr = started.communicate(timeout=30)
    assert started.returncode == 130
    assert "apply ServiceAccount alexnet, perhaps apply ServingRuntime alexnet-torchserve; run this again" in stderr


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_stopped_while_it_compares_it_takes_the_candidate_away(
    times: int, deploy: Deploy, run: Run, api: ApiServer, checkout: Path
) -> None:
    """Even if it is signalled again meanwhile."""
    run("--storage-uri", ONE)
    started = deploy("--storage-uri", TWO, "--golden", checkout / "docs" / "photographs")
    over = threading.Event()

    def stop(call: Call) -> None:
        if "candidate-predictor" in call.path:
            os.kill(started.pid, signal.SIGINT)
            over.wait(30)
        if call.method == "DELETE" and times == 2:
            os.kill(started.pid, signal.SIGINT)

    api.trouble = stop
    _, stderr = started.communicate(timeout=30)
    over.set()
    assert started.returncode == 130
    assert stderr.splitlines()[-1] == "interrupted; nothing was changed"
    left = [found for (_, name), found in api.objects.items() if name.endswith("-candidate")]
    assert all("deletionTimestamp" in found["metadata"] for found in left)
    assert api.storage_uri == ONE


def test_stopped_while_it_checks_it_says_that_nothing_was_changed(deploy: Deploy, api: ApiServer) -> None:
    started = deploy("--storage-uri", ONE)

    def stop(call: Call) -> None:
        if "subjectaccess" in call.path:
            os.kill(started.pid, signal.SIGINT)
            started.wait(30)

    api.trouble = stop
    _, stderr = started.communicate(timeout=30)
    assert (started.returncode, api.writes) == (130, [])
    assert stderr.splitlines()[-1] == "interrupted; nothing was changed"


def test_after_it_was_stopped_running_it_again_follows_what_was_begun(deploy: Deploy, run: Run, api: ApiServer) -> None:
    api.scripts[ONE] = [DOWNLOADING]
    started = deploy("--storage-uri", ONE)
    assert started.stderr is not None
    while "downloading" not in started.stderr.readline():
        assert started.poll() is None
    os.kill(started.pid, signal.SIGINT)
    started.communicate(timeout=30)
    before = dict(api.service["metadata"]["annotations"])
    api.scripts[ONE] = [Moment(READY.pod, ready=True)]
    assert run("--storage-uri", ONE).stdout == f"{URL}\n"
    assert api.service["metadata"]["annotations"] == before


def test_help_is_quick_and_names_all_options(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    for option in (
        "storage-uri",
        "name",
        "overlay",
        "namespace",
        "image",
        "rollback",
        "delete",
        "no-rollback",
        "golden",
        "require-agreement",
        "timeout",
    ):
        assert re.search(rf"--{option}\b", done.stdout)
