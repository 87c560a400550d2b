"""The classes of a model: a list, or a file of text, JSON or a table → (WordNet id or None, label) for each."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.errors import PipelineError
from pipeline.shared.text import CONTROL

Class = tuple[str | None, str]

WORDNET_ID = re.compile(r"n\d{8}")
MOST_BYTES = 16 << 20
MOST_CLASSES = 100_000
LONGEST_LABEL = 200  # characters; ImageNet's longest, with all synonyms, has 121
GOOD = "one line for each class, in the order of the network's outputs"

# Names of columns in the first row of tables.
INDEX = {
    "index",
    "idx",
    "id",
    "class_id",
    "class_idx",
    "class_index",
    "label_id",
    "target",
    "number",
    "output",
    "class",
}
WNID = {"wnid", "wordnet", "wordnet_id", "synset", "synset_id", "wn_id", "id"}
LABEL = (
    "label",
    "name",
    "class_name",
    "label_name",
    "labels",
    "names",
    "classname",
    "display_name",
    "category",
    "class",
)

IMAGENET = CHECKOUT / "models" / "imagenet_classes.json"


def imagenet_classes() -> list[Class]:
    """ImageNet's thousand classes, with their WordNet ids."""
    return read_labels(IMAGENET)


def read_labels(file: Path) -> list[Class]:
    """Raises PipelineError, which says where the file is wrong."""
    try:
        content = file.read_bytes() if file.stat().st_size <= MOST_BYTES else None
    except (FileNotFoundError, NotADirectoryError):
        raise PipelineError(f"no labels at {file}: write a text file with {GOOD}") from None
    except IsADirectoryError:
        raise PipelineError(f"{file} is a folder: give a text file with {GOOD}") from None
    if content is None:
        raise PipelineError(f"{file} is larger than {MOST_BYTES >> 20} MB: labels are {GOOD}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PipelineError(f"{file} is not UTF-8: save it as UTF-8, with {GOOD}") from None
    suffix = file.suffix.lower()
    if suffix == ".json" or (suffix not in (".csv", ".tsv") and text.lstrip()[:2] in ('["', "[[", '{"', "[\n", "{\n")):
        return from_data(_json(text, file), str(file))
    if suffix in (".csv", ".tsv"):
        classes = _from_table(text, suffix, str(file))
    else:
        classes = _from_lines(
            re.split(r"\r\n|\n|\r", text), str(file)
        )  # splitlines() ends lines at other characters too
    return checked(classes, str(file))


def from_data(said: object, where: str) -> list[Class]:
    """From JSON or YAML: ["cat", …], [["n02123045", "tabby"], …], {"0": "cat", …}, {"0": ["n02123045", "tabby"], …},
    {"cat": 0, …}, or a Hugging Face configuration with id2label. where: how errors name the source.
    """
    pairs = list(said.items()) if isinstance(said, dict) else said if isinstance(said, _Pairs) else None
    if pairs is not None:
        return checked(_from_pairs(pairs, where), where)
    if not isinstance(said, list):
        raise PipelineError(f"{where} must be a list of labels, such as [cat, dog], or the name of a file with them")
    return checked([_class(each, f"{where}[{index}]") for index, each in enumerate(said)], where)


def checked(classes: Sequence[Class], where: str) -> list[Class]:
    """Raises PipelineError for labels that no answer could hold. Two may be equal: ImageNet has two cranes."""
    if len(classes) < 2:
        raise PipelineError(
            f"{where} has {_count(len(classes))}: a classifier has at least two classes, with a label each"
        )
    if len(classes) > MOST_CLASSES:
        raise PipelineError(f"{where} has {len(classes)} labels: at most {MOST_CLASSES} are allowed")
    stripped = [(wnid, label.strip()) for wnid, label in classes]
    for index, (wnid, label) in enumerate(stripped):
        what = ""
        if not label:
            what = "is empty: give each class a label"
        elif CONTROL.search(label) or "\n" in label or "\t" in label:
            what = f"has a control character ({ascii(label)[:60]}): remove it"
        elif len(label) > LONGEST_LABEL:
            what = f"has {len(label)} characters: at most {LONGEST_LABEL} are allowed"
        elif wnid is not None and not WORDNET_ID.fullmatch(wnid):
            what = f"has the WordNet id {wnid[:40]!r}: it must be n and eight digits, such as n02123045"
        if what:
            raise PipelineError(f"{where}: the label of class {index} {what}")
    return stripped


def _count(labels: int) -> str:
    return "no labels" if labels == 0 else f"{labels} label" if labels == 1 else f"{labels} labels"


# --- JSON and YAML ----------------------------------------------------------------------------------------------------


class _Pairs(list[tuple[str, Any]]):
    """A JSON object that keeps repeated keys."""


def _json(text: str, file: Path) -> object:
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise PipelineError(f"{file} is not JSON: line {error.lineno}: {error.msg}") from None
    except (RecursionError, ValueError):
        raise PipelineError(f"{file} is not JSON with labels") from None


def _from_pairs(pairs: list[tuple[Any, Any]], where: str) -> list[Class]:
    for table in ("id2label", "label2id"):  # Hugging Face's config.json
        for key, value in pairs:
            if key == table and isinstance(value, dict | list):
                inner = list(value.items()) if isinstance(value, dict) else value
                return _from_pairs(inner, f"{where}: {table}")
    if pairs and all(_is_index(value) for _, value in pairs) and not all(isinstance(v, str) for _, v in pairs):
        return _in_order([(int(index), (None, str(label))) for label, index in pairs], where)
    if pairs and all(_is_index(key) for key, _ in pairs):
        return _in_order([(int(key), _class(value, f"{where}[{key}]")) for key, value in pairs], where)
    if pairs and all(_is_index(value) for _, value in pairs):  # {"cat": "0"}
        return _in_order([(int(index), (None, str(label))) for label, index in pairs], where)
    raise PipelineError(f'{where} must map numbers to labels, such as {{"0": "cat", "1": "dog"}}, or be a list')


def _class(said: object, where: str) -> Class:
    if isinstance(said, str):
        return None, said
    if isinstance(said, list) and len(said) == 2 and all(isinstance(each, str) for each in said):
        return said[0], said[1]
    if isinstance(said, bool) or said is None:
        meant = "yes, no, on, off or null in YAML"
        raise PipelineError(f"{where} is {said}, not text ({meant}): put it in quotes")
    if isinstance(said, int | float):
        raise PipelineError(f"{where} is the number {said}, not text: put it in quotes, '{said}'")
    raise PipelineError(f"{where} must be a label, such as cat, or a WordNet id and a label, [n02123045, tabby]")


def _is_index(value: object) -> bool:
    if type(value) is int:
        return value >= 0
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9


def _in_order(numbered: Iterable[tuple[int, Class]], where: str) -> list[Class]:
    """Raises PipelineError unless they are numbered from 0, each number once."""
    by_index: dict[int, Class] = {}
    for index, each in numbered:
        if index in by_index:
            raise PipelineError(f"{where} has class {index} twice: {by_index[index][1][:40]!r} and {each[1][:40]!r}")
        by_index[index] = each
    for index in range(len(by_index)):
        if index not in by_index:
            begins = " (numbers start at 0)" if index == 0 else ""
            raise PipelineError(f"{where} has class {max(by_index)}, but no class {index}{begins}: give every number")
    return [by_index[index] for index in range(len(by_index))]


# --- Text and tables --------------------------------------------------------------------------------------------------


def _from_lines(lines: list[str], where: str) -> list[Class]:
    lines = _without_end(lines, lambda line: not line.strip())
    if lines and all("\t" in line.strip() for line in lines):
        return _from_table("\n".join(lines), ".tsv", where)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise PipelineError(f"{where}: line {number} is empty: give each class a label")
    with_ids = [re.fullmatch(r"\s*(n\d{8})[\s:,]+(.+)", line) for line in lines]  # synset_words.txt
    if lines and all(with_ids):
        return [(found[1], found[2]) for found in with_ids if found]
    numbered = [re.fullmatch(r"\s*(\d{1,6})(?:\s*[:,;]\s*|\s+)(\D.*)", line) for line in lines]
    if lines and all(numbered):
        return _in_order([(int(found[1]), (None, found[2])) for found in numbered if found], where)
    return [(None, line) for line in lines]


def _without_end(rows: list[Any], is_blank: Callable[[Any], bool]) -> list[Any]:
    while rows and is_blank(rows[-1]):
        rows = rows[:-1]
    return rows


def _from_table(text: str, suffix: str, where: str) -> list[Class]:
    first = text.partition("\n")[0]
    delimiter = "\t" if suffix == ".tsv" else max(",;\t", key=first.count)
    try:
        read = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise PipelineError(
            f"{where} is not a table separated by {'tabs' if delimiter == chr(9) else repr(delimiter)}: {error}"
        ) from None
    rows = _without_end([[cell.strip() for cell in row] for row in read], lambda row: not any(row))
    if not rows:
        return []
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise PipelineError(
                f"{where}: row {number} has {len(row)} fields, but the first has {len(rows[0])}: "
                "put labels with a comma in double quotes"
            )
    index, wnid, label, body = _columns(rows, where)
    classes = [(row[wnid] if wnid is not None and row[wnid] else None, row[label]) for row in body]
    if index is None:
        return classes
    return _in_order(zip((int(row[index]) for row in body), classes, strict=True), where)


def _columns(rows: list[list[str]], where: str) -> tuple[int | None, int | None, int, list[list[str]]]:
    """The columns of the number, the WordNet id and the label, by name or else by content; and the rows below."""
    heads = _heads(rows)
    body = rows[1:] if heads else rows
    kinds = _kinds(body)
    if len(kinds) == 1:
        return None, None, 0, body
    wnid = next((column for column, kind in enumerate(kinds) if kind == "wnid"), None)
    numbers = [column for column, kind in enumerate(kinds) if kind == "index"]
    index = next((column for column in numbers if not heads or heads[column] in INDEX), None)
    if index is None and len(kinds) == 2:
        index = next(iter(numbers), None)
    others = [column for column in range(len(kinds)) if column not in (index, wnid)]
    named = [heads.index(name) for name in LABEL if name in heads and heads.index(name) in others]
    others = named[:1] or others
    if len(others) != 1:
        raise PipelineError(
            f"{where}: it is not clear which column has the labels: name it in the first row, such as index,label"
        )
    return index, wnid, others[0], body


def _heads(rows: list[list[str]]) -> list[str]:
    """The names of the columns, in lower case; empty if the first row is a class."""
    heads = [re.sub(r"[\s-]+", "_", cell.lower()) for cell in rows[0]]
    if len(heads) == 1:
        return heads if heads[0] in LABEL else []
    if any(map(_is_index, heads)) or any(map(WORDNET_ID.fullmatch, heads)):
        return []
    known = any(head in INDEX | WNID | set(LABEL) for head in heads)
    above_numbers = len(rows) > 2 and any(kind != "label" for kind in _kinds(rows[1:]))
    return heads if known or above_numbers else []


def _kinds(rows: list[list[str]]) -> list[str]:
    """For each column: `wnid`, `index` or `label`."""
    kinds = []
    for column in zip(*rows, strict=True):
        if any(column) and all(WORDNET_ID.fullmatch(cell) for cell in column if cell):
            kinds.append("wnid")
        elif all(_is_index(cell) for cell in column):
            kinds.append("index")
        else:
            kinds.append("label")
    return kinds
