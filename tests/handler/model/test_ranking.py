"""The most probable classes, in their order."""

from __future__ import annotations

import pytest
import torch

from vision.model.ranking import top_k


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
