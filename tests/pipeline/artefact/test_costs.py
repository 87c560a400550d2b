"""What a network costs, counted and measured."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.artefact.costs import BASE_BYTES, BATCH, costs


def test_parameters_arithmetic_and_memory_are_counted() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )
    threads = torch.get_num_threads()
    found = costs(network.eval(), crop=16)
    assert torch.get_num_threads() == threads
    assert found.parameters == (3 * 9 * 8 + 8) + 2 * 8 + (8 * 5 + 5)
    assert found.flop == 2 * (3 * 9 * 8 * 16 * 16 + 8 * 5)  # a multiply-add counts as two
    numbers = found.parameters + 2 * 8 + 1  # batch norm's statistics
    assert found.memory == BASE_BYTES + 4 * (numbers + BATCH * 2 * 8 * 16 * 16)  # batch norm's input and output
    assert found.images_per_s > 0
