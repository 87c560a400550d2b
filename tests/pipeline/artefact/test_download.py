"""The ImageNet weights are downloaded once, and no failure leaves anything behind in the cache."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from pipeline.artefact.download import cache_directory, downloaded
from pipeline.artefact.model import Published
from pipeline.artefact.weights import load_weights
from pipeline.shared.errors import PipelineError, WeightsUnavailable

CONTENT = bytes(range(256)) * 12_000  # 3 MB: a few chunks
NAME = "alexnet-owt.pth"
PATH = f"/models/{NAME}"


def ignore_progress(*_: int) -> None:
    pass


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def get(website: Any, cache: Path) -> Callable[..., Path]:
    """Gets the file that has CONTENT, from the website or from the cache."""

    def get(progress: Callable[[int, int], None] = ignore_progress, url: str = website.url + PATH) -> Path:
        return downloaded(Published(url, sha256(CONTENT).hexdigest()), progress, cache)

    return get


# --- When all is well -------------------------------------------------------------------------------------------------


def test_it_is_downloaded_once_and_then_taken_from_the_cache(get: Any, website: Any, cache: Path) -> None:
    website.put(PATH, CONTENT)
    assert get() == get() == cache / NAME
    assert website.asked == [PATH]
    assert (cache / NAME).read_bytes() == CONTENT
    assert os.listdir(cache) == [NAME]


def test_the_first_digits_of_the_checksum_are_enough(website: Any, cache: Path) -> None:
    """torchvision's file names have eight digits."""
    website.put(PATH, CONTENT)
    right = sha256(CONTENT).hexdigest()[:8]
    assert downloaded(Published(website.url + PATH, right), ignore_progress, cache).read_bytes() == CONTENT
    wrong = f"{right[:7]}{'0' if right[7] != '0' else '1'}"
    with pytest.raises(WeightsUnavailable, match="it did not send the published file"):
        downloaded(Published(website.url + PATH, wrong), ignore_progress, cache)


def test_progress_is_told_with_growing_bytes_up_to_all_of_them(get: Any, website: Any) -> None:
    website.put(PATH, CONTENT)
    told: list[tuple[int, int]] = []
    get(lambda so_far, total: told.append((so_far, total)))
    assert len(told) > 1
    assert told == sorted(set(told))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in told} == {len(CONTENT)}


def test_a_server_that_does_not_say_how_much_it_sends_is_fine(get: Any, website: Any) -> None:
    def page(visit: BaseHTTPRequestHandler) -> None:
        visit.send_response(200)
        visit.end_headers()
        visit.wfile.write(CONTENT)

    website.pages[PATH] = page
    told: list[tuple[int, int]] = []
    assert get(lambda so_far, total: told.append((so_far, total))).read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), 0)


def test_a_redirect_is_followed(get: Any, website: Any, cache: Path) -> None:
    website.put(PATH, b"", 302, Location="/elsewhere")
    website.put("/elsewhere", CONTENT)
    assert get() == cache / NAME
    assert (cache / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT[:-1] + b"?"])
def test_a_damaged_file_in_the_cache_is_replaced(get: Any, website: Any, cache: Path, damaged: bytes) -> None:
    website.put(PATH, CONTENT)
    cache.mkdir()
    (cache / NAME).write_bytes(damaged)
    assert get().read_bytes() == CONTENT
    assert os.listdir(cache) == [NAME]


@pytest.mark.parametrize("content", [CONTENT, b"few bytes"])
def test_what_a_killed_process_left_does_no_harm(website: Any, cache: Path, content: bytes) -> None:
    website.put(PATH, content)
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(b"?" * (len(content) + 1000))
    told: list[int] = []
    published = Published(website.url + PATH, sha256(content).hexdigest())
    file = downloaded(published, lambda so_far, _: told.append(so_far), cache)
    assert file.read_bytes() == content
    assert told[-1] == len(content)
    assert os.listdir(cache) == [NAME]


def test_the_cache_is_the_one_of_torch_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "torch" / "hub" / "checkpoints"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/torch/hub/checkpoints")
    monkeypatch.setenv("TORCH_HOME", "~/torch")
    assert cache_directory() == tmp_path / "torch" / "hub" / "checkpoints"
    import torch

    assert str(cache_directory().parent) == torch.hub.get_dir()


def test_a_file_that_was_put_there_by_hand_is_checked_as_well(
    user_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int
) -> None:
    """The only test with the real address: a missing proxy prevents the call."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port}")
    by_hand = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"something else")
    with pytest.raises(WeightsUnavailable, match=f"put the file at {by_hand} yourself"):
        load_weights("imagenet", ignore_progress)
    assert os.listdir(by_hand.parent) == [by_hand.name]


# --- When something goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", CONTENT[:-1], CONTENT[:-1] + b"?", b"<html>log in to the hotel's network</html>"]
)
def test_a_corrupted_download_is_never_left_in_the_cache(get: Any, website: Any, cache: Path, sent: bytes) -> None:
    website.put(PATH, sent)
    with pytest.raises(WeightsUnavailable, match=r"it did not send the published file"):
        get()
    assert os.listdir(cache) == []


def test_a_corrupted_download_does_not_touch_what_is_in_the_cache(get: Any, website: Any, cache: Path) -> None:
    website.put(PATH, b"corrupted")
    cache.mkdir()
    (cache / NAME).write_bytes(b"something of another tool")
    with pytest.raises(PipelineError):
        get()
    assert (cache / NAME).read_bytes() == b"something of another tool"
    assert os.listdir(cache) == [NAME]


def test_a_transfer_that_breaks_off_leaves_nothing(get: Any, website: Any, cache: Path) -> None:
    website.put(PATH, CONTENT[:-1], **{"Content-Length": str(len(CONTENT))})
    with pytest.raises(WeightsUnavailable) as refusal:
        get()
    assert str(refusal.value).startswith(f"the weights could not be downloaded from {website.url}{PATH} (")
    assert os.listdir(cache) == []


@pytest.mark.parametrize("status", [404, 503])
def test_a_refusal_is_told_with_its_status(get: Any, website: Any, cache: Path, status: int) -> None:
    website.put(PATH, CONTENT, status)
    with pytest.raises(WeightsUnavailable, match=rf"\(the server answered {status}\): check the network"):
        get()
    assert os.listdir(cache) == []


def test_redirects_in_a_circle_end(get: Any, website: Any, cache: Path) -> None:
    website.put(PATH, b"", 302, Location=PATH)
    with pytest.raises(WeightsUnavailable, match="redirect"):
        get()
    assert os.listdir(cache) == []


def test_a_server_that_is_not_there_is_told_with_what_to_do(get: Any, cache: Path, free_port: int) -> None:
    with pytest.raises(WeightsUnavailable) as refusal:
        get(url=f"http://127.0.0.1:{free_port}{PATH}")
    for advice in ("HTTPS_PROXY", f"put the file at {cache / NAME} yourself", "--weights FILE", "--weights untrained"):
        assert advice in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert os.listdir(cache) == []


@pytest.mark.parametrize("proxy", ["http://proxy.invalid:port", "ftp://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_counts_as_no_network(
    get: Any, cache: Path, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(WeightsUnavailable, match="check the network or HTTPS_PROXY"):
        get(url=f"http://example.invalid{PATH}")
    assert os.listdir(cache) == []


def test_a_second_download_is_told_of_the_first_and_does_not_disturb_it(get: Any, website: Any, cache: Path) -> None:
    website.put(PATH, CONTENT)
    refusals: list[str] = []

    def begin_a_second(*_: int) -> None:
        with pytest.raises(PipelineError) as refusal:
            get()
        refusals.append(str(refusal.value))

    assert get(begin_a_second).read_bytes() == CONTENT
    assert set(refusals) == {f"another process is downloading {cache / NAME}: wait for it, then run this again"}
    assert website.asked == [PATH]
    assert os.listdir(cache) == [NAME]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_cache_that_may_not_be_written_to_is_named(get: Any, website: Any, cache: Path) -> None:
    website.put(PATH, CONTENT)
    cache.mkdir(mode=0o555)
    with pytest.raises(PermissionError) as refusal:
        get()
    assert str(refusal.value.filename).startswith(str(cache))


def test_a_cache_that_cannot_be_made_is_named(get: Any, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(WeightsUnavailable) as refusal:
        get()
    assert f"({cache}: " in str(refusal.value)


# --- Signals ----------------------------------------------------------------------------------------------------------

DOWNLOAD = """
import sys
from pathlib import Path
from pipeline import __main__
from pipeline.artefact.download import downloaded
from pipeline.artefact.model import Published

url, cache = sys.argv[1:]

def download() -> None:
    downloaded(Published(url, "0" * 64), lambda *_: None, Path(cache))

__main__.run(download, [])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_middle_of_a_download_leaves_nothing(
    number: signal.Signals, website: Any, cache: Path, importable: dict[str, str]
) -> None:
    half_sent, ended = threading.Event(), threading.Event()

    def page(visit: BaseHTTPRequestHandler) -> None:
        visit.send_response(200)
        visit.send_header("Content-Length", str(len(CONTENT)))
        visit.end_headers()
        visit.wfile.write(CONTENT[: len(CONTENT) // 2])
        half_sent.set()
        ended.wait()

    website.pages[PATH] = page
    command = [sys.executable, "-P", "-c", DOWNLOAD, website.url + PATH, str(cache)]
    with subprocess.Popen(command, env=importable, stderr=subprocess.PIPE, text=True) as downloading:
        try:
            assert half_sent.wait(60)
            assert os.listdir(cache) == [f"{NAME}.part"]
            downloading.send_signal(number)
            _, said = downloading.communicate(timeout=60)
        finally:
            ended.set()
            downloading.kill()
    assert downloading.returncode == 128 + number
    assert "Traceback" not in said
    assert os.listdir(cache) == []
