"""The user's own photographs: which of a folder's files are photographs, and what each is used for.

Only their content decides: their names, their order and duplicates change nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.shared.digests import sha256_of
from pipeline.shared.errors import PipelineError, told

LEAST = 20
MOST_FOR_RANGES = 128  # more improve none of AlexNet's figures
MOST_FOR_PROOF = 400  # half a second of processor time each, for AlexNet
MOST_BYTES = 32 * 2**20  # of a file: three times a server's limit
TOGETHER = 64  # photographs that one process decodes

Ask = Callable[[Sequence[Path], Sequence[str]], dict[str, np.ndarray]]  # pictures, precisions → see vision/ask.py


@dataclass(frozen=True)
class Photograph:
    """sha256: the file's, as hexadecimal digits."""

    file: Path
    sha256: str


@dataclass(frozen=True)
class Photographs:
    """pixels: of those for the ranges, uint8 (N, crop, crop, 3). proof: the others. passed_over: other files."""

    pixels: np.ndarray
    proof: tuple[Photograph, ...]
    passed_over: tuple[Path, ...]


def photographs(folder: Path, ask: Ask) -> Photographs:
    """Half of them for the ranges and half for the proof, up to the limits above.

    Raises PipelineError if the folder cannot be read, or has too few.
    """
    candidates, passed_over = _candidates(folder)
    taken: list[Photograph] = []
    pixels: list[np.ndarray] = []
    for together in in_parts(candidates):
        answers = ask([each.file for each in together], ())
        refused = set(answers["refused"].tolist())
        taken += [each for index, each in enumerate(together) if index not in refused]
        passed_over += [together[index].file for index in sorted(refused)]
        if len(pixels) < MOST_FOR_RANGES and "pixels" in answers:
            pixels.extend(upright(answers["pixels"]))
        if len(taken) >= MOST_FOR_RANGES + MOST_FOR_PROOF:
            break
    if len(taken) < LEAST:
        raise PipelineError(_too_few(folder, len(taken), passed_over))
    for_ranges = min(len(taken) // 2, MOST_FOR_RANGES)
    proof = taken[for_ranges : for_ranges + MOST_FOR_PROOF]
    return Photographs(np.stack(pixels[:for_ranges]), tuple(proof), tuple(sorted(passed_over)))


def in_parts(several: Sequence[Photograph]) -> Iterator[Sequence[Photograph]]:
    """Groups for one process each."""
    return (several[start : start + TOGETHER] for start in range(0, len(several), TOGETHER))


def upright(answers: np.ndarray) -> np.ndarray:
    """vision/ask.py's answers for the pictures as they are. They alternate with answers for transposed ones."""
    return answers[:-1:2]


def turned(answers: np.ndarray) -> np.ndarray:
    return answers[1:-1:2]


def _candidates(folder: Path) -> tuple[list[Photograph], list[Path]]:
    """Files that may be photographs, ordered by SHA-256, without duplicates; and files that cannot be."""
    if not folder.is_dir():
        raise PipelineError(f"{folder} is not a folder: give --int8 one with at least {LEAST} photographs")
    found: dict[str, Path] = {}
    impossible = []
    try:
        for file in _files(folder):
            if file.stat().st_size > MOST_BYTES or not str(file).isprintable():
                impossible.append(file)
            else:
                found.setdefault(sha256_of(file), file)
    except OSError as error:
        raise PipelineError(f"{told(error)}: --int8 reads every file of its folder") from None
    return [Photograph(found[digest], digest) for digest in sorted(found)], impossible


def _files(folder: Path) -> Iterator[Path]:
    """All files beneath a folder, except hidden ones."""

    def raised(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=raised):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        yield from (
            file for name in sorted(names) if not name.startswith(".") and (file := Path(place, name)).is_file()
        )


def _too_few(folder: Path, count: int, passed_over: Sequence[Path]) -> str:
    others = f" ({len(passed_over)} files, such as {passed_over[0].name}, are not photographs)" if passed_over else ""
    return f"{folder} has {count} different photographs{others}: --int8 needs at least {LEAST}"
