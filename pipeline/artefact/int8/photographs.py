"""The user's own photographs: which of a folder's files are some, and which of them serve what.

By their content alone: their names, their order and copies of them change nothing.
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
MOST_FOR_RANGES = 128  # of AlexNet's figures, none gets better with more
MOST_FOR_PROOF = 400  # half a second of processor time each, for AlexNet
MOST_BYTES = 32 * 2**20  # of a file: thrice what a server takes
TOGETHER = 64  # are decoded by a process

Ask = Callable[[Sequence[Path], Sequence[str]], dict[str, np.ndarray]]  # pictures, precisions → as vision/ask.py says


@dataclass(frozen=True)
class Photograph:
    """sha256: of its file, as hexadecimal digits."""

    file: Path
    sha256: str


@dataclass(frozen=True)
class Photographs:
    """pixels: of those for the ranges, uint8 (N, crop, crop, 3). proof: others. passed_over: files that are none."""

    pixels: np.ndarray
    proof: tuple[Photograph, ...]
    passed_over: tuple[Path, ...]


def photographs(folder: Path, ask: Ask) -> Photographs:
    """Half of them for the ranges, the others for the proof, as far as they are needed.

    Raises PipelineError where the folder cannot be read, or has too few.
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
    """As many as a process is asked at a time."""
    return (several[start : start + TOGETHER] for start in range(0, len(several), TOGETHER))


def upright(answers: np.ndarray) -> np.ndarray:
    """Of what vision/ask.py answers, what belongs to the pictures as they are: they alternate with turned ones."""
    return answers[:-1:2]


def turned(answers: np.ndarray) -> np.ndarray:
    return answers[1:-1:2]


def _candidates(folder: Path) -> tuple[list[Photograph], list[Path]]:
    """Files that may be photographs, by their SHA-256, one of each; and those that cannot be."""
    if not folder.is_dir():
        raise PipelineError(f"{folder} is no folder: give --int8 one with at least {LEAST} photographs")
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
    """In all folders beneath, but for hidden ones."""

    def raised(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=raised):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        yield from (
            file for name in sorted(names) if not name.startswith(".") and (file := Path(place, name)).is_file()
        )


def _too_few(folder: Path, count: int, passed_over: Sequence[Path]) -> str:
    others = f" ({len(passed_over)} other files, such as {passed_over[0].name}, are none)" if passed_over else ""
    return f"{folder} has {count} different photographs{others}: --int8 takes at least {LEAST}"
