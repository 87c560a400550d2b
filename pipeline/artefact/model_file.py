"""Reads a model file: a YAML mapping without repeated keys; and the messages for what is wrong in it."""

from __future__ import annotations

import difflib
import math
import reprlib
from pathlib import Path
from typing import Any

import yaml

from pipeline.shared.errors import PipelineError, told

MOST_BYTES = 16 << 20  # it may contain a list of labels


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys in a mapping: YAML would use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} appears twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def read_mapping(file: Path) -> dict[Any, Any]:
    """The file's content. Raises PipelineError if it is not YAML, not a mapping, or has a key twice."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise PipelineError(
                f"{file} is too large for a model file, which has a few lines, like models/alexnet.yaml"
            )
        text = file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise PipelineError(f"no model file at {file}: start from a copy of models/alexnet.yaml") from None
    except UnicodeDecodeError:
        raise PipelineError(
            f"{file} is not a model file, which is YAML in UTF-8, like models/alexnet.yaml: give weights with --weights"
        ) from None
    except OSError as error:
        raise PipelineError(f"{told(error)}: give the path of a model file, like models/alexnet.yaml") from None
    try:
        said = yaml.load(text, _Loader)  # noqa: S506  # it is a SafeLoader  # nosec B506
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        is_yaml = "twice" in (error.problem or "")
        raise PipelineError(f"{file}: {line}{'' if is_yaml else 'not YAML: '}{error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError):  # such as an impossible date
        raise PipelineError(f"{file} is not YAML: models/alexnet.yaml shows what a model file looks like") from None
    if not isinstance(said, dict):
        what = "empty" if said is None else "a list" if isinstance(said, list) else "one value"
        raise PipelineError(f"{file} is {what}: it must have lines such as name: pets and architecture: resnet18")
    return said


def check_known(file: Path, key: str, known: tuple[str, ...], above: str = "") -> None:
    """Raises PipelineError with the nearest known key. above: the keys that lead to it, such as `preprocessing.`."""
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        meant = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
        raise PipelineError(f"{file}: {above}{key} is not a key of a model file: {meant}")


def wrong(file: Path | str, key: str, value: object, expected: str) -> PipelineError:
    """The error for a value that is missing (None) or not as expected."""
    place = f"{file}: {key}" if file else key
    if value is None:
        return PipelineError(f"{place} is missing: it must be {expected}")
    return PipelineError(f"{place} must be {expected}: {_shown(value)}")


def _shown(value: object) -> str:
    texts = [each for each in (value if isinstance(value, list) else [value]) if _is_number_as_text(each)]
    if texts:
        return f"to YAML, {texts[0]!r} is text, not a number"
    if isinstance(value, bool):
        return f"{value} is not (YAML reads yes, no, on and off as true or false: put text in quotes)"
    return f"{reprlib.repr(value)} is not"


def _is_number_as_text(value: object) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False
