"""scripts/predict.sh as a user runs it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe, has_envoy
from pipeline.shared.ports import Ports

Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]

PREDICT = "/v1/models/alexnet:predict"


def as_json(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_shows_labels_with_bars_and_percentages(
    script: Script, server: TorchServe, photographs: list[Path], tmp_path: Path
) -> None:
    shutil.copy(photographs[0], tmp_path / "photo.jpg")  # beside where it is run
    done = script("predict", "--url", server.url, "--top-k", "3", "photo.jpg")
    assert (done.returncode, done.stderr) == (0, "")
    title, *rows = done.stdout.splitlines()
    assert title.rstrip() == "photo.jpg"
    (told,) = as_json(script("predict", "--url", server.url, "--top-k", "3", "--json", "photo.jpg"))
    assert len(rows) == len(told["classes"]) == 3
    bars = [row.count("━") for row in rows]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > bars[-1]
    for row, entry in zip(rows, told["classes"], strict=True):
        assert row.startswith(f"{entry['label']}  ")
        assert row.endswith(f" {entry['probability']:.2%}")


def test_json_is_a_line_for_each_image_in_the_order_of_the_arguments(
    script: Script, server: TorchServe, photographs: list[Path]
) -> None:
    images = [str(photograph) for photograph in [*reversed(photographs), *photographs]]
    done = script("predict", "--json", "--url", server.url, *images)
    assert (done.returncode, done.stderr) == (0, "")
    told = as_json(done)
    assert [line["image"] for line in told] == images
    assert {len(line["classes"]) for line in told} == {5}
    best = [line["classes"][0]["index"] for line in told]
    assert best == best[::-1]


def test_one_image_that_fails_does_not_keep_the_others_from_being_answered(
    script: Script, server: TorchServe, photographs: list[Path], tmp_path: Path
) -> None:
    first, second = map(str, photographs[:2])
    for extra in ([], ["--json"]):
        done = script("predict", *extra, "--url", server.url, first, "gone.jpg", second)
        assert done.returncode == 1
        assert done.stderr == "error: gone.jpg: No such file or directory\n"
        assert first in done.stdout
        assert second in done.stdout


def test_without_a_server_it_says_what_to_do_once(
    script: Script, only_error: OnlyError, photographs: list[Path], free_port: int
) -> None:
    url = f"http://127.0.0.1:{free_port}"
    sentence = only_error(script("predict", "--url", url, *photographs))
    assert sentence == f"no server at {url}: start one with scripts/serve.sh, or give --url"


@pytest.mark.slow
@pytest.mark.skipif(not has_envoy(), reason="Envoy is not here, which asks for keys")
def test_a_service_that_wants_credentials_says_so_in_a_line(
    script: Script, only_error: OnlyError, directory: Path, photographs: list[Path], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "alice").write_text("k" * 32)
    with TorchServe(directory, MODEL_NAME, Ports.any_free(), environment={"API_KEYS": str(keys)}) as guarded:
        for extra in ([], ["--json"]):
            sentence = only_error(script("predict", *extra, "--url", guarded.url, photographs[0]))
            assert sentence == f"{photographs[0]}: 401: credentials: none, or not valid"


def test_what_is_no_url_is_told_so(script: Script, only_error: OnlyError, photographs: list[Path]) -> None:
    sentence = only_error(script("predict", "--url", "localhost:8080", photographs[0]))
    assert sentence == "localhost:8080 is not a URL of a server: expected http://HOST:PORT"


@pytest.mark.parametrize("arguments", [[], ["--top-k", "0", "a.jpg"], ["--top-k", "1001", "a.jpg"], ["--top", "a.jpg"]])
def test_wrong_usage_has_exit_status_2(script: Script, arguments: list[str]) -> None:
    done = script("predict", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "scripts/predict.sh" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_and_labels_are_text_whatever_they_look_like(
    script: Script, website: Any, photographs: list[Path], tmp_path: Path
) -> None:
    """Square brackets are markup to the library that prints them, and so are words between colons."""
    image, label = "[red]photo[0] :smile:.jpg", "[bold]tabby :cat: [/]"
    shutil.copy(photographs[0], tmp_path / image)
    classes = [{"label": label, "probability": 0.5}]
    website.put(PREDICT, json.dumps({"predictions": [{"classes": classes}]}).encode())
    shown = script("predict", "--url", website.url, image)
    title, row = shown.stdout.splitlines()
    assert title.rstrip() == image
    assert row.startswith(f"{label}  ")
    assert as_json(script("predict", "--json", "--url", website.url, image)) == [{"image": image, "classes": classes}]
    failed = script("predict", "--url", website.url, "[red]gone.jpg")
    assert failed.stderr == "error: [red]gone.jpg: No such file or directory\n"


def test_a_long_name_stays_in_one_line(
    script: Script, server: TorchServe, photographs: list[Path], tmp_path: Path
) -> None:
    image = tmp_path / ("long" * 40) / "photo.jpg"
    image.parent.mkdir()
    shutil.copy(photographs[0], image)
    done = script("predict", "--url", server.url, "--top-k", "1", image)
    assert done.stdout.splitlines()[0].rstrip() == str(image)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_although_the_server_does_not_answer(
    checkout: Path, photographs: list[Path], user_environment: None, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [str(checkout / "scripts" / "predict.sh"), str(photographs[0])]
        command += ["--url", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asking:
            connection, _ = silent.accept()
            with connection:
                asking.send_signal(number)
                _, said = asking.communicate(timeout=30)
    assert (asking.returncode, said) == (128 + number, "")


def test_it_starts_without_the_libraries_of_other_commands(importable: dict[str, str]) -> None:
    look = "import sys, pipeline.__main__, pipeline.commands.predict; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-P", "-c", look], env=importable, text=True).split()
    assert {"torch", "numpy", "google.cloud", "kubernetes", "model_signing", "ts"} & set(loaded) == set()
