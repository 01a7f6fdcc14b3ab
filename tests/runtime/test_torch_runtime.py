"""PyTorch as a runtime: float64 throughout, the caller's model left alone, boundaries what they say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec, Layer
from normexport.runtime import TorchRuntime


class Function(nn.Module):
    """A function of (x, w) with one weight."""

    def __init__(self, function: Callable[..., Any], *shape: int) -> None:
        super().__init__()
        self.function, self.w = function, nn.Parameter(torch.randn(*shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.w)


#: How a model is made, and the shape of a sample.
ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lstm": (lambda: nn.LSTM(4, 200), (3, 4)),  # compares dtypes before dispatch; its weights exceed LARGE
    "gru": (lambda: nn.GRU(4, 5, batch_first=True), (3, 4)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (3, 8)),
    "prelu": (lambda: nn.PReLU(4), (4, 3)),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (4, 5)),
    "layer_norm": (lambda: nn.LayerNorm(8), (8,)),
    "large_linear": (lambda: nn.Linear(300, 300), (300,)),
    "large_conv": (lambda: nn.Conv2d(64, 128, 3, padding=1), (64, 4, 4)),
    "reflecting_conv": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3), (3, 5, 5)),
    "old_weight_norm": (lambda: torch.nn.utils.weight_norm(nn.Linear(4, 4)), (4,)),
    "weight_norm": (lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), (4,)),
    "concat": (lambda: Function(lambda x, w: torch.cat([x, w.expand(len(x), 1, 4)], 1), 1, 1, 4), (3, 4)),
    "einsum": (lambda: Function(lambda x, w: torch.einsum("bij,jk->bik", x, w), 300, 300), (3, 300)),
    "upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (3, 5, 5)),
}


@pytest.mark.parametrize("name", ZOO)
def test_float64_equals_the_model_converted_to_double(name: str) -> None:
    torch.manual_seed(0)
    make, shape = ZOO[name]
    model = make().eval()
    x = np.random.default_rng(0).standard_normal((2, *shape))
    with torch.no_grad():
        twin = copy.deepcopy(model) if name != "old_weight_norm" else make().eval()
        if name == "old_weight_norm":
            twin.load_state_dict(model.state_dict())
        expected = torch.utils._pytree.tree_leaves(twin.double()(torch.from_numpy(x)))
    names = [f"y{i}" for i in range(len(expected))]
    actual = TorchRuntime(model, [InputSpec("x", shape)], names, "float64").run({"x": x})
    for name_, value in zip(names, expected, strict=True):
        assert actual[name_].dtype == np.float64
        np.testing.assert_allclose(actual[name_], value.numpy(), rtol=1e-12, atol=1e-13)


class NarrowCasts(nn.Module):
    """Names float32 and float16 in every way a forward can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.plain = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).float() * torch.ones(4, 1, 1) + torch.arange(4).view(4, 1, 1) * torch.tensor(0.5)
        return self.linear(y.half().to(torch.float32).mean((2, 3)).to(self.linear.weight.dtype)) * self.plain


def narrow_casts_in_float64(model: NarrowCasts, x: torch.Tensor) -> torch.Tensor:
    """The same arithmetic written for float64, no cast anywhere."""
    c, m = model.conv, model.linear
    y = F.conv2d(x, c.weight.double(), c.bias.double()) + torch.arange(4).double().view(4, 1, 1) * 0.5
    return F.linear(y.mean((2, 3)), m.weight.double(), m.bias.double()) * torch.arange(1, 6).double()


@pytest.mark.parametrize("program", [False, True], ids=["module", "exported_program"])
def test_casts_to_narrow_types_do_not_round_the_float64_reference(program: bool) -> None:
    torch.manual_seed(0)
    model = NarrowCasts().eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    with torch.no_grad():
        expected = narrow_casts_in_float64(model, torch.from_numpy(x)).numpy()
    source = torch.export.export(model, (torch.zeros(2, 3, 6, 6),)) if program else model
    spec = InputSpec("x", (2, 3, 6, 6), batched=False) if program else InputSpec("x", (3, 6, 6))
    actual = TorchRuntime(source, [spec], ["y"], "float64").run({"x": x})["y"]
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_callers_model_is_not_touched(dtype: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runtime = TorchRuntime(model, [InputSpec("x", (3, 5, 5))], ["y"], dtype, [Layer("0", 0, "Conv2d", "c")], jitter=1)
    runtime.run({"x": np.ones((2, 3, 5, 5))}, ["c"])
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_float32_shares_the_weights_of_the_model() -> None:
    model = nn.Linear(300, 300)
    held: Any = TorchRuntime(model, [InputSpec("x", (300,))], ["y"])._model
    assert held.weight.data_ptr() == model.weight.data_ptr()


def test_jitter_moves_each_weight_by_at_most_one_spacing_and_some_of_them() -> None:
    model = nn.Linear(64, 64)
    jittered: Any = TorchRuntime(model, [InputSpec("x", (64,))], ["y"], jitter=3)._model
    moved = jittered.weight.detach().numpy()
    weight = model.weight.detach().numpy()
    steps = np.abs(moved - weight) / np.spacing(np.abs(weight))
    assert steps.max() <= 1
    assert 0.1 < np.mean(steps > 0) < 0.9


def test_jitter_of_equal_vectors_differs() -> None:
    """A bias and a running mean of 100 moved alike would cancel, and hide the error they stand for."""
    model = nn.BatchNorm1d(1000)
    model.running_mean.fill_(100.7)
    nn.init.constant_(model.bias, 100.7)
    moved: Any = TorchRuntime(model, [InputSpec("x", (1000,))], ["y"], jitter=3)._model
    assert not torch.equal(moved.bias, moved.running_mean)


@pytest.mark.parametrize("keepdim", [False, True])
def test_the_baseline_adds_long_means_one_after_the_other(keepdim: bool) -> None:
    """Adding 1 to 2^24 changes nothing in float32: a plain sum loses every later 1, a cascade does not."""

    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, -1), keepdim=keepdim)

    x = np.ones((2, 100, 3, 10), np.float32)
    x[0, 0, :, 0] = 2.0**24
    means = TorchRuntime(Mean(), [InputSpec("x", (100, 3, 10))], ["y"], jitter=1).run({"x": x})["y"]
    exact = TorchRuntime(Mean(), [InputSpec("x", (100, 3, 10))], ["y"], "float64", jitter=1).run({"x": x})["y"]
    assert means.shape == ((2, 1, 3, 1) if keepdim else (2, 3))
    np.testing.assert_array_equal(means[0].ravel(), np.float32(2.0**24) / np.float32(1000))
    np.testing.assert_allclose(exact[0].ravel(), (2.0**24 + 999) / 1000, rtol=1e-15)
    np.testing.assert_array_equal(means[1].ravel(), 1.0)


class Nested(nn.Module):
    def forward(self, x: torch.Tensor, index: torch.Tensor) -> dict[str, Any]:
        return {"b": (x + 1, [x * 2]), "a": index.argmax(1), "none": None}


def test_nested_outputs_are_flattened_in_order_and_integers_kept() -> None:
    specs = [InputSpec("x", (2,)), InputSpec("i", (3,), "int64")]
    feeds = {"i": np.array([[0, 5, 1]]), "x": np.ones((1, 2))}
    outputs = TorchRuntime(Nested(), specs, ["plus", "twice", "argmax"], "float64").run(feeds)
    np.testing.assert_array_equal(outputs["plus"], [[2.0, 2.0]])
    np.testing.assert_array_equal(outputs["twice"], [[2.0, 2.0]])
    assert outputs["argmax"].dtype == np.int64
    assert outputs["argmax"][0] == 1


def test_another_number_of_outputs_than_named_is_an_error() -> None:
    runtime = TorchRuntime(nn.Identity(), [InputSpec("x", (2,))], ["y", "z"])
    with pytest.raises(UsageError, match="returns 1 tensors, and 2 outputs are named"):
        runtime.run({"x": np.ones((1, 2))})


def test_inputs_the_model_cannot_take_are_one_clear_line() -> None:
    runtime = TorchRuntime(nn.Linear(3, 2), [InputSpec("x", (4,))], ["y"], "float64")
    with pytest.raises(UsageError, match="does not run on these inputs"):
        runtime.run({"x": np.ones((1, 4))})


class TwoCalls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(3, 3), nn.ReLU(inplace=True)
        self.pair = Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.act(self.linear(x))
        self.pair(x)
        return self.act(self.linear(first) - 1)


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x + 1


LAYERS = [
    Layer("linear", 0, "Linear", "l0"),
    Layer("act", 0, "ReLU", "a0"),
    Layer("linear", 1, "Linear", "l1"),
    Layer("act", 1, "ReLU", "a1"),
]


@pytest.mark.parametrize("program", [False, True], ids=["module", "exported_program"])
def test_boundaries_are_captured_by_path_and_call_before_in_place_operators_change_them(program: bool) -> None:
    torch.manual_seed(0)
    model = TwoCalls().eval()
    x = np.random.default_rng(0).standard_normal((5, 3))
    weight, bias = model.linear.weight.detach().double().numpy(), model.linear.bias.detach().double().numpy()
    l0 = x @ weight.T + bias
    a0 = np.maximum(l0, 0)
    l1 = a0 @ weight.T + bias
    source: Any = model
    if program:
        batch = torch.export.Dim("batch")
        source = torch.export.export(model, (torch.zeros(5, 3),), dynamic_shapes=({0: batch},))
    runtime = TorchRuntime(source, [InputSpec("x", (3,))], ["y"], "float64", LAYERS)
    captured = runtime.run({"x": x}, ["l0", "a0", "l1", "a1"])
    for name, expected in {"l0": l0, "a0": a0, "l1": l1, "a1": np.maximum(l1 - 1, 0)}.items():
        np.testing.assert_allclose(captured[name], expected, rtol=1e-12, atol=1e-14)
    assert not runtime.dropped


def test_streaming_hands_values_over_in_execution_order_and_keeps_none() -> None:
    runtime = TorchRuntime(TwoCalls(), [InputSpec("x", (3,))], ["y"], "float64", LAYERS)
    seen = []
    result = runtime.run({"x": np.ones((1, 3))}, ["a1", "l1", "l0"], lambda name, value: seen.append(name))
    assert seen == ["l0", "l1", "a1"]
    assert set(result) == {"y"}


def test_a_module_called_another_number_of_times_than_mapped_is_dropped_and_said_so() -> None:
    runtime = TorchRuntime(TwoCalls(), [InputSpec("x", (3,))], ["y"], layers=[*LAYERS[:2], LAYERS[3]])
    captured = runtime.run({"x": np.ones((1, 3))}, ["l0", "a0", "a1"])
    assert set(captured) == {"y", "a0", "a1"}
    assert runtime.dropped == {"l0": "linear is called 2 times, the layer map knows 1"}


def test_a_module_that_returns_two_tensors_is_dropped_and_said_so() -> None:
    runtime = TorchRuntime(TwoCalls(), [InputSpec("x", (3,))], ["y"], layers=[Layer("pair", 0, "Pair", "p")])
    assert set(runtime.run({"x": np.ones((1, 3))}, ["p", "unknown"])) == {"y"}
    assert runtime.dropped == {"p": "pair does not return one tensor", "unknown": "is the output of no known module"}


def failing_once() -> nn.Module:
    """An LSTM compares the dtype of its input with that of weight_ih, 65,536 elements here, in Python: the first run
    fails there, after the linear layer, and starts again converted."""
    return nn.Sequential(nn.Linear(4, 256), nn.LSTM(256, 64))


def test_a_conversion_in_mid_run_does_not_confuse_calls() -> None:
    layers = [Layer("0", 0, "Linear", "l")]
    runtime = TorchRuntime(failing_once(), [InputSpec("x", (3, 4))], ["y", "h", "c"], "float64", layers)
    assert "l" in runtime.run({"x": np.ones((2, 3, 4))}, ["l"])
    assert not runtime.dropped


def test_a_conversion_in_mid_run_hands_no_value_over_twice() -> None:
    model = failing_once()
    layers = [Layer("0", 0, "Linear", "l")]
    runtime = TorchRuntime(model, [InputSpec("x", (3, 4))], ["y", "h", "c"], "float64", layers)
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    seen: list[tuple[str, np.ndarray]] = []
    runtime.run({"x": x}, ["l"], lambda name, value: seen.append((name, value.copy())))
    assert [name for name, _ in seen] == ["l"]
    weight, bias = (value.detach().double().numpy() for value in model.get_submodule("0").parameters())
    np.testing.assert_allclose(seen[0][1], x @ weight.T + bias, rtol=1e-12, atol=1e-14)


def test_a_program_of_fixed_batch_accepts_only_that_batch() -> None:
    program = torch.export.export(nn.Linear(3, 2).eval(), (torch.zeros(4, 3),))
    runtime = TorchRuntime(program, [InputSpec("x", (4, 3), batched=False)], ["y"], "float64")
    assert runtime.run({"x": np.ones((4, 3))})["y"].shape == (4, 2)
    with pytest.raises(UsageError, match=r"x: has shape \(2, 3\), expected \(4, 3\)"):
        runtime.run({"x": np.ones((2, 3))})


def test_a_forward_that_writes_into_its_input_leaves_the_caller_s_array_alone() -> None:
    class Writing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.add_(1.0)

    x = np.zeros((2, 3))
    runtime = TorchRuntime(Writing(), [InputSpec("x", (3,))], ["y"], "float64")
    np.testing.assert_array_equal(runtime.run({"x": x})["y"], np.ones((2, 3)))
    np.testing.assert_array_equal(x, np.zeros((2, 3)))


def test_an_input_without_axes_arrives_without_axes() -> None:
    class Shape(nn.Module):
        def forward(self, t: torch.Tensor) -> torch.Tensor:
            return t * 2

    runtime = TorchRuntime(Shape(), [InputSpec("t", (), batched=False)], ["y"], "float64")
    assert runtime.run({"t": np.array(1.5)})["y"].shape == ()
