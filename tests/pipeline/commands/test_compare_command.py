"""scripts/compare.sh as a user runs it: equal versions pass, damaged ones do not, and nothing is left running."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefact.archive import build_archive
from pipeline.artefact.contents import CLASSES_FILE, MODEL_FILE
from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe
from pipeline.shared.ports import free_ports
from reliability.pictures import views
from tests.support.model_host import ModelHosts, Predict, prediction
from tests.support.scripts import OnlyError, Script, Start

pytest_plugins = ["tests.support.model_host"]

COUNT = 24


@pytest.fixture(scope="session")
def golden(photographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of views of the photographs."""
    made = tmp_path_factory.mktemp("golden")
    for number, view in enumerate(views(photographs, COUNT)):
        (made / f"{number:02}.jpg").write_bytes(view)
    return made


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr, without the model's own when it is loaded."""
    return [line for line in done.stderr.splitlines() if ": alexnet: precision=" not in line]


# --- Real servers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def changed(contents: Path, tmp_path: Path) -> Path:
    """The archive's files, which a test may change except for the weights."""

    def link_or_copy(source: str, target: str) -> None:
        if source.endswith(".safetensors"):
            Path(target).hardlink_to(source)
        else:
            shutil.copy(source, target)

    return Path(shutil.copytree(contents, tmp_path / "contents", copy_function=link_or_copy))


def test_labels_shifted_by_one_are_refused(
    script: Script, server: TorchServe, golden: Path, checkout: Path, changed: Path, tmp_path: Path
) -> None:
    classes = json.loads((changed / CLASSES_FILE).read_text())
    (changed / CLASSES_FILE).write_text(json.dumps([*classes[1:], classes[0]]))
    archive = tmp_path / "shifted.mar"
    build_archive(checkout / "handler", changed, MODEL_NAME, archive)
    done = script("compare", server.url, archive, golden)
    assert done.returncode == 1, done
    assert said(done) == [
        f"error: the agreement is 0.0%, but 98% is required: {COUNT} of {COUNT} pictures have a different first class"
    ]
    assert "different first class" in done.stdout


def test_another_normalisation_is_refused(
    script: Script, server: TorchServe, golden: Path, checkout: Path, changed: Path, tmp_path: Path
) -> None:
    """The model also has another name: each is asked by its own."""
    facts = (changed / MODEL_FILE).read_text()
    another = facts.replace("0.485", "0.001").replace("0.229", "0.999")
    assert another != facts
    (changed / MODEL_FILE).write_text(another.replace(f"name: {MODEL_NAME}", "name: pets"))
    archive = tmp_path / "other.mar"
    build_archive(checkout / "handler", changed, "pets", archive)
    done = script("compare", server.url, archive, golden, "--json")
    assert done.returncode == 1, done
    assert json.loads(done.stdout)["agreement"] < 0.9


def test_another_precision_passes(
    script: Script, server: TorchServe, golden: Path, handler_directory: Path, contents: Path, tmp_path: Path
) -> None:
    config = handler_directory / "model-config.yaml"
    config.write_text(config.read_text().replace("precision: auto", "precision: float32"))
    archive = build_archive(handler_directory, contents, MODEL_NAME, tmp_path / "precise.mar").path
    done = script("compare", server.url, archive, golden, "--json")
    assert (done.returncode, said(done)) == (0, []), done
    told = json.loads(done.stdout)
    assert (told["pictures"], told["compared"], told["agreement"], told["classes"]) == (COUNT, COUNT, 1, 1000)
    assert 0 <= told["movement"]["mean"] <= 0.005
    for side in "ab":
        assert told[side]["errors"] == 0
        assert 0 < told[side]["latency"]["median"] <= told[side]["latency"]["p99"]
        assert len(told["outcomes"][0][side]["seconds"]) == 2


def test_an_archive_and_a_directory_with_the_same_are_said_to_be_the_same(
    script: Script, light_directory: Path, photographs: list[Path], tmp_path: Path
) -> None:
    archive = tmp_path / "copy.mar"
    shutil.copy(light_directory / "model-store" / "alexnet.mar", archive)
    done = script("compare", archive, light_directory, *photographs)
    assert (done.returncode, said(done)) == (
        0,
        [
            "A and B are the same: any difference is chance",
            "5 pictures are few: with fewer than 20, a single one can decide",
        ],
    ), done
    assert "100.0%, 5 of 5 pictures" in done.stdout
    assert "A:" in done.stdout


def test_interrupted_it_stops_what_it_started(
    start: Start, server: TorchServe, light_directory: Path, golden: Path
) -> None:
    """`start` checks that nothing is left."""
    comparing = start("compare", server.url, light_directory, *[golden] * 200)
    assert comparing.stderr is not None
    while "B: alexnet: precision=" not in comparing.stderr.readline():
        assert comparing.poll() is None
    comparing.send_signal(signal.SIGINT)
    stdout, _ = comparing.communicate(timeout=60)
    assert (comparing.returncode, stdout) == (128 + signal.SIGINT, "")


# --- Servers that behave differently ----------------------------------------------------------------------------------


def always(body: Any, status: int = 200) -> Predict:
    return lambda *_: (status, body)


A = always(prediction(0.7, 0.2, 0.1))


def test_a_server_of_another_number_of_classes_is_another_model(
    script: Script, model_host: ModelHosts, golden: Path, only_error: OnlyError
) -> None:
    a, b = model_host(A), model_host(always(prediction(0.7, 0.3)))
    assert only_error(script("compare", a.url, b.url, golden)) == (
        "A answers with 3 classes and B with 2: they are not the same kind of model"
    )


@pytest.mark.parametrize("name", ["A", "B"])
def test_a_server_that_is_not_there_is_told(
    name: str, script: Script, model_host: ModelHosts, golden: Path, only_error: OnlyError
) -> None:
    there, gone = model_host(A).url, f"http://127.0.0.1:{free_ports(1)[0]}"
    sides = (gone, there) if name == "A" else (there, gone)
    assert only_error(script("compare", *sides, golden)) == (
        f"{name}: no server at {gone}: start one with scripts/serve.sh"
    )


def test_a_server_that_dies_in_between_is_told(
    script: Script, model_host: ModelHosts, golden: Path, only_error: OnlyError
) -> None:
    b = model_host(A)
    asked = 0

    def die(image: bytes, top_k: int) -> tuple[int, Any]:
        nonlocal asked
        asked += 1
        if asked == 20:
            b.socket.close()
        return A(image, top_k)

    b.predict = die
    error = only_error(script("compare", model_host(A).url, b.url, golden))
    assert error.startswith((f"B: no server at {b.url}", f"B: no answer from {b.url}"))


def test_a_picture_that_neither_can_read_does_not_count_and_is_told(
    script: Script, model_host: ModelHosts, golden: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")

    def refuse(image: bytes, top_k: int) -> tuple[int, Any]:
        return A(image, top_k) if image != b"no image" else (400, {"error": "instances[0].b64: not an image"})

    done = script("compare", model_host(refuse).url, model_host(refuse).url, golden, broken)
    assert done.returncode == 0, done
    why = f"{broken}: 400: instances[0].b64: not an image"
    assert done.stderr == f"A did not answer 1 of {COUNT + 1} pictures: they do not count ({why})\n"
    assert f"100.0%, {COUNT} of {COUNT} pictures" in done.stdout


def test_what_b_refuses_counts_as_disagreement(script: Script, model_host: ModelHosts, golden: Path) -> None:
    first = sorted(golden.iterdir())[0].read_bytes()

    def refuse(image: bytes, top_k: int) -> tuple[int, Any]:
        return A(image, top_k) if image != first else (500, {"error": "server: internal error"})

    done = script("compare", model_host(A).url, model_host(refuse).url, golden)
    assert done.returncode == 1
    assert "but 98% is required: 0 of 24 pictures have a different first class, and B did not answer 1 (" in done.stderr
    done = script("compare", model_host(A).url, model_host(refuse).url, golden, "--require-agreement", 0.9)
    assert done.returncode == 0, done


def test_a_server_that_allows_fewer_classes_is_asked_for_those(
    script: Script, model_host: ModelHosts, golden: Path
) -> None:
    def few(image: bytes, top_k: int) -> tuple[int, Any]:
        if top_k > 2:
            return 400, {"error": "parameters.top_k: expected an integer from 1 to 2"}
        return 200, prediction(0.7, 0.2)

    def more(image: bytes, top_k: int) -> tuple[int, Any]:
        return 200, prediction(*(0.7, 0.2, 0.1)[:top_k])

    done = script("compare", model_host(more).url, model_host(few).url, golden, "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["classes"] == 2


def test_headers_are_sent_to_servers_that_run(script: Script, model_host: ModelHosts, photographs: list[Path]) -> None:
    a, b = model_host(A), model_host(A)
    assert script("compare", a.url, b.url, photographs[0], "--header", "X-Api-Key: k").returncode == 0
    assert {headers["X-Api-Key"] for headers in (*a.headers, *b.headers)} == {"k"}


def test_a_secret_that_goes_openly_is_warned_of_and_none_is_shown(
    script: Script, model_host: ModelHosts, photographs: list[Path]
) -> None:
    there = model_host(A).url.replace("127.0.0.1", "0.0.0.0")  # the same on Linux, but it does not count as loopback
    done = script("compare", there, there, photographs[0], "--header", "X-Api-Key: hidden")
    warning = "is not https: anybody on the network path can read the token or key"
    assert done.returncode == 0, done
    assert [line for line in done.stderr.splitlines() if "https" in line] == [
        f"A: {there} {warning}",
        f"B: {there} {warning}",
    ]
    named = there.replace("//", "//me:hidden@")  # pragma: allowlist secret
    done = script("compare", f"{named}?key=hidden", model_host(A).url, photographs[0])
    assert done.returncode == 0, done
    assert [line for line in done.stderr.splitlines() if "https" in line] == [f"A: {there} {warning}"]
    assert "A:" in done.stdout
    assert there.removeprefix("http://") in "".join(done.stdout.split())
    assert "hidden" not in done.stdout + done.stderr


def test_a_server_that_wants_credentials_is_told(script: Script, model_host: ModelHosts, golden: Path) -> None:
    host = model_host(always({"error": "credentials: missing or invalid"}, 401))
    done = script("compare", host.url, host.url, golden)
    assert done.returncode == 1
    assert "--header @FILE" in done.stderr.splitlines()[-1]


# --- Arguments --------------------------------------------------------------------------------------------------------


def test_what_is_given_is_checked_before_anything_is_started(
    script: Script, directory: Path, photographs: list[Path], tmp_path: Path, only_error: OnlyError
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.mar").write_text("nothing")
    assert only_error(script("compare", directory, directory, tmp_path / "empty")) == (
        f"no pictures in {tmp_path / 'empty'}: expected .jpg, .png, .webp, .gif, .bmp or .tiff"
    )
    assert only_error(script("compare", directory, directory, "gone.jpg")) == "gone.jpg: No such file or directory"
    assert "no.mar is not an archive, or is incomplete" in only_error(
        script("compare", directory, tmp_path / "no.mar", photographs[0])
    )
    assert only_error(script("compare", directory, "gone.mar", photographs[0])).startswith(
        "gone.mar: no such archive; expected a .mar file, a directory"
    )
    version = script("compare", directory, "gs://bucket/x", photographs[0])
    assert only_error(version).startswith("gs://bucket/x is not a version")


@pytest.mark.parametrize("share", ["-0.1", "1.1", "98%"])
def test_what_is_no_share_is_wrong_usage(share: str, script: Script, photographs: list[Path]) -> None:
    done = script("compare", "a.mar", "b.mar", photographs[0], "--require-agreement", share)
    assert (done.returncode, done.stdout) == (2, "")
