"""Which state dict of a checkpoint is used, under which names, and what prevents that."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import pathlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.artefact.checkpoint import Chosen, read_checkpoint
from pipeline.shared.errors import PipelineError

State = dict[str, torch.Tensor]


def network() -> nn.Sequential:
    """With names like AlexNet's."""
    features, classifier = nn.Sequential(nn.Conv2d(3, 2, 1)), nn.Sequential(nn.Identity(), nn.Linear(2, 4))
    return nn.Sequential(collections.OrderedDict(features=features, classifier=classifier))


SHAPES = {name: tuple(tensor.shape) for name, tensor in network().state_dict().items()}


def state(value: float = 1.0) -> State:
    return {name: torch.full(shape, float(value)) for name, shape in SHAPES.items()}


def named(change: Callable[[str], str], value: float = 1.0) -> State:
    return {change(name): tensor for name, tensor in state(value).items()}


def prefixed(prefix: str, value: float = 1.0) -> State:
    return named(lambda name: prefix + name, value)


def choose(folder: Path, checkpoint: object, **options: Any) -> Chosen:
    torch.save(checkpoint, folder / "a.pth", **options)
    return read_checkpoint(folder / "a.pth", SHAPES)


def taken(folder: Path, checkpoint: object) -> tuple[float, str]:
    """The common value of the chosen weights, and their place."""
    chosen = choose(folder, checkpoint)
    assert {name: array.shape for name, array in chosen.state.items()} == SHAPES
    assert {array.dtype for array in chosen.state.values()} == {np.dtype(np.float32)}
    (value,) = {float(value) for array in chosen.state.values() for value in array.flat}
    return value, chosen.place


def refusal(folder: Path, checkpoint: object) -> str:
    with pytest.raises(PipelineError) as refused:
        choose(folder, checkpoint)
    sentence = str(refused.value)
    assert sentence.startswith(f"{folder / 'a.pth'} ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{folder / 'a.pth'} ")


# --- Names ------------------------------------------------------------------------------------------------------------


def with_wrapped_features() -> nn.Module:
    """AlexNet as wrapped by pytorch/examples for several GPUs."""
    net: Any = network()
    net.features = nn.DataParallel(net.features)
    return net  # type: ignore[no-any-return]


WRAPPED: dict[str, Callable[[], Any]] = {
    "plain": network,
    "DataParallel": lambda: nn.DataParallel(network()),
    "DataParallel twice": lambda: nn.DataParallel(nn.DataParallel(network())),
    "DataParallel inside": with_wrapped_features,
    "torch.compile": lambda: torch.compile(network()),
    "compiled, then DataParallel": lambda: nn.DataParallel(torch.compile(network())),
    "DataParallel, then compiled": lambda: torch.compile(nn.DataParallel(network())),
    "averaged": lambda: AveragedModel(network()),
    "averaged DataParallel": lambda: AveragedModel(nn.DataParallel(network())),
    "averaged and compiled": lambda: AveragedModel(torch.compile(network())),  # type: ignore[arg-type]
    "EMA": lambda: AveragedModel(network(), multi_avg_fn=get_ema_multi_avg_fn()),  # type: ignore[no-untyped-call]
    "activation checkpoints": lambda: checkpoint_wrapper(network()),
    "after a normalising layer": lambda: nn.Sequential(nn.Identity(), network()),
    "in a list": lambda: nn.ModuleList([network()]),
    "as an attribute": lambda: nn.ModuleDict({"backbone": nn.ModuleDict({"net": network()})}),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapped_network_is_taken(tmp_path: Path, kind: str) -> None:
    with warnings.catch_warnings(action="ignore"):  # about torch's own parts
        wrapped = WRAPPED[kind]()
    expected = [tensor for name, tensor in wrapped.state_dict().items() if name != "n_averaged"]
    chosen = choose(tmp_path, wrapped.state_dict())
    assert list(chosen.state) == list(SHAPES)
    for array, tensor in zip(chosen.state.values(), expected, strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod."),
        *("_orig_mod.model.module.", "_forward_module.model.", "_fsdp_wrapped_module._checkpoint_wrapped_module."),
        *("encoder.backbone.", "model.0.", "module.model._orig_mod.module.net."),
    ],
)
def test_prefixes_are_taken_in_any_order(tmp_path: Path, prefix: str) -> None:
    assert taken(tmp_path, prefixed(prefix))[0] == 1
    save_file(prefixed(prefix), tmp_path / "a.safetensors")
    assert read_checkpoint(tmp_path / "a.safetensors", SHAPES).state.keys() == SHAPES.keys()


def test_what_a_wrapper_is_called_may_be_the_networks_own_name(tmp_path: Path) -> None:
    shapes = {f"module.{name}": shape for name, shape in SHAPES.items()}
    torch.save(prefixed("module."), tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth", shapes).state.keys() == shapes.keys()


def test_a_name_that_is_there_twice_is_no_guess(tmp_path: Path) -> None:
    assert taken(tmp_path, state() | prefixed("module."))[0] == 1
    assert refusal(tmp_path, state() | prefixed("module.", 2)).startswith("has features.0.weight twice, with different")


# --- Containers -------------------------------------------------------------------------------------------------------


def optimizer_state() -> dict[str, Any]:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize(
    "key",
    [
        *("state_dict", "model_state_dict", "net", "model", "network", "weights", "params", "state", "model_state"),
        *("generator.net", "module", "classifier", "model_ema", "ema_state_dict", "state_dict_ema", "ema"),
    ],
)
def test_the_state_dict_is_found_beside_what_training_needs(tmp_path: Path, key: str) -> None:
    checkpoint = {
        "epoch": 90,
        "arch": "alexnet",
        "best_acc1": torch.tensor(56.5),
        "optimizer": optimizer_state(),
        "optimizer_states": [optimizer_state()],
        "lr_schedulers": [{"last_epoch": 3, "_last_lr": [0.1]}],
        "scaler": {"scale": 65536.0},
        "rng": torch.get_rng_state(),
        key: prefixed("module."),
    }
    value, place = taken(tmp_path, checkpoint)
    assert (value, place) == (1, "" if key == "module" else key)


def test_lightnings_checkpoint_is_taken(tmp_path: Path) -> None:
    """As Trainer.save_checkpoint writes it; the loss's weights are among the names."""
    checkpoint = {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**prefixed("model."), "criterion.weight": torch.ones(4), "train_loss.total": torch.tensor(2.0)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "best_k_models": {}}},
        "optimizer_states": [optimizer_state()],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "folder": pathlib.PurePosixPath("/data"), "args": argparse.Namespace(a=1)},
    }
    assert taken(tmp_path, checkpoint) == (1, "state_dict.model")


def test_torchvisions_and_timms_checkpoints_are_taken(tmp_path: Path) -> None:
    """Both save the command line's arguments with the model."""
    args = argparse.Namespace(lr=0.1, sizes=[1, 2], output_dir=pathlib.Path("/out"), when=dt.datetime(2026, 1, 1))
    assert taken(tmp_path, {"model": state(), "optimizer": {}, "args": args}) == (1, "model")
    assert taken(tmp_path, {"state_dict": state(), "args": args, "metric": np.float64(0.5)}) == (1, "state_dict")


def test_arrays_of_numpy_are_weights_too(tmp_path: Path) -> None:
    assert taken(tmp_path, {"model": {name: tensor.numpy() for name, tensor in state().items()}}) == (1, "model")


def test_a_pair_and_dictionaries_for_each_layer_are_walked_through(tmp_path: Path) -> None:
    assert taken(tmp_path, (3, state())) == (1, "1")
    layers: dict[str, dict[str, torch.Tensor]] = {"features": {}, "classifier": {}}
    for name, tensor in state().items():
        layer, _, rest = name.partition(".")
        layers[layer][rest] = tensor
    assert taken(tmp_path, {"model": layers}) == (1, "model")


def test_dictionaries_within_themselves_come_to_an_end(tmp_path: Path) -> None:
    checkpoint: dict[str, Any] = {"model": state()}
    checkpoint["self"] = checkpoint
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep, "b": deep}
    assert taken(tmp_path, checkpoint | {"deep": deep}) == (1, "model")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_floating_point_is_taken(tmp_path: Path, dtype: torch.dtype) -> None:
    assert taken(tmp_path, {"model": {name: tensor.to(dtype) for name, tensor in state(0.5).items()}}) == (0.5, "model")


# --- Which of several -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["model_ema", "ema", "ema_state_dict", "state_dict_ema", "EMA", "modelEMA", "swa_model", "averaged_model"]
)
@pytest.mark.parametrize("first", [True, False])
def test_averaged_weights_go_first(tmp_path: Path, key: str, first: bool) -> None:
    both = {"model": state(1), key: prefixed("module.", 2)}
    chosen = choose(tmp_path, both if first else dict(reversed(both.items())))
    assert (chosen.place, chosen.passed_over) == (key, ["model"])
    assert float(chosen.state["classifier.1.bias"][0]) == 2


def test_averaged_weights_are_known_by_their_counter_too(tmp_path: Path) -> None:
    other = {"n_averaged": torch.tensor(3), **prefixed("module.", 2)}
    assert taken(tmp_path, {"model": state(1), "best": other}) == (2, "best")


def test_averaged_weights_within_the_same_dictionary_go_first(tmp_path: Path) -> None:
    """As in an EMA of a LightningModule's attribute, and in ema_pytorch."""
    names = {**prefixed("online_model.", 1), **prefixed("ema_model.", 2), "initted": torch.tensor(True)}
    assert taken(tmp_path, {"state_dict": names | {"step": torch.tensor(7)}}) == (2, "state_dict.ema_model")


def test_lightnings_weight_averaging_has_the_average_in_state_dict(tmp_path: Path) -> None:
    both = {"current_model_state": prefixed("model.", 1), "state_dict": prefixed("model.", 2)}
    assert taken(tmp_path, both | {"averaging_state": {"n_averaged": torch.tensor(3)}}) == (2, "state_dict.model")


def test_the_same_weights_twice_are_one_choice(tmp_path: Path) -> None:
    chosen = choose(tmp_path, {"model": state(), "best": state(), "model_ema": state()})
    assert (chosen.place, chosen.passed_over) == ("model_ema", [])


@pytest.mark.parametrize("keys", [("teacher", "student"), ("model", "best_model"), ("model_ema", "swa")])
def test_where_no_rule_says_which_none_is_taken(tmp_path: Path, keys: tuple[str, str]) -> None:
    sentence = refusal(tmp_path, {key: state(value) for value, key in enumerate(keys)})
    assert sentence.startswith(f"holds more than one state dict that fits ({keys[0]}, {keys[1]}): save the one you")


def test_one_that_does_not_fit_is_no_choice(tmp_path: Path) -> None:
    smaller = state() | {"classifier.1.bias": torch.ones(3)}
    assert taken(tmp_path, {"model": state(), "model_ema": smaller, "student": smaller}) == (1, "model")


def test_a_place_stays_a_short_line(tmp_path: Path) -> None:
    assert taken(tmp_path, {"a\nweights=imagenet" + "x" * 1000: state()})[1] == "a?weights=imagenet" + "x" * 62 + "…"


# --- What does not fit ------------------------------------------------------------------------------------------------


def names(folder: Path, checkpoint: object) -> set[str]:
    """What is passed on for the error if nothing fits."""
    return set(choose(folder, checkpoint).state)


def test_what_comes_closest_is_told_of_by_the_networks_names(tmp_path: Path) -> None:
    partly = prefixed("module.")
    del partly["module.classifier.1.bias"]
    ours = SHAPES.keys() - {"classifier.1.bias"}
    assert names(tmp_path, {"optimizer": {"state": state()}, "state_dict": partly}) == ours
    assert names(tmp_path, {"state_dict": {**partly, "module.extra.weight": torch.ones(3)}}) == ours | {"extra.weight"}


@pytest.mark.parametrize("other", ["features.1.running_mean", "head.weight", "aux.bias", "n_averaged.weight", "scale"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_another_network_with_the_same_names_does_not_pass(tmp_path: Path, prefix: str, other: str) -> None:
    """A head after the network, or layers within it: omitting them would change every answer."""
    assert names(tmp_path, {"state_dict": {**prefixed(prefix), prefix + other: torch.ones(2)}}) == {*SHAPES, other}
    if prefix:
        assert other in names(tmp_path, {**prefixed(prefix), other: torch.ones(2)})


def test_of_a_strange_network_the_largest_dictionary_is_told(tmp_path: Path) -> None:
    assert names(tmp_path, {"a": {"x": torch.ones(1)}, "b": {"y": torch.ones(1), "z": torch.ones(1)}}) == {"y", "z"}


@pytest.mark.parametrize(
    "checkpoint", [{}, [], [torch.ones(1)], {"epoch": 3}, {"state_dict": {}}, {"optimizer": {"state": state()}}, ()]
)
def test_without_a_state_dict_it_is_refused(tmp_path: Path, checkpoint: object) -> None:
    assert refusal(tmp_path, checkpoint) == "holds no state dict: save one with torch.save(model.state_dict(), …)"


@pytest.mark.parametrize(("value", "kind"), [(torch.ones(1), "Tensor"), (3, "int"), ("a", "str"), (None, "NoneType")])
def test_one_value_is_no_state_dict(tmp_path: Path, value: object, kind: str) -> None:
    assert refusal(tmp_path, value).startswith(f"holds a single {kind}, not a state dict: save one with")


def changed(change: Callable[[nn.Module, str], object]) -> Mapping[str, torch.Tensor]:
    net: Any = network()
    change(net.classifier[1], "weight")
    return dict(net.state_dict())


UNFINISHED: dict[str, Callable[[], Mapping[str, Any]]] = {
    "pruned weights": lambda: changed(lambda layer, name: prune.l1_unstructured(layer, name, 0.5)),  # type: ignore[no-untyped-call]
    "parametrised weights": lambda: changed(parametrizations.weight_norm),
    "weights separate from their norm": lambda: named(lambda name: name.replace("1.weight", "1.weight_g")),
    "adapters": lambda: {**prefixed("base_model."), "base_model.lora_A.weight": torch.ones(1, 2)},
    "FSDP's flat weights": lambda: {"features._flat_param": torch.ones(3)},
    "quantised weights": lambda: {name: tensor.to(torch.int8) for name, tensor in state().items()},
    "quantised weights (": lambda: {name: tensor.long() for name, tensor in state().items()},
    "complex weights (torch.complex64): save real numbers": lambda: {
        name: tensor.to(torch.complex64) for name, tensor in state().items()
    },
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_weights_that_are_not_those_of_a_plain_network_are_named(tmp_path: Path, kind: str) -> None:
    assert refusal(tmp_path, {"model": UNFINISHED[kind]()}).startswith(f"holds {kind}")


def test_quantised_networks_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # they are deprecated
        quantised = {name: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8) for name, tensor in state().items()}
    assert refusal(tmp_path, quantised).startswith(
        "holds quantised weights (torch.qint8): save the weights from before quantisation"
    )
