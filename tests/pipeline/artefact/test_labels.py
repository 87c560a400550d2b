"""Labels in common forms: text, JSON, tables; and the errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipeline.artefact.labels import Class, from_data, imagenet_classes, read_labels
from pipeline.shared.errors import PipelineError

PLAIN: list[Class] = [(None, "cat"), (None, "dog"), (None, "Löwe, der")]
WITH_IDS: list[Class] = [("n02123045", "tabby"), ("n02124075", "Egyptian cat"), ("n02127052", "lynx, catamount")]


def read(folder: Path, name: str, content: str | bytes) -> list[Class]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labels(folder / name)


def refusal(folder: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(PipelineError) as refused:
        read(folder, name, content)
    sentence = str(refused.value)
    assert sentence.isprintable()
    assert sentence.startswith(str(folder / name))
    return sentence.removeprefix(str(folder / name)).removeprefix(":").strip()


# --- Text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nLöwe, der\n",
        "cat\ndog\nLöwe, der",  # without a newline at the end
        "cat\r\ndog\r\nLöwe, der\r\n",
        "\ufeffcat\ndog\nLöwe, der\n\n  \n",
        "0 cat\n1 dog\n2 Löwe, der\n",
        "2: Löwe, der\n0: cat\n1: dog\n",
        "0\tcat\n1\tdog\n2\tLöwe, der\n",
    ],
)
def test_text(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, "labels.txt", text) == PLAIN
    assert read(tmp_path, "labels", text) == PLAIN


def test_text_with_wordnet_ids(tmp_path: Path) -> None:
    """As in Caffe's synset_words.txt."""
    assert read(tmp_path, "synset_words.txt", "".join(f"{wnid} {label}\n" for wnid, label in WITH_IDS)) == WITH_IDS


def test_labels_with_numbers_are_labels(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "7 up\ncola\n") == [(None, "7 up"), (None, "cola")]
    assert read(tmp_path, "a.txt", "0\n1\n2\n") == [(None, "0"), (None, "1"), (None, "2")]
    assert read(tmp_path, "a.txt", "B-52\n747\n") == [(None, "B-52"), (None, "747")]


def test_a_label_may_be_there_twice(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "crane\ncrane\n") == [(None, "crane"), (None, "crane")]


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        ["cat", "dog", "Löwe, der"],
        {"0": "cat", "1": "dog", "2": "Löwe, der"},
        {"2": "Löwe, der", "1": "dog", "0": "cat"},
        {"cat": 0, "Löwe, der": 2, "dog": 1},
        {"cat": "0", "Löwe, der": "2", "dog": "1"},
        {"model_type": "vit", "id2label": {"0": "cat", "1": "dog", "2": "Löwe, der"}, "label2id": {"cat": 0}},
        {"architectures": ["A"], "label2id": {"cat": 0, "dog": 1, "Löwe, der": 2}},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json(tmp_path: Path, said: object, indent: int | None) -> None:
    assert read(tmp_path, "a.json", json.dumps(said, indent=indent)) == PLAIN
    assert (
        read(tmp_path, "a.txt", b"\xef\xbb\xbf" + json.dumps(said, ensure_ascii=False, indent=indent).encode()) == PLAIN
    )


@pytest.mark.parametrize(
    "said",
    [
        [list(each) for each in WITH_IDS],
        {str(index): list(each) for index, each in enumerate(WITH_IDS)},  # Keras's imagenet_class_index.json
    ],
)
def test_json_with_wordnet_ids(tmp_path: Path, said: object) -> None:
    assert read(tmp_path, "a.json", json.dumps(said)) == WITH_IDS


def test_a_label_that_is_twice_in_json_has_two_numbers(tmp_path: Path) -> None:
    assert read(tmp_path, "a.json", '{"crane": 0, "crane": 1}') == [(None, "crane"), (None, "crane")]


def test_digits_are_labels_too(tmp_path: Path) -> None:
    assert read(tmp_path, "a.json", '{"1": 0, "0": 1}') == [(None, "1"), (None, "0")]
    assert read(tmp_path, "a.json", '{"0": "1", "1": "0"}') == [(None, "1"), (None, "0")]


def test_yaml_may_have_numbers_for_keys() -> None:
    assert from_data({0: "cat", 1: "dog"}, "labels") == [(None, "cat"), (None, "dog")]


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
@pytest.mark.parametrize(
    "rows",
    [
        [["index", "label"], ["0", "cat"], ["1", "dog"], ["2", "Löwe, der"]],
        [["Label", "Class ID"], ["Löwe, der", "2"], ["cat", "0"], ["dog", "1"]],
        [["class", "name"], ["0", "cat"], ["1", "dog"], ["2", "Löwe, der"]],
        [["Nummer", "Bezeichnung"], ["0", "cat"], ["1", "dog"], ["2", "Löwe, der"]],
        [["0", "cat"], ["1", "dog"], ["2", "Löwe, der"]],
        [["cat", "0"], ["dog", "1"], ["Löwe, der", "2"]],
        [["index", "label", "pictures"], ["0", "cat", "12"], ["1", "dog", "7"], ["2", "Löwe, der", "9"]],
    ],
    ids=lambda rows: "-".join(rows[0]) if isinstance(rows, list) else None,
)
def test_tables(tmp_path: Path, rows: list[list[str]], suffix: str, delimiter: str, end: str) -> None:
    with (tmp_path / f"a.{suffix}").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(rows)
        file.write(end)  # a blank last line
    assert read_labels(tmp_path / f"a.{suffix}") == PLAIN


@pytest.mark.parametrize("head", ["", "label\n"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_may_have_one_column(tmp_path: Path, head: str, suffix: str) -> None:
    assert read(tmp_path, f"a.{suffix}", f'{head}cat\ndog\n"Löwe, der"\n') == PLAIN


@pytest.mark.parametrize(
    "rows",
    [
        [["index", "wnid", "label"], *([str(index), *each] for index, each in enumerate(WITH_IDS))],
        [["WordNet ID", "name"], *map(list, WITH_IDS)],
        [["id", "label"], *map(list, WITH_IDS)],
        [[str(index), *each] for index, each in enumerate(WITH_IDS)],
        [list(each) for each in WITH_IDS],
    ],
    ids=lambda rows: "-".join(rows[0]),
)
def test_tables_with_wordnet_ids(tmp_path: Path, rows: list[list[str]]) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert read_labels(tmp_path / "a.csv") == WITH_IDS


def test_some_classes_may_have_no_wordnet_id(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", "index,wnid,label\n0,n02123045,tabby\n1,,robot\n") == [WITH_IDS[0], (None, "robot")]


# --- ImageNet ---------------------------------------------------------------------------------------------------------


def test_imagenets_classes_have_a_home() -> None:
    classes = imagenet_classes()
    assert (len(classes), classes[281]) == (1000, ("n02123045", "tabby"))


# --- What is wrong ----------------------------------------------------------------------------------------------------

GOOD = "one line for each class, in the order of the network's outputs"
BY_NUMBERS = 'must map numbers to labels, such as {"0": "cat", "1": "dog"}, or be a list'
OR_BOTH = "or a WordNet id and a label, [n02123045, tabby]"
WNID = "it must be n and eight digits, such as n02123045"
NAME_IT = "name it in the first row, such as index,label"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", "", "has no labels: a classifier has at least two classes, with a label each"),
        ("a.txt", "cat\n", "has 1 label: a classifier has at least two classes, with a label each"),
        ("a.txt", "cat\n\ndog\n", "line 2 is empty: give each class a label"),
        ("a.txt", "cat\ndog\x1b[31m\n", "the label of class 1 has a control character ('dog\\x1b[31m'): remove it"),
        ("a.txt", "cat\nd\x0cog\n", "the label of class 1 has a control character ('d\\x0cog'): remove it"),
        ("a.txt", "cat\nd\u2028og\n", "the label of class 1 has a control character ('d\\u2028og'): remove it"),
        ("a.txt", "cat\n" + "d" * 201, "the label of class 1 has 201 characters: at most 200 are allowed"),
        ("a.txt", b"cat\nL\xf6we\n", f"is not UTF-8: save it as UTF-8, with {GOOD}"),
        ("a.txt", "0 cat\n2 dog\n", "has class 2, but no class 1: give every number"),
        ("a.json", "[", "is not JSON: line 1: Expecting value"),
        ("a.json", "[" * 100_000, "is not JSON with labels"),
        ("a.json", "3", "must be a list of labels, such as [cat, dog], or the name of a file with them"),
        ("a.json", '["cat", ""]', "the label of class 1 is empty: give each class a label"),
        ("a.json", '["cat", "\\ud800"]', "the label of class 1 has a control character ('\\ud800'): remove it"),
        ("a.json", '["cat", null]', "[1] is None, not text (yes, no, on, off or null in YAML): put it in quotes"),
        ("a.json", '["cat", ["a", "b", "c"]]', f"[1] must be a label, such as cat, {OR_BOTH}"),
        ("a.json", '[["n1", "cat"], ["n2", "dog"]]', f"the label of class 0 has the WordNet id 'n1': {WNID}"),
        ("a.json", '{"0": "cat", "0": "dog"}', "has class 0 twice: 'cat' and 'dog'"),
        ("a.json", '{"cat": 1, "dog": 1}', "has class 1 twice: 'cat' and 'dog'"),
        (
            "a.json",
            '{"1": "cat", "2": "dog"}',
            "has class 2, but no class 0 (numbers start at 0): give every number",
        ),
        ("a.json", '{"0": "cat", "2": "dog"}', "has class 2, but no class 1: give every number"),
        ("a.json", '{"cat": -1, "dog": 0}', BY_NUMBERS),
        ("a.json", '{"a": {"b": 1}}', BY_NUMBERS),
        ("a.json", "{}", BY_NUMBERS),
        ("a.csv", "index,label\n0,cat\n0,dog\n", "has class 0 twice: 'cat' and 'dog'"),
        ("a.csv", "index,label\n0,cat\n5,dog\n", "has class 5, but no class 1: give every number"),
        (
            "a.csv",
            "0,cat\n1,Löwe, der\n",
            "row 2 has 3 fields, but the first has 2: put labels with a comma in double quotes",
        ),
        ("a.csv", "index,label\n0,cat\n1,\n", "the label of class 1 is empty: give each class a label"),
        ("a.csv", 'index,label\n0,"cat\n', "is not a table separated by ',': unexpected end of data"),
        ("a.csv", "cat,small\ndog,large\n", f"it is not clear which column has the labels: {NAME_IT}"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str | bytes, sentence: str) -> None:
    assert refusal(tmp_path, name, content) == sentence


def test_files_that_are_not_there_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=rf"^no labels at {tmp_path}/a.txt: write a text file with {GOOD}$"):
        read_labels(tmp_path / "a.txt")
    with pytest.raises(PipelineError, match=rf"^{tmp_path} is a folder: give a text file with {GOOD}$"):
        read_labels(tmp_path)
    with (tmp_path / "large.txt").open("w") as file:
        file.truncate(1 << 30)
    with pytest.raises(PipelineError, match=rf"is larger than 16 MB: labels are {GOOD}$"):
        read_labels(tmp_path / "large.txt")
