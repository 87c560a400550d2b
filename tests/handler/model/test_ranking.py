"""The most probable classes, in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vision.model.ranking import LONGEST_LABEL, read_classes, top_k


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_top_k_falls_monotonically(k: int) -> None:
    chance = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    probabilities = chance / chance.sum()
    classes = [(f"n{index:08}", f"label {index}") for index in range(1000)]
    found = top_k(probabilities, k, classes).classes
    values = [entry.probability for entry in found]
    assert len(found) == k
    assert values == sorted(values, reverse=True)
    assert found[0].index == int(probabilities.argmax())
    assert all(entry.label == f"label {entry.index}" for entry in found)
    assert values[0] == pytest.approx(float(probabilities.max()), rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 21_841])
def test_a_model_may_have_any_number_of_classes(count: int) -> None:
    probabilities = torch.rand(count, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    found = top_k(probabilities, min(count, 1000), [(None, f"label {index}") for index in range(count)]).classes
    assert len(found) == min(count, 1000)
    assert (found[0].index, found[0].wnid) == (int(probabilities.argmax()), None)


def classes(folder: Path, said: Any) -> Path:
    file = folder / "classes.json"
    file.write_bytes(said if isinstance(said, bytes) else json.dumps(said).encode())
    return file


@pytest.mark.parametrize(
    "said",
    [
        [["n02123045", "tabby"], [None, "a cat"]],
        [[None, "chatte"], [None, "chatte"]],  # ImageNet has duplicate labels too
        [
            [None, "猫"],
            [None, "🐈\u200d⬛ \"'<&\\"],
            [None, "e\u0301"],
            [None, "\n"],
            [None, " "],
            [None, "a" * LONGEST_LABEL],
        ],
    ],
)
def test_labels_are_any_text_and_wordnet_ids_may_be_missing(said: list[list[Any]], tmp_path: Path) -> None:
    assert read_classes(classes(tmp_path, said)) == [(wnid, label) for wnid, label in said]


@pytest.mark.parametrize("said", [b"", b"[", b"\xff", b"[" * 100_000, {}, [], None, "tabby", 5, {"n02123045": "tabby"}])
def test_a_file_without_a_list_of_classes_is_told(said: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^classes.json must be a JSON list of at least one class$"):
        read_classes(classes(tmp_path, said))


@pytest.mark.parametrize(
    "entry",
    [
        *("tabby", None, 5, {}, [], ["tabby"], ["n02123045", "tabby", "cat"], {"wnid": None, "label": "tabby"}, "ab"),
        *([None, ""], [None, None], [None, 5], [None, ["tabby"]], [None, "a" * (LONGEST_LABEL + 1)], [None, "\ud83d"]),
        *(["", "tabby"], ["tabby", "tabby"], [5, "tabby"], ["n0212304", "tabby"], ["n02123045\n", "tabby"]),
        *(["n0212304\u0665", "tabby"], [[], "tabby"]),
    ],
)
def test_an_entry_of_another_form_is_told_by_its_place(entry: Any, tmp_path: Path) -> None:
    sentence = r"^classes\.json: class 1 must be \[WordNet id, label\], .* a text of 1 to 250 characters$"
    with pytest.raises(ValueError, match=sentence):
        read_classes(classes(tmp_path, [[None, "a"], entry]))
