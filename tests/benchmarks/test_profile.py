"""The stage of a sampled stack, and the kind of an operator."""

from __future__ import annotations

import pytest

from benchmarks.layers import kind_of
from benchmarks.profile import LAYERS, OTHER, stage_of

WORKER = "run_server (model_service_worker.py:200);handle (/a/entry.py:87)"


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        (f"{WORKER};_forward (/a/classifier.py:100);__call__ (/a/network.py:69);_result (/a/network.py:150)", LAYERS),
        (f"{WORKER};_forward (/a/classifier.py:100)", "stacking, normalising, softmax"),
        (f"{WORKER};_decode (/a/entry.py:152);decode (/a/decoder.py:136);resize (/b/PIL/Image.py:2000)", "resizing"),
        ("run_server (model_service_worker.py:200)", OTHER),
    ],
)
def test_a_stack_belongs_to_its_innermost_stage(stack: str, stage: str) -> None:
    assert stage_of(stack) == stage


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mkldnn_convolution", "convolutions"),
        ("onednn::qconv2d_pointwise", "convolutions"),
        ("mkldnn::_linear_pointwise", "Linear layers"),
        ("aten::addmm", "Linear layers"),
        ("aten::max_pool2d_with_indices", "pooling, ReLU"),
        ("aten::relu_", "pooling, ReLU"),
        ("aten::copy_", "stacking, normalising, softmax"),
    ],
)
def test_an_operator_is_one_kind_of_work(operator: str, kind: str) -> None:
    assert kind_of(operator) == kind
