"""The newer Netty is downloaded completely, with netty.json's digests, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import netty
from netty import Jar, NotDownloaded, download
from pipeline.shared.ports import free_ports

ELF = b"\x7fELF of the new Netty"


def native() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        jar.writestr("META-INF/native/libnetty_transport_native_epoll_x86_64.so", ELF)
    return made.getvalue()


CONTENTS = {
    ("netty-common", None): b"classes",
    ("netty-transport-native-epoll", "x86_64"): native(),
}
JARS = [
    Jar(artifact, "4.2.0.Final", machine, hashlib.sha256(content).hexdigest(), artifact)
    for (artifact, machine), content in CONTENTS.items()
]
BROUGHT = {
    "netty-common-4.2.0.Final.jar": b"classes",
    "libnetty_transport_native_epoll_x86_64.so": ELF,
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files in the repository."""
    for jar, content in zip(JARS, CONTENTS.values(), strict=True):
        file = tmp_path / "repository" / jar.path
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    return tmp_path / "repository"


@pytest.fixture
def repository(files: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(files))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "share" / "netty"


def in_it(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_mirror_with_credentials_is_refused_without_printing_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, netty.__file__, tmp_path / "netty"],
        env=os.environ | {netty.MIRROR: "https://me:s3cret@mirror.example/maven"},  # pragma: allowlist secret
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "MAVEN_MIRROR_URL must not contain credentials" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr  # pragma: allowlist secret
    assert not (tmp_path / "netty").exists()


def test_jars_are_as_they_are_and_native_libraries_unpacked(repository: str, folder: Path) -> None:
    download(folder, JARS, repository)
    assert in_it(folder) == BROUGHT
    assert [file.name for file in folder.parent.iterdir()] == ["netty"]
    assert folder.stat().st_mode & 0o777 == 0o755  # another user serves


def test_a_slash_at_the_end_of_a_mirror_does_no_harm(repository: str, folder: Path) -> None:
    download(folder, JARS, f"{repository}/")
    assert in_it(folder) == BROUGHT


def test_an_older_one_is_gone_afterwards(repository: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "netty-common-4.1.0.Final.jar").touch()
    download(folder, JARS, repository)
    assert in_it(folder) == BROUGHT


@pytest.mark.parametrize("jar", JARS, ids=lambda jar: jar.artifact)
@pytest.mark.parametrize("harm", ["another", "cut", "empty", "gone"])
def test_what_is_not_as_known_is_refused_and_nothing_changes(
    harm: str, jar: Jar, repository: str, files: Path, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "before").touch()
    file = files / jar.path
    content = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes({"another": content[:-1] + b"?", "cut": content[:-1], "empty": b""}[harm])
    with pytest.raises(NotDownloaded, match=re.escape(jar.path)) as told:
        download(folder, JARS, repository)
    assert ("404" if harm == "gone" else "SHA-256") in str(told.value)
    assert "\n" not in str(told.value)
    assert [file.name for file in folder.parent.rglob("*")] == ["netty", "before"]


@pytest.mark.parametrize("address", ["file:///etc", "maven.example", "ftp://maven.example"])
def test_what_is_no_address_of_a_repository_is_told(address: str, folder: Path) -> None:
    with pytest.raises(NotDownloaded, match="not an address of a Maven repository"):
        download(folder, JARS, address)
    assert not folder.exists()


def test_a_repository_that_cannot_be_reached_is_told_in_one_line_with_what_to_do(folder: Path, checkout: Path) -> None:
    if platform.system() != "Linux":
        pytest.skip("there is a newer Netty only for Linux")
    done = subprocess.run(
        [sys.executable, checkout / "kserve" / "runtime" / "netty.py", folder],
        env=os.environ | {netty.MIRROR: f"http://127.0.0.1:{free_ports(1)[0]}", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"error: http://127\.0\.0\.1:\d+/io/netty/\S+\.jar: .*refused.* \(MAVEN_MIRROR_URL names another Maven "
        r"repository\)\n",
        done.stderr,
    )
    assert not folder.exists()


def test_the_jars_that_are_wanted() -> None:
    """All have one version; there is a native library for each Linux that has an Envoy."""
    jars = netty.jars()
    assert len({jar.version for jar in jars}) == 1
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert {jar.machine for jar in jars} == {None, "x86_64", "aarch64"}
    assert len({jar.name for jar in jars}) == len(jars) == len({jar.sha256 for jar in jars})
    version = jars[0].version
    assert {jar.name for jar in jars if jar.machine} == {
        f"netty-transport-native-epoll-{version}-linux-{classifier}.jar" for classifier in ("x86_64", "aarch_64")
    }


def test_the_image_has_it_where_its_server_looks(checkout: Path) -> None:
    """`python -m venv /opt/venv` is its sys.prefix. A build fails without it."""
    dockerfile = (checkout / "kserve" / "runtime" / "Dockerfile").read_text()
    assert "RUN python -m venv /opt/venv\n" in dockerfile
    downloaded = "/opt/venv/share/netty"
    assert f"RUN python /tmp/netty/netty.py {downloaded} && test -e {downloaded}\n" in dockerfile
    assert dockerfile.index(downloaded) < dockerfile.index("COPY --from=packages /opt/venv /opt/venv")
    server = (checkout / "kserve" / "runtime" / "server" / "torchserve.py").read_text()
    assert 'NETTY = Path(sys.prefix, "share", "netty")' in server


def test_a_setup_goes_on_without_it(checkout: Path) -> None:
    """It says how to get it later."""
    planned = subprocess.run(
        ["make", "-n", "-W", "kserve/runtime/netty.json", "setup"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    line = next(line for line in planned.replace("\\\n", "").splitlines() if "netty.py .venv/share/netty" in line)
    assert re.search(
        r"; then\s+echo \"TorchServe goes on with the Netty that it has: make netty MAVEN_MIRROR_URL=", line
    )
