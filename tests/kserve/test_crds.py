"""Where KServe's CRDs come from: a given folder, one next to the checkout, or a download that is verified."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.shared.ports import free_ports
from tests.support import kserve_crds
from tests.support.kserve_crds import crd_folder
from tests.support.website import Website

Skipped = pytest.skip.Exception
PAGES = {"one.yaml": b"spec: 1\n", "two.yaml": b"spec: 2\n"}


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The downloads' cache, still empty."""
    monkeypatch.delenv("KSERVE_CRDS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kserve_crds, "SHA256", {name: sha256(page).hexdigest() for name, page in PAGES.items()})
    return tmp_path / "cache" / "torchserve-alexnet" / "kserve-crds-0.20.0"


@pytest.fixture
def source(website: Website) -> str:
    for name, page in PAGES.items():
        website.put(f"/{name}", page)
    return website.url


def test_they_are_downloaded_once(source: str, website: Website, kept: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert crd_folder(tmp_path / "none", source) == kept
        assert {file.name: file.read_bytes() for file in kept.iterdir()} == PAGES
    assert website.asked == ["/one.yaml", "/two.yaml"]


def test_a_damaged_download_is_repeated(source: str, website: Website, kept: Path, tmp_path: Path) -> None:
    crd_folder(tmp_path / "none", source)
    (kept / "two.yaml").write_text("spec: 3\n")
    crd_folder(tmp_path / "none", source)
    assert (kept / "two.yaml").read_bytes() == PAGES["two.yaml"]
    assert website.asked == ["/one.yaml", "/two.yaml", "/two.yaml"]


def test_another_file_is_refused_and_not_kept(source: str, website: Website, kept: Path, tmp_path: Path) -> None:
    url = website.put("/two.yaml", b"<html>Sign in</html>")
    with pytest.raises(Skipped, match=f"{url} has another SHA-256 than the published file: set"):
        crd_folder(tmp_path / "none", source)
    assert [file.name for file in kept.iterdir()] == ["one.yaml"]


def test_an_answer_that_is_not_a_file_is_reported(source: str, website: Website, tmp_path: Path) -> None:
    website.put("/one.yaml", b"", 404)
    with pytest.raises(Skipped, match=r"could not be downloaded from .*/one\.yaml \(.*404.*\): set KSERVE_CRDS=DIR$"):
        crd_folder(tmp_path / "none", source)


def test_without_a_network_tests_are_skipped_with_that_reason(
    user_environment: None, kept: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with pytest.raises(Skipped) as skipped:
        crd_folder(tmp_path / "none", url)
    assert str(skipped.value) == (
        f"KServe's CRDs could not be downloaded from {url}/one.yaml ([Errno 111] Connection refused): "
        "set KSERVE_CRDS=DIR"
    )
    assert not kept.exists()


def test_a_proxy_is_used(website: Website, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTP_PROXY", website.url)
    for name, page in PAGES.items():
        website.put(f"http://crds.invalid/{name}", page)
    crd_folder(tmp_path / "none", "http://crds.invalid")
    assert website.asked == [f"http://crds.invalid/{name}" for name in PAGES]


@pytest.mark.parametrize("proxy", ["http://proxy.invalid:port", "socks5://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_counts_as_no_network(
    proxy: str, user_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(Skipped, match="set KSERVE_CRDS=DIR"):
        crd_folder(tmp_path / "none")


def test_a_cache_that_cannot_be_written_to_is_reported(source: str, kept: Path, tmp_path: Path) -> None:
    kept.parent.parent.write_text("no folder")
    with pytest.raises(Skipped, match=f"{kept.parent.parent}.*set KSERVE_CRDS=DIR"):
        crd_folder(tmp_path / "none", source)


def test_the_folder_beside_the_checkout_comes_before_a_download(website: Website, tmp_path: Path) -> None:
    assert crd_folder(tmp_path, website.url) == tmp_path
    assert website.asked == []


def test_the_named_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = tmp_path / "named"
    monkeypatch.setenv("KSERVE_CRDS", str(named))
    with pytest.raises(Skipped, match=f"KServe's CRDs are not in {named}: set KSERVE_CRDS=DIR"):
        crd_folder(tmp_path)
    named.mkdir()
    assert crd_folder(tmp_path) == named
