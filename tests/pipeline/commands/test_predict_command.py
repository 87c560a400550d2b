"""scripts/predict.sh as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from PIL import Image

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.torchserve import TorchServe, has_envoy
from pipeline.shared.ports import Ports
from pipeline.store.bucket import connect
from pipeline.store.embedded_storage import EmbeddedStorage
from tests.support.website import running_website

pytestmark = pytest.mark.usefixtures("one_worker")

Script = Callable[..., subprocess.CompletedProcess[str]]
OnlyError = Callable[[subprocess.CompletedProcess[str]], str]

PREDICT = "/v1/models/alexnet:predict"


def as_json(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_shows_labels_with_bars_and_percentages(
    script: Script, server: TorchServe, photographs: list[Path], tmp_path: Path
) -> None:
    shutil.copy(photographs[0], tmp_path / "photo.jpg")  # next to where it is run
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


def test_explanations_are_written_beside_each_other_and_told(
    script: Script, server: TorchServe, photographs: list[Path], tmp_path: Path
) -> None:
    images = [str(photographs[0]), "gone.jpg", str(photographs[1]), str(photographs[0])]
    done = script("predict", "--url", server.url, "--top-k", "2", "--explain", "heat/maps", *images)
    assert (done.returncode, done.stderr) == (1, "error: gone.jpg: No such file or directory\n")
    first, second = (photograph.stem for photograph in photographs[:2])
    names = [f"{first}.explained.jpg", f"{second}.explained.jpg", f"{first}.explained-2.jpg"]
    assert [line for line in done.stdout.splitlines() if line.startswith("explained ")] == [
        f"explained in heat/maps/{name}" for name in names
    ]
    assert sorted(os.listdir(tmp_path / "heat/maps")) == sorted(names)
    for name in names:
        with Image.open(tmp_path / "heat/maps" / name) as overlay:
            assert (overlay.format, overlay.size) == ("JPEG", (224, 224))


def test_an_explained_answer_has_the_same_classes_in_v1_and_json_says_where_it_is(
    script: Script, server: TorchServe, photographs: list[Path], tmp_path: Path
) -> None:
    photograph = str(photographs[0])
    asked = ("predict", "--url", server.url, "--json", "--protocol", "v1", photograph)
    (plain,), (told,) = as_json(script(*asked)), as_json(script(*asked, "--explain", "maps"))
    name = told.pop("explanation")
    assert told == plain
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize("protocol", ["v2", "grpc"])
def test_explanations_are_asked_for_in_v1(script: Script, protocol: str) -> None:
    done = script("predict", "--protocol", protocol, "--explain", "maps", "photo.jpg")
    assert done.returncode == 2
    assert f"--explain goes with --protocol raw or v1, not {protocol}" in done.stderr


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_asked(
    script: Script, only_error: OnlyError, tmp_path: Path
) -> None:
    (tmp_path / "maps").touch()
    assert "maps" in only_error(script("predict", "--url", "http://127.0.0.1:1", "--explain", "maps", "photo.jpg"))


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
    script: Script, only_error: OnlyError, light_directory: Path, photographs: list[Path], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "alice").write_text("k" * 32)
    with TorchServe(light_directory, MODEL_NAME, Ports.any_free(), environment={"API_KEYS": str(keys)}) as guarded:
        for extra in ([], ["--json"]):
            sentence = only_error(script("predict", *extra, "--url", guarded.url, photographs[0]))
            assert sentence == (
                f"{photographs[0]}: 401: credentials: missing or invalid: "
                "give --token-file, --gcloud-token or --header @FILE"
            )


def test_what_is_no_url_is_told_so(script: Script, only_error: OnlyError, photographs: list[Path]) -> None:
    sentence = only_error(script("predict", "--url", "ftp://localhost", photographs[0]))
    assert sentence == "'ftp://localhost' is not a URL of a server: expected http://HOST:PORT or https://HOST"


def test_the_url_that_serve_prints_is_one_that_it_takes(
    script: Script, server: TorchServe, photographs: list[Path]
) -> None:
    done = script("predict", "--url", server.predict_url, photographs[0])
    assert (done.returncode, done.stderr) == (0, "")


# --- Headers and tokens -----------------------------------------------------------------------------------------------


def answer(website: Any) -> None:
    website.put(PREDICT, b'{"predictions": [{"classes": [{"label": "tabby", "probability": 0.5}]}]}')


def test_headers_and_a_token_reach_the_server(
    script: Script, website: Any, photographs: list[Path], tmp_path: Path
) -> None:
    answer(website)
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "headers").write_text("x-api-key: key\n")
    options = ["--header", "Host: a.example", "--header", "@headers", "--token-file", "token"]
    done = script("predict", "--url", website.url, *options, photographs[0], environment={"ALEXNET_TOKEN": "unused"})
    assert (done.returncode, done.stderr) == (0, "")
    sent = {name: website.headers[name] for name in ("Host", "X-API-Key", "Authorization")}
    assert sent == {"Host": "a.example", "X-API-Key": "key", "Authorization": "Bearer from-file"}


@pytest.mark.parametrize(
    ("options", "authorization"),
    [
        ([], "Bearer from-environment"),
        (["--token", "given"], "Bearer given"),
        (["--header", "Authorization: Basic eA=="], "Basic eA=="),
        (["--gcloud-token"], "Bearer from-gcloud"),
    ],
)
def test_the_environments_token_is_for_calls_without_another(
    script: Script, website: Any, photographs: list[Path], tmp_path: Path, options: list[str], authorization: str
) -> None:
    answer(website)
    gcloud = tmp_path / "bin" / "gcloud"  # needs a Google account
    gcloud.parent.mkdir()
    gcloud.write_text("#!/bin/sh\necho from-gcloud\n")
    gcloud.chmod(0o755)
    environment = {"ALEXNET_TOKEN": "from-environment", "PATH": f"{gcloud.parent}:{os.environ['PATH']}"}
    done = script("predict", "--url", website.url, *options, photographs[0], environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert website.headers["Authorization"] == authorization


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--token", "a", "--token-file", "b"], "give one of --token, --token-file and --gcloud-token"),
        (["--token", "a", "--gcloud-token"], "give one of --token, --token-file and --gcloud-token"),
        (["--audience", "a"], "--audience goes with --gcloud-token"),
        (["--token", "a", "--header", "authorization: b"], "a header Authorization and a token were given"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(script: Script, options: list[str], sentence: str) -> None:
    done = script("predict", *options, "a.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in " ".join(done.stderr.split())


@pytest.mark.slow
@pytest.mark.skipif(not has_envoy(), reason="Envoy is not here, which asks for keys")
def test_with_its_key_a_client_is_answered(
    script: Script, light_directory: Path, photographs: list[Path], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "alice").write_text("k" * 32)
    (tmp_path / "headers").write_text(f"x-api-key: {'k' * 32}")
    with TorchServe(light_directory, MODEL_NAME, Ports.any_free(), environment={"API_KEYS": str(keys)}) as guarded:
        done = script("predict", "--url", guarded.url, "--header", "@headers", photographs[0])
    assert (done.returncode, done.stderr) == (0, "")


# --- Images that are fetched ------------------------------------------------------------------------------------------


def test_images_of_the_web_are_fetched_here_and_by_the_server_where_it_is_asked(
    script: Script, only_error: OnlyError, server: TorchServe, photographs: list[Path], tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with running_website(context) as site:
        image = site.put("/a.jpg", photographs[0].read_bytes())
        trust = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        done = script("predict", "--json", "--url", server.url, image, photographs[0], environment=trust)
        assert (done.returncode, done.stderr) == (0, "")
        web, file = as_json(done)
        assert (web["image"], web["classes"]) == (image, file["classes"])
        site.asked.clear()
        refused = only_error(script("predict", "--by-url", "--url", server.url, image, environment=trust))
        assert refused.startswith(f"{image}: 403: instances[0].url: not fetched: ")
        assert "handler.url.allowed_hosts" in refused
        assert site.asked == []


def test_images_in_cloud_storage_are_read_here(
    script: Script, server: TorchServe, photographs: list[Path], user_environment: None
) -> None:
    with EmbeddedStorage("pictures") as storage:
        bucket = connect().bucket("pictures")
        bucket.blob("a cat?/ü.jpg").upload_from_filename(photographs[0])
        bucket.blob("empty.jpg").upload_from_string(b"")
        names = ["gs://pictures/a cat?/ü.jpg", "gs://pictures/gone.jpg", "gs://pictures/", "gs://pictures/empty.jpg"]
        done = script("predict", "--json", "--url", server.url, *names, photographs[0])
    assert storage.bucket == "pictures"
    assert done.returncode == 1
    stored, file = as_json(done)
    assert (stored["image"], stored["classes"]) == (names[0], file["classes"])
    first, second, third = done.stderr.splitlines()
    assert first == "error: gs://pictures/gone.jpg: there is no such object"
    assert second == "error: gs://pictures/: it names no object: expected gs://BUCKET/NAME"
    assert third.startswith("error: gs://pictures/empty.jpg: 400: body: ")


@pytest.mark.parametrize("image", ["http://a.example/b.jpg", "s3://a/b.jpg", "FTP://a/b.jpg"])
def test_other_schemes_are_not_fetched(script: Script, only_error: OnlyError, image: str) -> None:
    scheme = image.partition(":")[0].lower()
    sentence = only_error(script("predict", image))
    assert sentence == f"{image}: {scheme}:// is not supported: images are files, https:// or gs://"


# --- Terminals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_in_a_terminal_of_any_width_the_probability_is_whole(
    script: Script, server: TorchServe, photographs: list[Path], columns: int
) -> None:
    done = script("predict", "--url", server.url, photographs[0], environment={"COLUMNS": str(columns)})
    _, *rows = done.stdout.splitlines()
    assert len(re.findall(r" \d+\.\d\d%", done.stdout)) == 5
    assert all(len(row.rstrip()) <= columns for row in rows)


def test_more_classes_than_the_server_gives_are_refused_by_the_server(
    script: Script, server: TorchServe, photographs: list[Path]
) -> None:
    done = script("predict", "--url", server.url, "--top-k", "1001", photographs[0])
    assert (done.returncode, "expected an integer from 1 to 1000" in " ".join(done.stderr.split())) == (1, True)


@pytest.mark.parametrize("arguments", [[], ["--top-k", "0", "a.jpg"], ["--top-k", "x", "a.jpg"], ["--top", "a.jpg"]])
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
    assert {"torch", "numpy", "google.cloud", "grpc", "kubernetes", "model_signing", "ts"} & set(loaded) == set()


# --- Protocols --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["raw", "v1", "v2"])
def test_in_each_protocol_the_same_is_shown(
    script: Script, server: TorchServe, photographs: list[Path], protocol: str
) -> None:
    shown = script("predict", "--url", server.url, *photographs)
    assert script("predict", "--protocol", protocol, "--url", server.url, *photographs).stdout == shown.stdout


@pytest.mark.parametrize("protocol", ["raw", "v1", "v2"])
def test_in_each_protocol_one_picture_that_fails_is_a_line(
    script: Script, server: TorchServe, photographs: list[Path], tmp_path: Path, protocol: str
) -> None:
    (tmp_path / "none.jpg").write_bytes(b"no image")
    done = script("predict", "--protocol", protocol, "--url", server.url, "none.jpg", photographs[0])
    assert done.returncode == 1
    assert re.fullmatch(r"error: none\.jpg: 400: .*not an image \(.*\)\n", done.stderr)
    assert str(photographs[0]) in done.stdout


@pytest.mark.parametrize("protocol", ["raw", "v1", "v2", "grpc"])
def test_in_each_protocol_a_server_that_is_not_there_is_told_once(
    script: Script, only_error: OnlyError, photographs: list[Path], free_port: int, protocol: str
) -> None:
    url = f"http://127.0.0.1:{free_port}"
    sentence = only_error(script("predict", "--protocol", protocol, "--url", url, *photographs))
    assert sentence == f"no server at {url}: start one with scripts/serve.sh, or give --url"


def test_by_url_goes_with_v1_alone(script: Script) -> None:
    done = script("predict", "--by-url", "--protocol", "v2", "https://a.example/b.jpg")
    assert done.returncode == 2
    assert "--by-url goes with --protocol v1, not v2" in " ".join(done.stderr.split())
