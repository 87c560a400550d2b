"""Which archive of a checkout a command uses, and its name in a version."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.artefact.version import ARCHIVE, CONFIG, SIGNATURE, Version
from pipeline.commands import files
from pipeline.commands.files import archive_said, laid_out, version_files
from pipeline.serving.folder import archive_in
from pipeline.shared.errors import PipelineError


@pytest.fixture
def store(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model store of another checkout, without archives."""
    made = tmp_path / "checkout" / "model-store"
    shutil.copytree(checkout / "models", made.parent / "models")
    made.mkdir()
    (made / "README.md").touch()
    (made / ".pets.mar.x7d2").touch()
    (made / ".pets.mar").touch()
    (made / "pets.mar.sig").touch()
    monkeypatch.setattr(files, "CHECKOUT", made.parent)
    monkeypatch.chdir(made.parent)
    return made


def refusal(said: str | None) -> str:
    with pytest.raises(PipelineError) as refused:
        archive_said(said, "--archive FILE")
    return str(refused.value)


def test_without_a_word_it_is_the_only_one(store: Path) -> None:
    (store / "pets.mar").touch()
    assert archive_said(None, "--archive FILE") == store / "pets.mar"


def test_several_are_named_and_how_to_choose(store: Path) -> None:
    for name in ("pets.mar", "alexnet.mar"):
        (store / name).touch()
    assert refusal(None) == (
        f"{store} has more than one archive (alexnet.mar, pets.mar): name the one you mean, "
        "as with --archive model-store/alexnet.mar"
    )


def test_where_there_is_none_it_is_told_what_makes_one(store: Path) -> None:
    assert refusal(None) == f"no archive in {store}: build one with scripts/package.sh, or give --archive FILE"
    assert refusal("gone.mar").startswith("no archive at gone.mar: ")
    assert refusal("models/alexnet.yaml").startswith(f"no archive at {store / 'alexnet.mar'}: ")


def test_a_models_file_means_its_archive(store: Path) -> None:
    said = (store.parent / "models" / "alexnet.yaml").read_text()
    (store.parent / "models" / "of-mine.yaml").write_text(said.replace("name: alexnet\n", "name: pets\n"))
    for name in ("pets.mar", "alexnet.mar"):
        (store / name).touch()
    assert archive_said("models/of-mine.yaml", "FILE") == store / "pets.mar"
    assert archive_said("models/alexnet.yaml", "FILE") == store / "alexnet.mar"
    assert archive_said("model-store/pets.mar", "FILE") == Path("model-store/pets.mar")


def test_in_a_version_an_archive_is_called_as_its_model(
    pets: Mapping[str, Path], small: Mapping[str, Path], tmp_path: Path
) -> None:
    """Whatever the file is called."""
    renamed = Path(shutil.copy(pets["model-store/pets.mar"], tmp_path / "any.mar"))
    renamed.with_name("any.mar.sig").touch()
    made = version_files(renamed)
    assert made.keys() == {CONFIG, "model-store/pets.mar", SIGNATURE}
    assert (Version.of(made).model, Version.of(made).archive) == ("pets", "model-store/pets.mar")
    assert version_files(small[ARCHIVE]).keys() == {CONFIG, ARCHIVE}


def test_a_folder_is_made_that_shows_one_archive_alone(pets: Mapping[str, Path], tmp_path: Path) -> None:
    renamed = Path(shutil.copy(pets["model-store/pets.mar"], tmp_path / "any.mar"))
    (tmp_path / "made").mkdir()
    made = laid_out(renamed, tmp_path / "made")
    assert [file.name for file in (made / "model-store").iterdir()] == ["pets.mar"]
    assert archive_in(made).resolve() == renamed
