"""torch.export's graph becomes a program: the same answers, the same bytes, fewer operators."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.artefact.program import Program, export
from pipeline.shared.errors import NotExportable
from vision.model.network import Network
from vision.model.program import read_program

CPU = torch.device("cpu")
SIDE = 32


def network(program: Program, precision: str = "float32") -> Network:
    weights = {name: torch.from_numpy(array) for name, array in program.tensors.items()}
    return Network(read_program(program.graph, weights), weights, precision, CPU)


def operators(program: Program) -> list[str]:
    return [node[0] for node in json.loads(program.graph)["nodes"]]


class Net(nn.Module):
    """A network from a function: images → logits. parts: its layers and tensors."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self._answer = forward

    def forward(self, images: torch.Tensor) -> Any:
        return self._answer(self, images)


def seen(module: nn.Module) -> nn.Module:
    """With batch norms that have statistics."""
    random = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, *part.parameters()):
                assert tensor is not None
                tensor.data.copy_(torch.randn(tensor.shape, generator=random))
            assert part.running_var is not None
            part.running_var.copy_(torch.rand(part.running_var.shape, generator=random) + 0.5)
    return module.eval()


def check(module: nn.Module, most: float = 1e-5) -> Program:
    module.eval()
    program = export(module, SIDE)
    made = network(program)
    for count in (1, 2, 5):
        images = torch.randn(count, 3, SIDE, SIDE)
        with torch.inference_mode():
            torch.testing.assert_close(made(images), module(images), rtol=most, atol=most)
    return program


# --- What a module may do ---------------------------------------------------------------------------------------------


def written_over(self: Any, images: torch.Tensor) -> Any:
    """Both the result and the tensor that was written into are used."""
    features = self.conv(images)
    kept = features.relu_()
    features += 1
    return (features * 2 + kept).mean(dim=(2, 3))


def masked(self: Any, images: torch.Tensor) -> Any:
    """Swin makes its masks this way: it writes into parts of a tensor that does not depend on the images."""
    mask = images.new_zeros((SIDE, SIDE))
    for number, rows in enumerate((slice(0, 8), slice(8, 30), slice(30, None))):
        mask[rows, :] = number
    mask = mask.masked_fill(mask != 0, -100.0)
    return (images + mask).mean(dim=(2, 3))


def counting_images(self: Any, images: torch.Tensor) -> Any:
    """As in ViT's class token, and ShuffleNet's shuffling."""
    count, channels, height, width = images.shape
    shuffled = images.view(count, channels, height // 2, 2, width).transpose(2, 3).reshape(count, channels, -1)
    token = self.token.expand(count, -1, -1)
    flat = torch.cat([token, shuffled.reshape(count * channels, -1).view(count, channels, -1)], dim=1)
    return flat.mean(dim=2)


def made_on_the_spot(self: Any, images: torch.Tensor) -> Any:
    zeros = torch.zeros(images.shape[0], 3, SIDE, SIDE, device=images.device)
    return (torch.cat([images, zeros + self.token], dim=1)).mean(dim=(2, 3))


def in_blocks(self: Any, images: torch.Tensor) -> Any:
    with torch.autocast("cpu", enabled=False):
        inner = self.conv(images.float())
    with torch.no_grad():
        return inner.mean(dim=(2, 3)) * 2


def in_pieces(self: Any, images: torch.Tensor) -> Any:
    one, two = self.conv(images).chunk(2, dim=1)
    first, *rest = torch.split(one, [1, 1], dim=1)
    return torch.cat([two, first, *rest], dim=1).amax(dim=(2, 3))


def attending(self: Any, images: torch.Tensor) -> Any:
    tokens = images.flatten(2).transpose(1, 2)[:, :16]
    return functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(dim=1)


def with_numbers(self: Any, images: torch.Tensor) -> Any:
    return functional.gelu(2 * images - 0.5, approximate="tanh").clamp(max=1.5).mean((2, 3)) / 3 + self.scale.exp()


MODULES: dict[str, nn.Module] = {
    "writing over its input": Net(written_over, conv=nn.Conv2d(3, 4, 3)),
    "masks": Net(masked),
    "counting images": Net(counting_images, token=torch.randn(1, 1, SIDE * SIDE)),
    "made on the spot": Net(made_on_the_spot, token=torch.randn(3, 1, 1)),
    "blocks": Net(in_blocks, conv=nn.Conv2d(3, 4, 3)),
    "pieces": Net(in_pieces, conv=nn.Conv2d(3, 4, 3)),
    "attention": Net(attending),
    "numbers": Net(with_numbers, scale=torch.randn(3)),
    "dropout": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout2d(), nn.Flatten(), nn.Dropout(), nn.LazyLinear(5)),
    "no linear at the end": nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "one class": nn.Sequential(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
}


def then_added(self: Any, images: torch.Tensor) -> Any:
    """A copy is modified, and both are used."""
    copy = images.clone()
    copy += 1
    return (copy * images).mean(dim=(2, 3))


def turned_by_einsum(self: Any, images: torch.Tensor) -> Any:
    """einsum's result for one tensor is a view of it, which must not be overwritten."""
    features = self.conv(images)
    other = functional.hardtanh(torch.einsum("nchw->nhwc", features))
    return other.mean(dim=(1, 2)) + features.mean(dim=(2, 3))


def of_tokens(self: Any, images: torch.Tensor) -> Any:
    """Here batch_norm's channels are the tokens, not the layer's outputs."""
    return self.norm(self.layer(images.flatten(2)[:, :, :8])).mean(dim=2)


def not_needed(self: Any, images: torch.Tensor) -> Any:
    logits = self.layer(images.mean(dim=(2, 3)))
    self.norm(logits)
    return logits


def tied(self: Any, images: torch.Tensor) -> Any:
    hidden = functional.linear(images.mean(dim=(2, 3)), self.layer.weight)
    return functional.linear(hidden, self.layer.weight)


MODULES |= {
    "a copy": Net(then_added),
    "einsum of one": Net(turned_by_einsum, conv=nn.Conv2d(3, 4, 3)),
    "norm of tokens": Net(of_tokens, layer=nn.Linear(8, 3), norm=nn.BatchNorm1d(3)),
    "norm that nobody needs": Net(not_needed, layer=nn.Linear(3, 5), norm=nn.BatchNorm1d(5)),
    "tied weights": Net(tied, layer=nn.Linear(3, 3)),
    "padding by a word": nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "comparisons": Net(lambda self, images: (images * (images > 0.1)).mean((2, 3))),
}
for _norm in ("norm of tokens", "norm that nobody needs"):
    MODULES[_norm].norm.running_mean.normal_()  # type: ignore[union-attr, operator]
MODULES["dropout"].eval()(torch.zeros(1, 3, SIDE, SIDE))  # the lazy layer learns its size


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_program_answers_as_its_module_for_any_number_of_images(module: nn.Module) -> None:
    check(module)


def test_in_bfloat16_it_is_near() -> None:
    module = seen(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)))
    images = torch.randn(3, 3, SIDE, SIDE)
    with torch.inference_mode():
        expected = module(images)
        found = network(export(module, SIDE), "bfloat16")(images.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


# --- Fewer operators --------------------------------------------------------------------------------------------------


def test_batch_norm_becomes_a_part_of_the_layer_before_it() -> None:
    module = seen(
        nn.Sequential(
            *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            *(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6, affine=False), nn.SiLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
    )
    program = check(module)
    assert operators(program)[:4] == ["conv2d", "relu", "conv2d", "silu"]
    assert set(program.tensors) == {"0.weight", "0:bias", "3.weight", "3.bias"}


def test_but_not_where_the_layer_is_used_twice_or_there_is_none() -> None:
    def twice(self: Any, images: torch.Tensor) -> Any:
        features = self.conv(self.before(images))
        return (self.norm(features) + features).mean(dim=(2, 3))

    def shared(self: Any, images: torch.Tensor) -> Any:
        return (self.norm(self.conv(images)) + self.other(self.conv(images))).mean(dim=(2, 3))

    before = nn.BatchNorm2d(3)
    for module in (
        Net(twice, conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), before=before),
        Net(shared, conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), other=nn.BatchNorm2d(4)),
    ):
        assert operators(check(seen(module))).count("batch_norm") == 2


def test_relu_comes_after_max_pooling_unless_its_result_is_needed() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten())
    assert operators(check(plain)) == ["conv2d", "max_pool2d", "relu", "flatten.using_ints"]

    def needed(self: Any, images: torch.Tensor) -> Any:
        positive = self.conv(images).relu()
        return functional.max_pool2d(positive, 2).mean(dim=(2, 3)) + positive.mean(dim=(2, 3))

    assert operators(check(Net(needed, conv=nn.Conv2d(3, 4, 3))))[:3] == ["conv2d", "relu", "max_pool2d"]


def test_what_hangs_on_no_image_is_computed_and_what_nobody_needs_is_left_out() -> None:
    def biased(self: Any, images: torch.Tensor) -> Any:
        table = self.table[self.index].permute(1, 0).contiguous()
        self.unused(images)
        return images.mean(dim=(2, 3)) @ (16 * torch.sigmoid(table))

    module = Net(biased, table=torch.randn(9, 3), index=torch.tensor([8, 0, 4]), unused=nn.Conv2d(3, 4, 3))
    program = check(module)
    assert operators(program) == ["mean.dim", "matmul"]
    assert list(program.tensors) == ["computed:0"]


def test_the_same_network_gives_the_same_bytes() -> None:
    module = MODULES["counting images"]
    one, other = export(module, SIDE), export(module, SIDE)
    assert one.graph == other.graph
    assert all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors | other.tensors)
    assert "/" not in one.graph.decode()  # no path on this machine


# --- What cannot be packed --------------------------------------------------------------------------------------------


class Strange(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)).to(torch.float64)


def looking(self: Any, images: torch.Tensor) -> Any:
    return images.mean(dim=(2, 3)) if images.sum() > 0 else images.amax(dim=(2, 3))


def writing_into_a_view(self: Any, images: torch.Tensor) -> Any:
    features = images * 2
    features.flatten(1).clamp_(max=3)
    return features.mean(dim=(2, 3))


def writing_into_a_slice(self: Any, images: torch.Tensor) -> Any:
    features = images * 2
    features[:, :2] += 1
    return features.mean(dim=(2, 3))


def writing_into_a_piece(self: Any, images: torch.Tensor) -> Any:
    features = images * 2
    features.chunk(3, dim=1)[0].mul_(2)
    return features.mean(dim=(2, 3))


def setting_an_item(self: Any, images: torch.Tensor) -> Any:
    features = images * 2
    features[:, 0] = 0
    return features.mean(dim=(2, 3))


def writing_behind_dropout(self: Any, images: torch.Tensor) -> Any:
    features = images * 2
    dropped = self.dropout(features)
    dropped += 1
    return (features + dropped).mean(dim=(2, 3))


def remembering(self: Any, images: torch.Tensor) -> Any:
    self.mean.mul_(0.9).add_(0.1)
    return images.mean(dim=(2, 3)) + self.mean


def counting_calls(self: Any, images: torch.Tensor) -> Any:
    self.calls += 1
    return images.mean(dim=(2, 3)) + self.calls


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "a view": (Net(writing_into_a_view), "it writes into part of a tensor (aten.clamp_.default)"),
    "a slice": (Net(writing_into_a_slice), "it writes into part of a tensor (aten.add_.Tensor)"),
    "a piece": (Net(writing_into_a_piece), "it writes into part of a tensor (aten.mul_.Tensor)"),
    "an item": (Net(setting_an_item), "it writes into part of a tensor"),
    "behind dropout": (Net(writing_behind_dropout, dropout=nn.Dropout()), "it writes into part of a tensor"),
    "a memory": (Net(remembering, mean=torch.zeros(3)), "it changes its own state in inference"),
    "a counter": (Net(counting_calls, calls=torch.zeros((), dtype=torch.long)), "it changes its own state"),
    "dropout that draws": (
        Net(lambda self, images: functional.dropout(images, 0.5).mean((2, 3))),
        "it draws random numbers (aten.dropout: give it training=self.training)",
    ),
    "a size in a tensor": (
        Net(lambda self, images: images.flatten(2)[:, :, : self.keep].mean(2), keep=torch.tensor(16)),
        "",
    ),
    "two results": (Net(lambda self, images: (images, images)), "it does not return one tensor, the logits"),
    "a dictionary": (Net(lambda self, images: {"a": images.mean((2, 3)), "b": images}), "it does not return one"),
    "images": (Net(lambda self, images: images), "not the logits"),
    "features": (Net(lambda self, images: images * 2), "not the logits (N, classes)"),
    "a constant": (Net(lambda self, images: torch.zeros(2, 5)), "not the logits"),
    "a look at values": (
        Net(looking),
        "the network cannot be packed: torch.export refuses it: it depends on the images' content, with if, while or "
        f"int(…): use torch.where or masks (test_program.py:{looking.__code__.co_firstlineno + 1})",
    ),
    "two images alone": (Net(lambda self, images: images.reshape(2, -1)), "it takes a fixed number of images"),
    "half precision": (Net(lambda self, images: images.half().mean((2, 3))), "it converts images to torch.float16"),
    "chance": (
        Net(lambda self, images: (images + torch.rand(3, SIDE, SIDE)).mean((2, 3))),
        "it draws random numbers (aten.rand)",
    ),
}


@pytest.mark.parametrize(("module", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_packed_is_refused_in_a_sentence(
    module: nn.Module, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotExportable) as refused:
        network(export(module.eval(), SIDE))
    assert str(refused.value).startswith("the network cannot be packed: ")
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_network_that_is_training_is_refused() -> None:
    with pytest.raises(NotExportable, match="call eval"):
        export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).train(), SIDE)


def test_the_sentence_names_the_line_of_the_network() -> None:
    line = Strange.forward.__code__.co_firstlineno + 1
    with pytest.raises(NotExportable, match=rf"converts images to torch.float64 \(test_program.py:{line}\)"):
        export(Strange().eval(), SIDE)
