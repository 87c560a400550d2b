"""The image, the ServingRuntime and the server's settings agree."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import threading
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from ts.model_server import load_properties

from pipeline.artefact.version import ARCHIVE, CONFIG
from pipeline.serving.folder import archive_in
from pipeline.serving.route import predict_route
from pipeline.shared.errors import PipelineError
from pipeline.supply import release
from server import door, variables
from server.door import NoDoor
from server.errors import NotServed
from server.folder import Folder
from server.health import HEALTH_PORT, LIVE_WITHIN_S, READY_WITHIN_S, HealthServer, listen
from server.model import ANSWER_TIMEOUT_S, Model
from server.scratch import scratch
from server.small_server import CONNECTIONS, Connection, SmallServer
from tests.support.in_a_thread import in_a_thread
from vision.model.weights import MOST_SHARED_BYTES

PATIENCE_S = 30
MEBIBYTES = {"m": 1, "g": 1024}
# Measured with 100 of the largest requests at once, in a control group: docs/reliability.md. An idle worker has 300 MB,
# and all share 130 MB of weights.
LOADED_WORKER_MEBIBYTES = 1000
JVM_MEBIBYTES = 250  # besides heap and direct memory


@pytest.fixture(scope="module")
def runtime(checkout: Path) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((checkout / "kserve" / "runtime" / "serving-runtime.yaml").read_text())
    return made


@pytest.fixture(scope="module")
def container(runtime: dict[str, Any]) -> dict[str, Any]:
    only: dict[str, Any]
    (only,) = runtime["spec"]["containers"]
    return only


@pytest.fixture(scope="module")
def instructions(checkout: Path) -> Callable[[str], list[str]]:
    """The Dockerfile's instructions of this name, without the name, with continued lines joined."""
    text = (checkout / "kserve" / "runtime" / "Dockerfile").read_text().replace("\\\n", " ")

    def named(name: str) -> list[str]:
        return [" ".join(line.split()) for line in re.findall(rf"^{name} (.*)$", text, re.MULTILINE)]

    return named


@pytest.fixture(scope="module")
def properties(checkout: Path) -> dict[str, str]:
    read: dict[str, str] = load_properties(str(checkout / "config.properties"))
    return read


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_the_ports_match_the_servers(
    container: dict[str, Any],
    runtime: dict[str, Any],
    properties: dict[str, str],
    instructions: Callable[[str], list[str]],
) -> None:
    inference, metrics = (port_of(properties[f"{name}_address"]) for name in ("inference", "metrics"))
    assert [port["containerPort"] for port in container["ports"]] == [inference]
    assert runtime["spec"]["annotations"]["prometheus.kserve.io/port"] == str(metrics)
    assert instructions("EXPOSE") == [f"{inference} {metrics} {HEALTH_PORT}"]
    assert properties["management_address"].startswith("http://127.0.0.1:")


def test_the_probes_use_paths_that_are_answered(container: dict[str, Any], health: HealthServer) -> None:
    asked = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert asked == [{"path": path, "port": HEALTH_PORT} for path in health.probes]


def test_a_full_queue_is_probed_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a pod that is busy for minutes could hardly ever ask its model, and would count as dead."""
    monkeypatch.setattr("server.model.ASK_EVERY_S", 3600)
    monkeypatch.setattr("server.model.ASK_AGAIN_S", 0)
    statuses = iter([200, 503, 507, None, 200])
    asked: list[int | None] = []
    model = Model(0, "/")

    def ask() -> int | None:
        asked.append(next(statuses))  # at the end it raises StopIteration
        return asked[-1]

    def pause(seconds: float) -> None:
        if seconds == 3600 and len(asked) == 5:
            raise InterruptedError
        pauses.append(seconds)

    pauses: list[float] = []
    monkeypatch.setattr(model, "_ask", ask)
    monkeypatch.setattr("server.model.time.sleep", pause)
    with pytest.raises(InterruptedError):
        model.ask_now_and_then()
    assert pauses == [3600, 0, 0, 0]


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Iterator[HealthServer]:
    """It answers probes for a healthy model, and lets a silent client stay connected for long."""
    model = Model(0, "/")
    model._answered_at = time.monotonic()
    monkeypatch.setattr("server.health.HEALTH_PORT", 0)
    monkeypatch.setattr("server.health.Health.timeout", 10 * PATIENCE_S)
    with in_a_thread(listen(model, NoDoor(), threading.Event())) as server:
        yield server


def test_a_probe_gets_in_even_if_others_hold_connections_open(health: HealthServer) -> None:
    address = ("127.0.0.1", health.server_port)
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address, PATIENCE_S)) for _ in range(3 * CONNECTIONS)]
        for path in ("/startup", "/ready", "/live"):
            connection = stack.enter_context(closing(HTTPConnection(*address, timeout=PATIENCE_S)))
            connection.request("GET", path)
            assert connection.getresponse().status == 200
        for one in silent[: 2 * CONNECTIONS]:
            assert one.recv(1) == b"", "the oldest connections make room"


def test_a_client_that_disconnects_leaves_no_line_in_the_log(
    health: HealthServer, capfd: pytest.CaptureFixture[str]
) -> None:
    address = ("127.0.0.1", health.server_port)
    with socket.create_connection(address, PATIENCE_S) as client:
        client.sendall(b"GET /re")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST rather than FIN
    with closing(HTTPConnection(*address, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/ready")
        assert connection.getresponse().status == 200
    assert capfd.readouterr() == ("", "")


def test_a_silent_worker_is_replaced_before_the_pod_is(checkout: Path) -> None:
    settings = yaml.safe_load((checkout / "handler" / "model-config.yaml").read_text())
    assert READY_WITHIN_S < settings["responseTimeout"] < ANSWER_TIMEOUT_S < LIVE_WITHIN_S


def test_it_runs_as_the_images_user(container: dict[str, Any], instructions: Callable[[str], list[str]]) -> None:
    context = container["securityContext"]
    assert instructions("USER") == [f"{context['runAsUser']}:{context['runAsGroup']}"]
    assert context["runAsUser"] > 0


def test_it_writes_where_a_volume_is(
    container: dict[str, Any], runtime: dict[str, Any], instructions: Callable[[str], list[str]]
) -> None:
    (mount,) = container["volumeMounts"]
    (volume,) = runtime["spec"]["volumes"]
    assert (mount["name"], volume["emptyDir"]["sizeLimit"]) == (volume["name"], "1Gi")
    assert f"TMPDIR={mount['mountPath']} " in instructions("ENV")[-1]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_that_volume_has_room_for_the_weights_that_workers_write(runtime: dict[str, Any]) -> None:
    """Besides the archive's: half as much, and a last layer that stays float32. A pod that uses more is evicted."""
    (volume,) = runtime["spec"]["volumes"]
    assert volume["emptyDir"]["sizeLimit"] == "1Gi"
    assert 1.55 * MOST_SHARED_BYTES + 64 * 2**20 < 2**30


def test_its_memory_is_enough_for_a_worker_on_each_processor(
    container: dict[str, Any], properties: dict[str, str]
) -> None:
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"]["memory"] == limits["memory"]
    bounds = re.findall(r"(?:-Xmx|MaxDirectMemorySize=)(\d+)([mg])", properties["vmargs"])
    assert len(bounds) == 2
    java = sum(int(size) * MEBIBYTES[unit] for size, unit in bounds)
    workers = int(limits["cpu"]) * LOADED_WORKER_MEBIBYTES
    assert java + JVM_MEBIBYTES + workers < int(limits["memory"].removesuffix("Gi")) * 1024


def test_everything_is_pinned(
    checkout: Path, container: dict[str, Any], instructions: Callable[[str], list[str]]
) -> None:
    (base,) = [text for text in instructions("ARG") if text.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+", base)
    assert {image.split()[0] for image in instructions("FROM")} == {"${BASE}"}
    name, version = container["image"].split(":")
    (labels,) = instructions("LABEL")
    assert f'org.opencontainers.image.title="{name}"' in labels
    assert 'org.opencontainers.image.version="${VERSION}"' in labels
    assert base.removeprefix("BASE=") in labels
    assert version == release.version(checkout)
    build = yaml.safe_load((checkout / "kserve" / "runtime" / "cloudbuild.yaml").read_text())
    (step,) = [step for step in build["steps"] if step["id"] == "build"]
    assert '--build-arg VERSION="$$version"' in step["args"][-1]


def test_the_files_that_the_image_copies_exist_and_reach_the_build(
    checkout: Path, instructions: Callable[[str], list[str]]
) -> None:
    kept = [line[1:] for line in (checkout / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [text.split()[:-1] for text in instructions("COPY") if not text.startswith("--from")]
    names = [name for group in copied for name in group]
    assert len(names) == 13
    server = checkout / "kserve" / "runtime" / "server"
    assert all((server / name).is_file() for name in ("__main__.py", "question.json", "log4j2.xml"))
    for name in names:
        assert (checkout / name).exists()
        assert any(f"{name}/".startswith(folder) or name == folder for folder in kept), name


def test_python_finds_the_server_whatever_pythonpath_says(
    checkout: Path, instructions: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """The image's own instruction, in a separate virtual environment."""
    (line,) = [text for text in instructions("RUN") if "torchserve.pth" in text]
    venv.create(tmp_path / "venv", symlinks=True)
    line = line.replace("/opt/venv", str(tmp_path / "venv"))
    line = line.replace("/opt/torchserve", str(checkout / "kserve" / "runtime"))
    subprocess.run(["sh", "-c", line], check=True, timeout=60)
    python = str(tmp_path / "venv" / "bin" / "python")
    command = [python, "-P", "-c", "import server; print(server.__file__)"]
    found = subprocess.run(command, env={"PYTHONPATH": "/nowhere"}, capture_output=True, text=True, timeout=60)
    assert Path(found.stdout.strip()).parent == checkout / "kserve" / "runtime" / "server", found.stderr


def test_torch_is_the_one_that_the_tests_ran_with(checkout: Path, instructions: Callable[[str], list[str]]) -> None:
    """The image installs it from its line in a locked file."""
    (line,) = [text for text in instructions("RUN") if "--require-hashes" in text]
    (pattern,) = re.findall(r"grep -o '([^']+)'", line)
    (pinned,) = re.findall(pattern, (checkout / "requirements" / "locked" / "torch.txt").read_text(), re.MULTILINE)
    assert f"\n{pinned}\n" in (checkout / "requirements" / "constraints.txt").read_text()


def test_everything_else_in_the_image_is_pinned_with_hashes(checkout: Path) -> None:
    locked = (checkout / "requirements" / "locked" / "image.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==(\S+) ", locked, re.MULTILINE))
    runtime = (checkout / "requirements" / "runtime.txt").read_text()
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)", runtime, re.MULTILINE))
    del wanted["torch"]
    assert wanted.items() <= pins.items()
    assert len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:", locked, re.MULTILINE)) == len(pins)


def test_what_verifies_identities_is_locked_too_and_no_part_of_every_image(checkout: Path) -> None:
    locked = checkout / "requirements" / "locked"
    always, besides = (
        set(re.findall(r"^([\w.-]+==\S+) ", (locked / name).read_text(), re.MULTILINE))
        for name in ("image.txt", "keyless.txt")
    )
    assert f"sigstore=={version('sigstore')}" in besides
    assert not {pin.partition("==")[0] for pin in always} & {pin.partition("==")[0] for pin in besides}


def test_the_trust_root_is_the_one_that_came_with_sigstores_library(checkout: Path) -> None:
    """Its own release has been checked against Sigstore's repository: a newer one comes with a newer release."""
    released = files("sigstore._store") / "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev" / "trusted_root.json"
    ours = checkout / "kserve" / "components" / "identity" / "trusted_root.json"
    assert ours.read_text() == released.read_text()


# --- The folder that is served ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Folder]:
    """A folder with these settings."""

    def made(settings: str) -> Folder:
        (tmp_path / CONFIG).parent.mkdir(exist_ok=True)
        (tmp_path / CONFIG).write_text(settings)
        return Folder(tmp_path)

    return made


def store(root: Path, *entries: str) -> None:
    """A model store with these: empty archives, folders for names ending with a slash, links for ones with an arrow."""
    (root / "model-store").mkdir(exist_ok=True)
    for entry in entries:
        path = root / entry if entry.startswith("model-store") else root / "model-store" / entry
        name, arrow, target = path.name.partition(" -> ")
        if arrow:
            path.with_name(name).symlink_to(target)
        elif entry.endswith("/"):
            path.mkdir()
        else:
            with zipfile.ZipFile(path, "w"):
                pass


def test_the_route_and_the_archive_follow_from_the_settings(
    folder: Callable[[str], Folder], checkout: Path, tmp_path: Path
) -> None:
    store(tmp_path, ARCHIVE)
    ours = folder((checkout / "config.properties").read_text())
    assert (ours.archive, ours.route, ours.inference) == (ARCHIVE, predict_route("alexnet"), ("0.0.0.0", 8080))
    other = folder("inference_address=http://0.0.0.0:8080\nload_models=res-net.v2.mar\n")
    assert (other.archive, other.route) == ("model-store/res-net.v2.mar", predict_route("res-net.v2"))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"model": {"modelName": "pets"}}, "pets"),
        ({"model": {"modelName": "../pets"}}, "v2"),
        ({"model": {"modelName": 5}}, "v2"),
        ({}, "v2"),
        (None, "v2"),
    ],
)
def test_the_route_has_the_name_that_the_archive_gives_itself(
    folder: Callable[[str], Folder], tmp_path: Path, said: object, name: str
) -> None:
    """As in TorchServe: the file's name counts if there is no other."""
    (tmp_path / "model-store").mkdir()
    with zipfile.ZipFile(tmp_path / "model-store" / "v2.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(said))
    assert folder("load_models=v2.mar\n").route == predict_route(name)


@pytest.mark.parametrize(
    ("description", "version"),
    [
        ('{"version": "bbbbbbbbbbbb"}', "bbbbbbbbbbbb"),
        (None, "aaaaaaaaaaaa"),
        ("", "aaaaaaaaaaaa"),
        ("{}", "aaaaaaaaaaaa"),
        ("[1]", "aaaaaaaaaaaa"),
        ('{"version": 7}', "aaaaaaaaaaaa"),
        ('{"version": "<script>"}', "aaaaaaaaaaaa"),
        ("[" * 100_000, "aaaaaaaaaaaa"),
        (" " * 2_000_000 + '{"version": "bbbbbbbbbbbb"}', "aaaaaaaaaaaa"),
    ],
)
def test_the_version_is_the_published_one_or_else_the_archives(
    folder: Callable[[str], Folder], tmp_path: Path, description: str | None, version: str
) -> None:
    (tmp_path / "model-store").mkdir()
    with zipfile.ZipFile(tmp_path / "model-store" / "v2.mar", "w") as archive:
        said = {"model": {"modelName": "pets", "modelVersion": "aaaaaaaaaaaa"}}
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(said))
    if description is not None:
        (tmp_path / "version.json").write_text(description)
    assert folder("load_models=v2.mar\n").model == ("pets", version)


def damaged(archive: bytes) -> bytes:
    """In the middle of the deflated data."""
    at = archive.index(b"MANIFEST.json") + len(b"MANIFEST.json") + 4
    return archive[:at] + bytes([archive[at] ^ 0xFF, archive[at + 1] ^ 0xFF]) + archive[at + 2 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"no archive",
        lambda archive: archive[: len(archive) // 2],
        damaged,
        lambda archive: archive.replace(b"MANIFEST.json", b"MANIFEST.JSON"),
        lambda archive: archive.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"),  # encrypted
    ],
)
@pytest.mark.parametrize("said", ['{"model": {"modelName": "pets"}}', "[" * 100_000, " " * 20_000_000 + "{}"])
def test_a_damaged_archive_is_left_to_torchserve(
    folder: Callable[[str], Folder], tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    (tmp_path / "model-store").mkdir()
    file = tmp_path / "model-store" / "v2.mar"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", said)
    file.write_bytes(spoil(file.read_bytes()))
    assert folder("load_models=v2.mar\n").route == predict_route("v2")


@pytest.mark.parametrize(
    "address", ["", "http://0.0.0.0", "http://0.0.0.0:http", "0.0.0.0:8080", "http://a.test:8080", "unix:/tmp/a.sock"]
)
def test_an_address_without_a_port_is_refused(folder: Callable[[str], Folder], address: str) -> None:
    served = folder(f"inference_address={address}\nload_models=alexnet.mar\n")
    with pytest.raises(
        NotServed,
        match=r"config\.properties: inference_address=.* is not an IP address with a port, such as http://0.0.0.0:8080$",
    ):
        _ = served.inference


def test_settings_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / CONFIG).parent.mkdir()
    (tmp_path / CONFIG).write_bytes(b"load_models=\xff.mar\n")
    with pytest.raises(NotServed, match=r"config\.properties is not text: publish it again$"):
        Folder(tmp_path)


def test_the_environment_takes_precedence(folder: Callable[[str], Folder], monkeypatch: pytest.MonkeyPatch) -> None:
    """As in TorchServe: a signature covers what will be loaded."""
    monkeypatch.setenv("TS_LOAD_MODELS", "other.mar")
    assert folder("load_models=alexnet.mar\nenable_envvars_config=true\n").archive == "model-store/other.mar"
    for no in ("", "enable_envvars_config=false\n"):
        assert folder(f"load_models=alexnet.mar\n{no}").archive == "model-store/alexnet.mar"


@pytest.mark.parametrize(
    "named",
    ["", "a.mar,b.mar", "all,a.mar", "*", "a=a.mar", "../a.mar", "/a.mar", "a/b.mar", "https://a.test/a.mar", "ä.mar"],
)
def test_anything_but_one_archive_is_refused(folder: Callable[[str], Folder], named: str) -> None:
    said = r"config\.properties: load_models=.* is neither all nor the name of one file NAME\.mar$"
    with pytest.raises(NotServed, match=said):
        folder(f"load_models={named}\n")


def test_settings_without_an_archive_are_refused(folder: Callable[[str], Folder]) -> None:
    with pytest.raises(NotServed, match=r"load_models= is neither"):
        folder("inference_address=http://0.0.0.0:8080\n")


# The content of a store by TorchServe's own rules (ModelServer.initModelStore), and which archive is served, if any.
STORES: list[tuple[tuple[str, ...], str | None]] = [
    (("pets.mar",), "pets.mar"),
    (("pets.mar", "README.md", "pets.mar.sig", ".pets.mar.x7d2", ".other.mar", "old.model", "folder/"), "pets.mar"),
    (("pets.mar -> elsewhere.zip", "elsewhere.zip"), "pets.mar"),
    ((), None),
    (("README.md",), None),
    ((".pets.mar",), None),
    (("a.mar", "b.mar"), None),
    (("a.mar", "b.mar/"), None),
    (("a.mar", "b.mar -> a.mar"), None),
    (("a.mar", "b.mar -> gone"), None),
    (("a.mar/",), None),
    (("a.mar -> folder", "folder/"), None),
    (("a.mar -> gone",), None),
    (("a b.mar",), None),
]


@pytest.mark.parametrize("said", ["all", "ALL"])
@pytest.mark.parametrize(("entries", "served"), STORES)
def test_the_only_archive_of_the_store_is_served_and_no_other_store(
    folder: Callable[[str], Folder], tmp_path: Path, entries: tuple[str, ...], served: str | None, said: str
) -> None:
    store(tmp_path, *entries)
    if served is None:
        with pytest.raises(NotServed) as refused:
            folder(f"load_models={said}\n")
        assert "\n" not in str(refused.value)
    else:
        assert folder(f"load_models={said}\n").archive == f"model-store/{served}"


def test_a_store_with_several_archives_or_none_is_named_with_them(
    folder: Callable[[str], Folder], tmp_path: Path
) -> None:
    with pytest.raises(NotServed, match=r"model-store: No such file or directory: publish an archive there$"):
        folder("load_models=all\n")
    store(tmp_path, "README.md")
    with pytest.raises(NotServed, match=rf"^{tmp_path}/model-store has no archive NAME\.mar, but load_models=all "):
        folder("load_models=all\n")
    store(tmp_path, "b.mar", "a.mar")
    with pytest.raises(NotServed, match=r"model-store has more than one archive \(a\.mar, b\.mar\), but load_models="):
        folder("load_models=all\n")


@pytest.mark.parametrize("settings", ["load_models=all\n", "load_models=a.mar\n", "load_models=b.mar\n"])
@pytest.mark.parametrize("entries", [entries for entries, _ in STORES if "a b.mar" not in entries])
def test_a_laptop_serves_the_same_archive_as_the_image(
    folder: Callable[[str], Folder], tmp_path: Path, entries: tuple[str, ...], settings: str
) -> None:
    store(tmp_path, *entries)
    found: list[Path | None] = []
    try:
        served = folder(settings + "enable_envvars_config=true\n")
        found.append(tmp_path / served.archive)
    except NotServed:
        found.append(None)
    try:
        found.append(archive_in(tmp_path))
    except PipelineError:  # which fails at once, as TorchServe does for a missing archive
        found.append(found[0] if found[0] and not found[0].is_file() else None)
    assert found[0] == found[1]


def test_a_variable_that_torchserve_does_not_know_chooses_no_archive(
    folder: Callable[[str], Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not be the one that is loaded."""
    monkeypatch.setenv("TS_MODEL_SNAPSHOT", '{"models": {"b": {"1": {"marName": "b.mar"}}}}')
    assert folder("load_models=a.mar\nenable_envvars_config=true\n").archive == "model-store/a.mar"


# --- Variables --------------------------------------------------------------------------------------------------------


def test_numbers_have_a_minimum_and_a_maximum() -> None:
    assert variables.whole_number("N", "007", 1, 10) == 7
    for wrong in ("", "0", "11", "-1", "1.0", "1e1", " 1", "٣", "9" * 5000, "one", "0x1"):
        with pytest.raises(NotServed, match=r"^N=.* is not a whole number from 1 to 10$"):
            variables.whole_number("N", wrong, 1, 10)
    assert [variables.switch("S", said) for said in ("1", "True", "0", "false", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(NotServed, match=r"^S=maybe is neither 1 nor 0$"):
        variables.switch("S", "maybe")


@pytest.mark.parametrize("said", ["abc", "1m", "nan", "-1", "inf", "1e9"])
def test_invalid_seconds_are_reported_before_anything_is_served(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read when the module is imported, where an error would not be visible."""
    monkeypatch.setattr(variables, "_faults", [])
    variables.check()
    monkeypatch.setenv("DRAIN_AT_MOST_S", said)
    assert variables.seconds("DRAIN_AT_MOST_S", 60) == 60
    with pytest.raises(NotServed, match=rf"^DRAIN_AT_MOST_S={said} is not a number of seconds from 0 to 86400$"):
        variables.check()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("REQUEST_TIMEOUT_S", "0"),
        ("UNREAD_TIMEOUT_S", "9999999"),
        ("MAX_CONNECTIONS", "0"),
        ("MAX_REQUESTS", "-3"),
        ("TRUSTED_HOPS", "-1"),
        ("LOG_REQUESTS", "perhaps"),
        ("CORS_ALLOWED_ORIGINS", ","),
    ],
)
def test_an_invalid_variable_of_the_door_is_named(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, said)
    with pytest.raises(NotServed, match=rf"^{name}={re.escape(said)} \S"):
        door.NAMES[next(key for key, variable in door.NAMES.items() if variable.name == name)].value()


# --- A folder of our own ----------------------------------------------------------------------------------------------


def test_only_the_folders_of_dead_servers_are_removed(temporary: Path) -> None:
    left = temporary / "ts-dead"
    left.mkdir()
    (left / "lock").touch()
    (left / "models").mkdir()
    other = temporary / "ts-of-somebody-else"
    other.mkdir()
    with scratch() as first:
        assert not left.exists()
        with scratch() as second:
            assert first.is_dir()
            assert second.is_dir()
            assert first != second
        assert not second.exists()
    assert list(temporary.iterdir()) == [other]


# --- Addresses --------------------------------------------------------------------------------------------------------


def test_ipv6_is_an_address_too(folder: Callable[[str], Folder]) -> None:
    served = folder("inference_address=http://[::]:8080\nmetrics_address=http://localhost:8082\nload_models=a.mar\n")
    assert (served.inference, served.metrics) == (("::", 8080), ("127.0.0.1", 8082))
    try:
        server = SmallServer("::1", 0, Connection, "TS_METRICS_ADDRESS")
    except NotServed:
        pytest.skip("this machine has no IPv6")
    server.server_close()
