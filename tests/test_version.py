"""The version is in pyproject.toml; files that must repeat it agree."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.supply import release
from pipeline.supply.release import PLACES, NotReleased, set_version

CHECKOUT = Path(__file__).resolve().parents[1]
VERSION = release.version()
TAG = re.compile(r"alexnet-torchserve:(v?\d[\w.-]*)")


def all_with(*said: str) -> dict[str, int]:
    """Of the project's files, those that say something of it, and how often."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no clone: git does not know which files are the project's")
    texts = {
        name: (CHECKOUT / name).read_text(encoding="utf-8", errors="replace")
        for name in listed.stdout.split("\0")
        if name and (CHECKOUT / name).is_file()
    }
    return {name: count for name, text in texts.items() if (count := sum(text.count(each) for each in said))}


def test_every_place_has_the_version_and_no_other_file_does() -> None:
    for name, around in PLACES.items():
        assert (CHECKOUT / name).read_text().count(around.format(VERSION)) == 1, name
    assert all_with(f"alexnet-torchserve:{VERSION}", f"newTag: {VERSION}", f"_VERSION: {VERSION}") == {
        name: 1 for name, around in PLACES.items() if "alexnet-torchserve:" in around
    }


def test_nothing_that_is_applied_has_another_version() -> None:
    """Documents and tests may name other tags, as examples; what kubectl, Terraform and Cloud Build read may not."""
    for name in all_with("alexnet-torchserve:"):
        if name.startswith(("kserve/", "terraform/", ".github/")):
            assert set(TAG.findall((CHECKOUT / name).read_text())) <= {VERSION}, name


@pytest.mark.parametrize("overlay", ["gpu", "knative", "standard"])
def test_the_overlays_take_the_image_of_the_version(overlay: str) -> None:
    """They name the registry; the tag stays that of the runtime."""
    (image,) = yaml.safe_load((CHECKOUT / "kserve/overlays" / overlay / "kustomization.yaml").read_text())["images"]
    assert image.keys() == {"name", "newName"}
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not here")
    command = ["kubectl", "kustomize", str(CHECKOUT / "kserve/overlays" / overlay)]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert TAG.findall(rendered) == [VERSION]


def test_google_cloud_builds_the_version() -> None:
    """Its label is from pyproject.toml; its tag is that of the command, which has no default to repeat one."""
    build = yaml.safe_load((CHECKOUT / "kserve/runtime/cloudbuild.yaml").read_text())
    assert not {"_IMAGE", "_VERSION"} & build["substitutions"].keys()
    (script,) = [step["args"][-1] for step in build["steps"] if step["id"] == "build"]
    (line,) = [line for line in script.splitlines() if line.startswith("version=")]
    told = subprocess.run(
        ["bash", "-euc", line.replace("$$", "$") + '; echo "$version"'],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == f"{VERSION}\n"


def make(*arguments: str) -> str:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout


def test_make_builds_the_version() -> None:
    image = make("-n", "image")
    assert f"--tag alexnet-torchserve:{VERSION} " in image
    assert f"--build-arg VERSION={VERSION} " in image


def test_make_builds_for_the_processor_of_the_nodes() -> None:
    """On Apple silicon, docker builds for arm64 by default; on a node, such an image fails with `exec format error`."""
    assert " build --platform linux/amd64 " in make("-n", "image")


def test_make_says_the_version_and_sets_another() -> None:
    assert make("version") == f"{VERSION}\n"
    assert 'pipeline.supply.release "0.2.0"' in make("-n", "version", "NEW=0.2.0")


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name in PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("new", ["0.2.0", "1.0.0-rc.1", "10.20.30", VERSION])
def test_a_new_version_is_set_in_every_place(new: str, places: Path) -> None:
    before = contents(places)
    assert set_version(new, places) == list(PLACES)
    assert release.version(places) == new
    after = contents(places)
    assert after.keys() == before.keys() == PLACES.keys()
    for name, around in PLACES.items():
        assert after[name] == before[name].replace(around.format(VERSION), around.format(new)), name
        assert around.format(new) in after[name], name


@pytest.mark.parametrize(
    "new", ["", "0.2", "v0.2.0", "0.02.0", "0.2.0+gpu", "0.2.0\n", "0.2.0-rc.0", "latest", "$(ls)"]
)
def test_what_is_no_version_is_set_nowhere(new: str, places: Path) -> None:
    before = contents(places)
    with pytest.raises(NotReleased, match="is not a version"):
        set_version(new, places)
    assert contents(places) == before


@pytest.mark.parametrize("name", [name for name in PLACES if name != release.PYPROJECT])
def test_where_a_place_has_another_version_nothing_is_changed(name: str, places: Path) -> None:
    around = PLACES[name]
    (places / name).write_text((places / name).read_text().replace(around.format(VERSION), around.format("9.9.9")))
    before = contents(places)
    with pytest.raises(NotReleased, match=re.escape(f"{name} does not have the version {VERSION}")):
        set_version("0.2.0", places)
    assert contents(places) == before


def test_a_place_that_cannot_be_written_leaves_the_others(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = contents(places)
    monkeypatch.setattr("pipeline.shared.whole.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        set_version("0.2.0", places)
    assert contents(places) == before
    assert set(contents(places)) == set(PLACES)  # no unfinished file either


def test_the_changelog_has_the_version_or_nothing_is_released() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert headings
    assert released[:1] in ([], [VERSION])
