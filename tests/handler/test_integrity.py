"""The unpacked archive is what was packed, or it is refused with the file in question."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from integrity import SUMS_FILE, check_files

FILES = ["alexnet.safetensors", "alexnet_handler.py", "imagenet_classes.json", "model-config.yaml"]


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """Of the unpacked archive, with links to the weights' 244 MB, which `change_a_byte` replaces."""

    def link_or_copy(source: str, target: str) -> str:
        if source.endswith(".safetensors"):
            Path(target).hardlink_to(source)
            return target
        return str(shutil.copy(source, target))

    return Path(shutil.copytree(model_dir, tmp_path / "copy", copy_function=link_or_copy))


def change_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)


def test_what_was_packed_is_fine(model_dir: Path) -> None:
    check_files(model_dir)


def test_what_python_caches_there_is_fine(copy: Path) -> None:
    (copy / "__pycache__").mkdir(exist_ok=True)
    (copy / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"\0")
    check_files(copy)


def test_sha256sum_agrees(model_dir: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not on this machine")
    command = ["sha256sum", "--check", "--strict", "--quiet", SUMS_FILE]
    subprocess.run(command, cwd=model_dir, check=True, timeout=60)


@pytest.mark.parametrize("name", [*FILES, "MAR-INF/MANIFEST.json"])
def test_a_changed_byte_is_told_with_its_file(copy: Path, name: str) -> None:
    change_a_byte(copy / name)
    with pytest.raises(ValueError, match=rf"^{name} is not what was packed \(by its SHA-256\): "):
        check_files(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told_with_its_name(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ValueError, match=rf"^{name} is missing: "):
        check_files(copy)


def test_a_file_too_many_is_told_with_its_name(copy: Path) -> None:
    (copy / "json.py").write_text("# found before the standard library's\n")
    with pytest.raises(ValueError, match=rf"^json\.py is not listed in {SUMS_FILE}: "):
        check_files(copy)


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        change_a_byte,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\xff\xfe"),
        lambda file: file.write_text("no sums at all\n"),
        lambda file: file.write_text("\n".join(file.read_text().splitlines()[:-1])),
    ],
)
def test_damaged_sums_are_refused_in_one_line(copy: Path, spoil: Callable[[Path], object]) -> None:
    spoil(copy / SUMS_FILE)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        check_files(copy)
