"""What a network costs: parameters, arithmetic, memory and time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BASE_BYTES = 190_000_000  # of a worker without a network: AlexNet's 430 MB minus its weights
BATCH = 16  # images: batchSize in handler/model-config.yaml
MOST_SECONDS = 2.0  # of measuring, after the first image
MOST_RUNS = 5


@dataclass(frozen=True)
class Costs:
    """parameters: numbers that training changes. flop: per image; a multiply-add counts as two. memory: per worker, in
    bytes, estimated. images_per_s: on one core of this machine, measured; float32, only the network.
    """

    parameters: int
    flop: int
    memory: int
    images_per_s: float


def costs(network: nn.Module, crop: int) -> Costs:
    """network: float32, on the CPU, in eval mode."""
    image = torch.zeros(1, 3, crop, crop)
    numbers = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    with torch.inference_mode():
        largest = _largest_layer(network, image)
        with FlopCounterMode(display=False) as counter:
            network(image)
        rate = _rate(network, image)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Costs(parameters, counter.get_total_flops(), BASE_BYTES + 4 * (numbers + BATCH * largest), rate)


def _largest_layer(network: nn.Module, image: torch.Tensor) -> int:
    """The largest number of values that go into and come out of one layer."""
    most = 0

    def note(_: nn.Module, given: Any, answered: Any) -> None:
        nonlocal most
        tensors = [each for each in (*given, answered) if isinstance(each, torch.Tensor)]
        most = max(most, sum(tensor.numel() for tensor in tensors))

    hooks = [layer.register_forward_hook(note) for layer in network.modules() if not list(layer.children())]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return most


def _rate(network: nn.Module, image: torch.Tensor) -> float:
    """Images per second in the fastest of a few runs, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        began, fastest = time.perf_counter(), float("inf")
        for _ in range(MOST_RUNS):
            start = time.perf_counter()
            network(image)
            fastest = min(fastest, time.perf_counter() - start)
            if time.perf_counter() - began > MOST_SECONDS:
                break
    finally:
        torch.set_num_threads(threads)
    return 1 / fastest
