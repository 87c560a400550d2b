"""The unpacked archive is what was packed, or is refused with the name of the file."""

from __future__ import annotations

import ast
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import file_digest, sha256
from pathlib import Path

import pytest

from pipeline.artefact.contents import WEIGHTS_FILE
from vision.worker.integrity import SUMS_FILE, check_files

NEEDED_FOR_THE_CHECK = {
    "entry.py",
    "vision/__init__.py",
    "vision/worker/__init__.py",
    "vision/worker/integrity.py",
}


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the unpacked archive with small weights instead of 244 MB, which some tests would read sixty times."""
    copy = Path(shutil.copytree(model_dir, tmp_path / "copy", ignore=shutil.ignore_patterns(WEIGHTS_FILE)))
    (copy / WEIGHTS_FILE).write_bytes(b"weights")
    with (model_dir / WEIGHTS_FILE).open("rb") as packed:
        of_all, of_few = file_digest(packed, "sha256").hexdigest(), sha256(b"weights").hexdigest()
    sums = (copy / SUMS_FILE).read_text()
    assert sums.count(of_all) == 1
    (copy / SUMS_FILE).write_text(sums.replace(of_all, of_few))
    return copy


def change_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)


def test_what_was_packed_is_fine(model_dir: Path) -> None:
    check_files(model_dir)


def test_what_python_caches_there_is_fine(copy: Path) -> None:
    for mode in (py_compile.PycInvalidationMode.TIMESTAMP, py_compile.PycInvalidationMode.CHECKED_HASH):
        for module in copy.rglob("*.py"):
            py_compile.compile(str(module), doraise=True, invalidation_mode=mode)
        check_files(copy)


def test_what_another_worker_is_caching_is_fine(copy: Path) -> None:
    """Python writes to a file with a number after its name, and then renames it."""
    (copy / "vision" / "__pycache__").mkdir()
    (copy / "vision" / "__pycache__" / "errors.cpython-311.pyc.140316").write_bytes(b"")
    check_files(copy)


def test_a_cache_that_python_would_not_hold_against_its_source_is_refused(copy: Path) -> None:
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(copy / "vision" / "errors.py"), doraise=True, invalidation_mode=unchecked)
    with pytest.raises(ValueError, match=rf"^vision/__pycache__/errors\.[\w.-]+ is not listed in {SUMS_FILE}: "):
        check_files(copy)


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/other.cpython-311.pyc",
        "vision/__pycache__/other.cpython-311.pyc",
        "vision/__pycache__/errors.py",
        "MAR-INF/__pycache__/a",
        "vision/__pycache__/entry.cpython-311.pyc",
    ],
)
def test_a_file_that_is_no_cache_of_a_module_is_refused_among_them(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(bytes(16))
    with pytest.raises(ValueError, match=rf"^{name} is not listed in {SUMS_FILE}: "):
        check_files(copy)


def test_sha256sum_agrees(model_dir: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not on this machine")
    command = ["sha256sum", "--check", "--strict", "--quiet", SUMS_FILE]
    subprocess.run(command, cwd=model_dir, check=True, timeout=60)


def listed(copy: Path) -> list[str]:
    names = [line.partition("  ")[2] for line in (copy / SUMS_FILE).read_text().splitlines()]
    assert {"weights.safetensors", "program.json", "classes.json", "model.yaml", "proof.json"} < set(names)
    assert {"entry.py", "vision/errors.py", "model-config.yaml", "MAR-INF/MANIFEST.json"} < set(names)
    return names


def refusal(copy: Path) -> str:
    try:
        check_files(copy)
    except ValueError as error:
        return str(error)
    return "nothing is refused"


@pytest.mark.slow
def test_a_changed_byte_is_told_with_its_file(copy: Path) -> None:
    for name in listed(copy):
        kept = (copy / name).rename(copy.with_name("kept"))
        shutil.copy(kept, copy / name)
        change_a_byte(copy / name)
        assert refusal(copy).startswith(f"{name} is not what was packed (by its SHA-256): ")
        kept.replace(copy / name)
    check_files(copy)


@pytest.mark.slow
def test_a_missing_file_is_told_with_its_name(copy: Path) -> None:
    for name in listed(copy):
        kept = (copy / name).rename(copy.with_name("kept"))
        assert refusal(copy).startswith(f"{name} is missing: ")
        kept.replace(copy / name)
    check_files(copy)


@pytest.mark.slow
def test_a_module_is_checked_before_it_is_imported(copy: Path) -> None:
    """A worker imports the entry point by name; a module that is no longer valid Python is reported in one line."""
    for module in sorted(copy.rglob("*.py")):
        if module.relative_to(copy).as_posix() in NEEDED_FOR_THE_CHECK:
            continue
        packed = module.read_bytes()
        module.write_bytes(packed + b"(")
        command = [sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import entry"]
        worker = subprocess.run(command, cwd=copy, stderr=subprocess.PIPE, text=True, timeout=60)
        last = worker.stderr.splitlines()[-1]
        assert last.startswith(f"ValueError: {module.relative_to(copy)} is not what was packed (by its SHA-256): ")
        module.write_bytes(packed)


def test_what_runs_before_it_is_checked_does_nothing(copy: Path) -> None:
    for name in sorted(NEEDED_FOR_THE_CHECK):
        if name.endswith("__init__.py"):
            (line,) = ast.parse((copy / name).read_text()).body
            assert isinstance(line, ast.Expr)
            assert isinstance(line.value, ast.Constant)


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
