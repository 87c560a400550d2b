"""program.json is read as untrusted input: it is a network, or is refused with a sentence."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vision.model import operators
from vision.model.network import Network
from vision.model.program import MOST_BYTES, MOST_NODES, read_program

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _little_memory() -> Iterator[None]:
    """So that refusals for memory come quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vision.model.network.MOST_BYTES", 64 * 2**20)
        yield


Json = dict[str, Any]


def weights() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=random),
        "conv.bias": torch.randn(4, generator=random),
        "fc.weight": torch.randn(5, 4, generator=random),
        "fc.bias": torch.randn(5, generator=random),
        "mean": torch.zeros(4),
        "index": torch.arange(4),
    }


def program() -> Json:
    """conv → batch norm → relu → pool → linear: all kinds of arguments."""
    return {
        "format": 1,
        "side": 16,
        "output": 6,
        "nodes": [
            ["conv2d", [{"node": -1}, {"weight": "conv.weight"}, {"weight": "conv.bias"}, [2, 2], [1, 1]]],
            [
                *("batch_norm", [{"node": 0}, None, None, {"weight": "mean"}, {"weight": "conv.bias"}]),
                {"training": False, "momentum": 0.1, "eps": 1e-5, "cudnn_enabled": True},
            ],
            ["relu", [{"node": 1}]],
            ["add.Scalar", [{"node": 2}, 0.5]],
            ["adaptive_avg_pool2d", [{"node": 3}, [1, 1]]],
            ["view", [{"node": 4}, [{"batch": 1}, 4]]],
            ["linear", [{"node": 5}, {"weight": "fc.weight"}, {"weight": "fc.bias"}]],
        ],
    }


def network(said: Json | bytes, held: dict[str, torch.Tensor] | None = None) -> Network:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    held = weights() if held is None else held
    return Network(read_program(text, held), held, "float32", CPU)


def test_a_program_is_what_its_operators_are() -> None:
    held, images = weights(), torch.randn(3, 3, 16, 16)
    convolved = torch.nn.functional.conv2d(images, held["conv.weight"], held["conv.bias"], 2, 1)
    variance = held["conv.bias"].abs()
    held["conv.bias"] = variance
    convolved = torch.nn.functional.conv2d(images, held["conv.weight"], variance, 2, 1)
    normal = torch.nn.functional.batch_norm(convolved, held["mean"], variance, eps=1e-5)
    pooled = (normal.relu() + 0.5).mean(dim=(2, 3))
    expected = torch.nn.functional.linear(pooled, held["fc.weight"], held["fc.bias"])
    made = network(program(), held)
    assert made.classes == 5
    torch.testing.assert_close(made(images), expected)
    torch.testing.assert_close(made(images[:1]), expected[:1])


def test_results_are_let_go_and_what_they_take_is_known() -> None:
    made = network(program(), {**weights(), "conv.bias": torch.ones(4)})
    image, convolved = 3 * 16 * 16 * 4, 4 * 8 * 8 * 4
    assert image + convolved <= made.image_bytes <= image + 2 * convolved


# --- Refused before anything is computed ------------------------------------------------------------------------------


def changed(**keys: Any) -> Json:
    return {**program(), **keys}


def with_node(node: Any, at: int = 2) -> Json:
    said = program()
    said["nodes"][at] = node
    return said


RELU = ["relu", [{"node": 1}]]
REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "it is not JSON"),
    "no text": (b"\xff\xfe", "it is not JSON"),
    "a list": ([], "it must be an object with format, nodes, output, side"),
    "a number": (3, "it must be an object"),
    "another key": (changed(more=1), "it must be an object"),
    "another format": (changed(format=2), "format 1 is expected"),
    "a format that is true": (changed(format=True), "format 1 is expected"),
    "NaN": (b'{"format": NaN}', "NaN is not a number"),
    "nested": (b"[" * 100_000, "nested too deeply"),
    "too long": (b" " * (MOST_BYTES + 1), "more than"),
    "no side": (changed(side=0), "side must be"),
    "a large side": (changed(side=10**9), "side must be"),
    "no nodes": (changed(nodes=[]), "nodes must be a list of 1 to"),
    "too many nodes": (changed(nodes=[RELU] * (MOST_NODES + 1)), "nodes must be a list of 1 to"),
    "nodes that are none": (changed(nodes={"0": RELU}), "nodes must be a list"),
    "an output that is none": (changed(output=7), "output must be"),
    "an output in the past": (changed(output=-1), "output must be"),
    "an output that is true": (changed(output=True), "output must be"),
    "a node that is text": (with_node("relu"), "nodes[2]: it must be [operator"),
    "a node without arguments": (with_node(["relu"]), "nodes[2]: it must be [operator"),
    "a node with more": (with_node(["relu", [{"node": 1}], {}, 1]), "nodes[2]: it must be [operator"),
    "an operator that is none": (with_node(["eval", []]), "nodes[2]: 'eval' is no operator that a program may use"),
    "one that writes": (with_node(["relu_", [{"node": 1}]]), "'relu_' is no operator"),
    "one with an output": (with_node(["add.out", [{"node": 1}]]), "'add.out' is no operator"),
    "one of another library": (with_node(["os.system", ["id"]]), "'os.system' is no operator"),
    "Python's own": (with_node(["__class__", [{"node": 1}]]), "'__class__' is no operator"),
    "one that looks at memory": (with_node(["as_strided", [{"node": 1}, [9], [1]]]), "'as_strided' is no operator"),
    "one that draws": (with_node(["rand_like", [{"node": 1}]]), "'rand_like' is no operator"),
    "one that resizes": (with_node(["set_.source_Tensor", [{"node": 1}, {"node": 0}]]), "is no operator"),
    "a name that is long": (with_node(["x" * 10_000, []]), "is no operator"),
    "too many arguments": (with_node(["relu", [{"node": 1}] * 2]), "relu takes at most 1 arguments"),
    "too few": (with_node(["relu", []]), "relu lacks self"),
    "an unknown one": (with_node(["relu", [{"node": 1}], {"inplace": True}]), "relu has no other argument 'inplace'"),
    "one given twice": (with_node(["relu", [{"node": 1}], {"self": {"node": 1}}]), "relu has no other argument 'self'"),
    "a node of the future": (with_node(["relu", [{"node": 2}]]), "self: node must be a whole number from -1 to 1"),
    "a node before all": (with_node(["relu", [{"node": -2}]]), "node must be"),
    "a weight that is not there": (with_node(["relu", [{"weight": "secret"}]]), "there is no such weight"),
    "a weight that is a list": (with_node(["relu", [{"weight": []}]]), "there is no such weight"),
    "a number for a tensor": (with_node(["relu", [1]]), "a node or a weight is expected"),
    "text for a tensor": (with_node(["relu", ["images"]]), "a node or a weight is expected"),
    "two kinds at once": (with_node(["relu", [{"node": 1, "weight": "mean"}]]), "a node or a weight is expected"),
    "text for a number": (with_node(["add.Scalar", [{"node": 1}, "1"]]), "other: number is expected"),
    "true for a number": (with_node(["add.Scalar", [{"node": 1}, True]]), "other: number is expected"),
    "a number for true": (with_node(["mean.dim", [{"node": 1}, [1], 1]]), "keepdim: bool is expected"),
    "a fraction for a whole number": (with_node(["flatten.using_ints", [{"node": 1}, 1.5]]), "int is expected"),
    "a number beyond all": (with_node(["flatten.using_ints", [{"node": 1}, 10**12]]), "int is expected"),
    "no multiple of the images": (with_node(["view", [{"node": 1}, [{"batch": 0}, 4]]]), "batch must be"),
    "padding without end": (
        with_node(["conv2d", [{"node": 1}, {"weight": "conv.weight"}, None, [1, 1], [2**20, 1]]]),
        "nodes[2]: padding: numbers of at most 64 are expected",
    ),
    "padding by the batch": (
        with_node(["max_pool2d", [{"node": 1}, [2, 2], [2, 2], [{"batch": 2**20}, 0]]]),
        "nodes[2]: padding: numbers of at most 64 are expected",
    ),
    "a type": (with_node(["mean.dim", [{"node": 1}, [1], True], {"dtype": "float64"}]), "is expected"),
    "a long word": (with_node(["einsum", ["i" * 101, [{"node": 1}]]]), "str is expected"),
    "a product of three": (with_node(["einsum", ["a,b,c->abc", [{"node": 1}] * 3]]), "einsum takes 2 tensors here"),
    "what keeps what it has seen": (
        with_node(["batch_norm", [{"node": 1}, None, None, None, None, True, 0.1, 1e-5, True]]),
        "training: false is expected",
    ),
    "what draws": (
        with_node(["scaled_dot_product_attention", [{"node": 1}] * 3, {"dropout_p": 0.5}]),
        "dropout_p: 0.0 is expected",
    ),
    "an index that is text": (with_node(["getitem", [{"node": 1}, "0"]]), "an index must be"),
}


@pytest.mark.parametrize(("said", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_program_is_refused_in_a_sentence(said: Any, sentence: str) -> None:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        read_program(text, weights())
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


# --- Refused when tried -----------------------------------------------------------------------------------------------

HUGE = 2**31
BOMBS: dict[str, list[Any]] = {
    "repeat": [["repeat", [{"node": 1}, [HUGE, 1, 1, 1]]]],
    "pad": [["pad", [{"node": 1}, [HUGE, HUGE]]]],
    "upsample": [["upsample_nearest2d.vec", [{"node": 1}, [65536, 65536], None]]],
    "pool": [["adaptive_avg_pool2d", [{"node": 1}, [65536, 65536]]]],
    "outer products": [
        ["flatten.using_ints", [{"node": 1}]],
        *(["einsum", ["i,j->ij", [{"node": 2}, {"node": 2}]]], ["flatten.using_ints", [{"node": 3}]]),
        ["einsum", ["i,j->ij", [{"node": 4}, {"node": 4}]]],
    ],
    "several of one": [["cat", [[{"node": node}] * 20_000, 1]] for node in (1, 2, 3)],
    "a view of nothing": [["expand", [{"weight": "mean"}, [HUGE, 4]]], ["relu", [{"node": 2}]]],
}


@pytest.mark.parametrize("nodes", BOMBS.values(), ids=BOMBS)
def test_what_takes_too_much_memory_is_refused(nodes: list[Any]) -> None:
    said = program()
    said["nodes"] = [*said["nodes"][:2], *nodes]
    said["output"] = len(said["nodes"]) - 1
    with pytest.raises(ValueError, match=r"^nodes\[\d\]: \w+(\.\w+)? does not accept its input: "):
        network(said)


def test_the_bound_is_this_trial_s_alone() -> None:
    with pytest.raises(ValueError, match="does not accept its input"):
        network(with_node(BOMBS["repeat"][0]))
    assert torch.zeros(2**28).sum() == 0


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (["view", [{"node": 4}, [{"batch": 1}, 5]]], r"nodes\[5\]: view does not accept its input: "),
        (["view", [{"node": 4}, [{"batch": 4}, 1]]], r"nodes\[6\]: linear does not accept its input: "),
        (["getitem", [{"node": 4}, 2]], r"nodes\[5\]: getitem does not accept its input: "),
        (["permute", [{"node": 4}, [0, 1]]], r"nodes\[5\]: permute does not accept its input: "),
        (
            ["index.Tensor", [{"node": 4}, [{"weight": "fc.weight"}]]],
            r"nodes\[5\]: index.Tensor does not accept its input: ",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(node: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        network(with_node(node, 5))


@pytest.mark.parametrize("output", [0, 4])
def test_what_does_not_end_in_logits_is_refused(output: int) -> None:
    with pytest.raises(ValueError, match="it does not end in logits"):
        network(changed(output=output))


# --- The most a program can do ----------------------------------------------------------------------------------------


def test_no_operator_writes_draws_or_needs_a_newer_torch() -> None:
    for name in operators.NAMES:
        found = operators.find(name)
        assert not any(it.alias_info is not None and it.alias_info.is_write for it in found._schema.arguments), name
        if name not in operators.ONLY:
            assert torch.Tag.nondeterministic_seeded not in found.tags, name
    for name, in_place in operators.IN_PLACE.items():
        assert name in operators.NAMES
        assert operators.overload(in_place)._schema.arguments[0].alias_info.is_write


@pytest.mark.parametrize(
    "nodes",
    [
        [["relu", [{"weight": "fc.bias"}]], ["mul.Scalar", [{"node": 0}, 2]]],
        [["t", [{"weight": "fc.weight"}]], ["relu", [{"node": 0}]]],
        [["view", [{"weight": "fc.bias"}, [5]]], ["add.Scalar", [{"node": 0}, 1]]],
        [["relu", [{"node": -1}]]],
    ],
)
def test_neither_weights_nor_images_are_changed(nodes: list[Any]) -> None:
    said = program()
    said["nodes"] += nodes
    for node in said["nodes"][7:]:
        for each in node[1]:
            if isinstance(each, dict) and each.get("node", -1) >= 0:
                each["node"] += 7
    held = {**weights(), "conv.bias": torch.ones(4)}
    before, images = copy.deepcopy(held), torch.randn(2, 3, 16, 16)
    kept = images.clone()
    made = network(said, held)
    first, second = made(images), made(images)
    assert torch.equal(first, second)
    assert torch.equal(images, kept)
    assert all(torch.equal(held[name], before[name]) for name in held)


def leaves(said: Any, put: Callable[[Any], None]) -> list[tuple[Any, Callable[[Any], None]]]:
    """Every value inside a JSON value, with a function that replaces it."""
    found = [(said, put)]
    items = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    for key, value in list(items):
        found += leaves(value, lambda new, key=key: said.__setitem__(key, new))  # type: ignore[misc]
    return found


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70_000),
    st.sampled_from([2**31, 2**63 - 1, -(2**63), 10**30, 0.0, -1.5, 1e308]),
    st.sampled_from(["relu", "mean", "", "ij,jk->ik", "\0", *operators.NAMES]),
    st.builds(lambda node: {"node": node}, st.integers(-2, 9)),
    st.builds(lambda name: {"weight": name}, st.sampled_from([*weights(), "", "x"])),
    st.builds(lambda times: {"batch": times}, st.integers(-1, 5)),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=6)


NUMBERS = st.one_of(st.integers(-1, 8), st.sampled_from([16, 64, 2**20, 2**31]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_is_changed_it_is_a_network_or_a_sentence(data: st.DataObject) -> None:
    said = {"": program()}
    for _ in range(data.draw(st.integers(1, 4))):
        places = leaves(said[""], lambda new: said.__setitem__("", new))
        _, put = places[data.draw(st.integers(0, len(places) - 1))]
        put(data.draw(VALUES))
    check_all_is_well(said[""])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_and_so_where_numbers_are_changed_alone(data: st.DataObject) -> None:
    """Most of these are well-formed, so they are tried."""
    said = program()
    for _ in range(data.draw(st.integers(1, 3))):
        numbers = [put for value, put in leaves(said["nodes"], lambda _: None) if type(value) is int]
        numbers[data.draw(st.integers(0, len(numbers) - 1))](data.draw(NUMBERS))
    check_all_is_well(said)


def check_all_is_well(said: Any) -> None:
    held = {**weights(), "conv.bias": torch.ones(4)}
    before = copy.deepcopy(held)
    try:
        made = network(said, held)
    except ValueError as refused:
        assert "\n" not in str(refused)
    else:
        with contextlib.suppress(RuntimeError, IndexError):  # with three images: the handler answers 500 and goes on
            assert made(torch.zeros(3, 3, said["side"], said["side"])).shape == (3, made.classes)
    assert all(torch.equal(held[name], before[name]) for name in held)


IN_A_WORKER = """
import json, sys, torch
from vision.model.network import Network
from vision.model.program import read_program
program = read_program(sys.stdin.buffer.read(), {"weight": torch.ones(5, 3)})
Network(program, {"weight": torch.ones(5, 3)}, "bfloat16", torch.device("cpu"))
print(sorted({"torchvision", "torch._dynamo", "sympy"} & sys.modules.keys()))
"""


def test_a_worker_imports_neither_torchvision_nor_what_traces() -> None:
    """They would take seconds and a hundred megabytes."""
    nodes = [["mean.dim", [{"node": -1}, [2, 3]]], ["linear", [{"node": 0}, {"weight": "weight"}]]]
    said = json.dumps({"format": 1, "side": 8, "output": 1, "nodes": nodes})
    command, environment = [sys.executable, "-P", "-c", IN_A_WORKER], {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=os.environ | environment, input=said, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
