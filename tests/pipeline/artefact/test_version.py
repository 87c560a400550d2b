"""A version is defined by its objects: its name, its description, and damage in a copy of it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import google_crc32c
import pytest

from pipeline.artefact.archive import MANIFEST, model_name
from pipeline.artefact.contents import WEIGHTS_FILE
from pipeline.artefact.version import ARCHIVE, CONFIG, VERSION_FILE, Checksums, Version
from pipeline.shared.errors import PipelineError

WEIGHTS = {"origin": "file a.pth", "sha256": "0" * 64}
TOOLS = {"torch": "2.0"}


def version(contents: Mapping[str, bytes], weights: Mapping[str, str] = WEIGHTS) -> Version:
    return Version({name: Checksums.of(BytesIO(content)) for name, content in contents.items()}, weights, TOOLS)


@pytest.fixture
def described() -> dict[str, Any]:
    """The description of a good version, for a test to change."""
    return dict(json.loads(version({CONFIG: b"config", ARCHIVE: b"archive"}).to_json()))


def refusal(content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(PipelineError) as refused:
        Version.from_json(text, "gs://models/x/version.json")
    sentence = str(refused.value)
    assert sentence.startswith("gs://models/x/version.json does not describe a version")
    return sentence


# --- The name ---------------------------------------------------------------------------------------------------------


def test_checksums_are_those_of_the_whole_file() -> None:
    content = bytes(range(256)) * 10_000  # a few blocks
    crc32c = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
    assert Checksums.of(BytesIO(content)) == Checksums(len(content), crc32c, sha256(content).hexdigest())


def test_its_name_depends_on_the_names_and_contents_of_its_objects() -> None:
    contents = {CONFIG: b"config", ARCHIVE: b"archive"}
    others = [
        {CONFIG: b"config", ARCHIVE: b"archivE"},
        {CONFIG: b"Config", ARCHIVE: b"archive"},
        {CONFIG: b"archive", ARCHIVE: b"config"},
        {CONFIG: b"config", ARCHIVE: b"archive", "more": b""},
        {CONFIG: b"config"},
    ]
    names = {version(each).name for each in [contents, *others]}
    assert len(names) == 6
    assert all(len(name) == 12 and set(name) <= set("0123456789abcdef") for name in names)


def test_its_name_depends_on_nothing_else() -> None:
    one = version({CONFIG: b"config", ARCHIVE: b"archive"})
    other = Version(dict(reversed(list(one.objects.items()))), {"weights": "other", "sha256": "1"}, {})
    assert other.name == one.name


def test_it_knows_its_files(small: Mapping[str, Path]) -> None:
    made = Version.of(small)
    assert made.objects.keys() == {CONFIG, ARCHIVE}
    assert made.size == sum(path.stat().st_size for path in small.values())
    assert made.objects[ARCHIVE].sha256 == sha256(small[ARCHIVE].read_bytes()).hexdigest()
    assert (made.origin, made.trained) == ("tiny", True)
    assert made.tools.keys() >= {"python", "torch", "torchserve"}


def test_untrained_weights_are_known_as_such(directory: Path) -> None:
    made = Version.of({name: directory / name for name in (CONFIG, ARCHIVE)})
    assert (made.origin, made.trained) == ("untrained", False)


# --- The description --------------------------------------------------------------------------------------------------


def test_its_description_says_all_of_it(small: Mapping[str, Path]) -> None:
    made = Version.of(small)
    text = made.to_json()
    assert Version.from_json(text, "here") == made
    assert json.loads(text)["version"] == made.name
    assert text == Version.from_json(text, "here").to_json()


@pytest.mark.parametrize(
    "text", [b"", b"{", b"null", b"[]", b"{}", b"12", b'"text"', b"\xff\xfe", b"<html></html>", b"[" * 100_000]
)
def test_what_is_no_description_is_refused(text: bytes) -> None:
    refusal(text)


@pytest.mark.parametrize("key", ["version", "weights", "tools", "objects"])
@pytest.mark.parametrize("value", [None, 1, "text", []])
def test_a_description_of_wrong_types_is_refused(described: dict[str, Any], key: str, value: object) -> None:
    refusal(described | {key: value})


@pytest.mark.parametrize("key", ["version", "weights", "objects"])
@pytest.mark.parametrize("value", [{}, {"a": None}, {"weights": "a"}])
def test_an_incomplete_description_is_refused(described: dict[str, Any], key: str, value: object) -> None:
    refusal(described | {key: value})


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"size": "1", "crc32c": "", "sha256": ""},
        {"size": 1.0, "crc32c": "", "sha256": ""},
        {"size": 1, "crc32c": None, "sha256": ""},
        {"size": 1, "crc32c": "", "sha256": 0},
        {"size": 1, "crc32c": "", "sha256": "", "more": 1},
        {"size": True, "crc32c": "", "sha256": ""},
        {"size": -1, "crc32c": "", "sha256": ""},
        {"size": 8**11, "crc32c": "", "sha256": ""},
        {"size": 10**40, "crc32c": "", "sha256": ""},
    ],
)
def test_wrong_checksums_are_refused(described: dict[str, Any], entry: object) -> None:
    described["objects"][ARCHIVE] = entry
    refusal(described)


def test_a_description_that_does_not_agree_with_its_name_is_refused(described: dict[str, Any]) -> None:
    refusal(described | {"version": "0" * 12})
    described["objects"][ARCHIVE]["sha256"] = "0" * 64
    refusal(described)


@pytest.mark.parametrize("text", ["imagenet\nanother line", "\x1b[31mred", "a\rb"])
def test_what_would_not_stay_a_line_is_refused(described: dict[str, Any], text: str) -> None:
    """--list prints it."""
    described["weights"]["origin"] = text
    refusal(described)


def test_a_version_tells_which_model_it_is_of() -> None:
    contents = {CONFIG: b"config", "model-store/pets.mar": b"archive", "model.sig": b"signature"}
    read = Version.from_json(version(contents).to_json(), "here")
    assert (read.model, read.archive, read.signed) == (
        "pets",
        "model-store/pets.mar",
        (CONFIG, "model-store/pets.mar"),
    )


@pytest.mark.parametrize(
    "other",
    ["model-store/b.mar", "model-store/README.md", "model-store/folder/x", "model-store/.b.mar", "model-store"],
)
def test_a_version_has_one_archive_and_nothing_beside_it(other: str) -> None:
    """TorchServe would load it."""
    refusal(version({CONFIG: b"config", ARCHIVE: b"archive", other: b"x"}).to_json())


@pytest.mark.parametrize("archive", ["model-store/a.zip", "model-store/.a.mar", "model-store/a/b.mar", "a.mar"])
def test_what_torchserve_would_not_load_is_no_archive(archive: str) -> None:
    refusal(version({CONFIG: b"config", archive: b"archive"}).to_json())


@pytest.mark.parametrize("missing", [CONFIG, ARCHIVE])
def test_a_description_without_what_a_server_needs_is_refused(missing: str) -> None:
    contents = {CONFIG: b"config", ARCHIVE: b"archive"}
    del contents[missing]
    refusal(version(contents).to_json())


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../x", "a/..", "..", ".", "", "a//x", "./x", "a/", "//x", "a\\x", "a\nx", "a x", VERSION_FILE],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    refusal(version({CONFIG: b"config", ARCHIVE: b"archive", name: b"x"}).to_json())


# --- A copy -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(small: Mapping[str, Path], tmp_path: Path) -> tuple[Version, Path]:
    directory = tmp_path / "copy"
    for name, path in small.items():
        (directory / name).parent.mkdir(parents=True)
        shutil.copy(path, directory / name)
    made = Version.of(small)
    (directory / VERSION_FILE).write_bytes(made.to_json())
    return made, directory


def test_a_whole_copy_has_no_damage(copy: tuple[Version, Path]) -> None:
    made, directory = copy
    assert made.damage_in(directory) is None


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [CONFIG, ARCHIVE])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (Path.unlink, "is missing"),
        (change_a_byte, "is not what was published"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is not what was published"),
        (lambda path: path.write_bytes(b""), "is not what was published"),
    ],
)
def test_damage_is_told_with_its_place(
    copy: tuple[Version, Path], name: str, damage: Callable[[Path], object], told: str
) -> None:
    made, directory = copy
    damage(directory / name)
    assert made.damage_in(directory) == f"{name} {told}"


def test_a_link_to_nowhere_is_damage(copy: tuple[Version, Path]) -> None:
    made, directory = copy
    (directory / CONFIG).unlink()
    (directory / CONFIG).symlink_to("nowhere")
    assert made.damage_in(directory) == f"{CONFIG} is missing"


def test_a_folder_in_the_place_of_a_file_is_damage(copy: tuple[Version, Path]) -> None:
    made, directory = copy
    (directory / CONFIG).unlink()
    (directory / CONFIG).mkdir()
    assert made.damage_in(directory) == f"{CONFIG} cannot be read (Is a directory)"


def test_what_a_file_manager_leaves_there_is_no_damage(copy: tuple[Version, Path]) -> None:
    made, directory = copy
    (directory / ".DS_Store").touch()
    assert made.damage_in(directory) is None


# --- Files that are not archives --------------------------------------------------------------------------------------


@pytest.fixture
def of_archive(checkout: Path, tmp_path: Path) -> Callable[[bytes], Version]:
    def make(content: bytes) -> Version:
        (tmp_path / "alexnet.mar").write_bytes(content)
        return Version.of({CONFIG: checkout / "config.properties", ARCHIVE: tmp_path / "alexnet.mar"})

    return make


def zipped(entries: Mapping[str, bytes]) -> bytes:
    made = BytesIO()
    with ZipFile(made, "w") as opened:
        for name, content in entries.items():
            opened.writestr(name, content)
    return made.getvalue()


def archived(weights: bytes, file: str = WEIGHTS_FILE, said: object = None) -> bytes:
    """An archive with these weights, and a matching manifest."""
    model = {"modelName": "pets", "serializedFile": file} if said is None else said
    return zipped({MANIFEST: json.dumps({"model": model}).encode(), file: weights})


def header(metadata: object) -> bytes:
    text = json.dumps({"__metadata__": metadata}).encode()
    return len(text).to_bytes(8, "little") + text


TOLD = header({"weights": "a", "sha256": "b"})


@pytest.mark.parametrize("file", ["alexnet.safetensors", "weights.safetensors", "pets.safetensors"])
def test_the_weights_are_the_file_that_the_manifest_names(of_archive: Callable[[bytes], Version], file: str) -> None:
    """Archives published earlier keep the file name of that time."""
    assert of_archive(archived(TOLD, file)).weights == {"origin": "a", "sha256": "b"}


@pytest.mark.parametrize("name", ["alexnet", "pets", "res-net.v2", "A_1"])
def test_the_model_is_called_as_the_manifest_says(tmp_path: Path, name: str) -> None:
    (tmp_path / "any.mar").write_bytes(archived(TOLD, said={"modelName": name}))
    assert model_name(tmp_path / "any.mar") == name


@pytest.mark.parametrize("name", ["", ".", "..", ".pets", "a/b", "../a", "a b", "é", 5, None, "a\n", "-a"])
def test_what_could_be_no_file_of_a_model_store_is_no_models_name(tmp_path: Path, name: object) -> None:
    (tmp_path / "any.mar").write_bytes(archived(TOLD, said={"modelName": name}))
    with pytest.raises(PipelineError, match="is not a model archive"):
        model_name(tmp_path / "any.mar")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# A README\n",
        zipped({}),
        zipped({"handler.py": b""}),
        zipped({WEIGHTS_FILE: TOLD}),
        zipped({WEIGHTS_FILE: TOLD, MANIFEST: b""}),
        zipped({WEIGHTS_FILE: TOLD, MANIFEST: b"[" * 60_000}),
        archived(b""),
        archived(b"\xff" * 8),
        archived(b"not weights at all"),
        archived(header(None)),
        archived(header({"weights": "other's"})),
        archived(TOLD, said=[]),
        archived(TOLD, said={}),
        archived(TOLD, said={"serializedFile": "gone.safetensors"}),
        archived(TOLD, said={"serializedFile": 5}),
    ],
)
def test_what_is_no_archive_of_ours_is_told_in_one_line(
    of_archive: Callable[[bytes], Version], content: bytes, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError) as refused:
        of_archive(content)
    assert str(refused.value) == (
        f"{tmp_path / 'alexnet.mar'} is not a model archive made by scripts/package.sh, or is incomplete"
    )


def test_a_header_that_nests_without_end_is_told_in_one_line(of_archive: Callable[[bytes], Version]) -> None:
    text = b"[" * 100_000
    with pytest.raises(PipelineError, match="is not a model archive"):
        of_archive(archived(len(text).to_bytes(8, "little") + text))


def test_an_archive_with_a_password_is_told_in_one_line(of_archive: Callable[[bytes], Version]) -> None:
    content = bytearray(archived(TOLD))
    content[6] |= 1  # in the entry
    content[content.index(b"PK\x01\x02") + 8] |= 1  # in the table of contents
    with pytest.raises(PipelineError, match="is not a model archive"):
        of_archive(bytes(content))


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_truncated_archive_is_told_in_one_line(
    of_archive: Callable[[bytes], Version], small: Mapping[str, Path], kept: float
) -> None:
    whole = small[ARCHIVE].read_bytes()
    with pytest.raises(PipelineError, match="or is incomplete"):
        of_archive(whole[: int(len(whole) * kept)])


def test_an_archive_that_is_damaged_in_the_weights_is_told_in_one_line(
    of_archive: Callable[[bytes], Version], small: Mapping[str, Path]
) -> None:
    """Its table of contents, at the end, is intact."""
    content = bytearray(small[ARCHIVE].read_bytes())
    with ZipFile(small[ARCHIVE]) as opened:
        begin = opened.getinfo(WEIGHTS_FILE).header_offset + 30 + len(WEIGHTS_FILE)  # after its header and its name
    content[begin + 10 : begin + 110] = bytes(100)
    with pytest.raises(PipelineError, match="is not a model archive"):
        of_archive(bytes(content))


def test_an_archive_that_is_not_there_is_named(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Version.of({CONFIG: checkout / "config.properties", ARCHIVE: tmp_path / "none.mar"})
