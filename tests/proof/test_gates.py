"""Networks that end in sigmoids, gates and recurrent cells: right ones pass however small a channel is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from normexport.onnx_export import InputSpec, export
from normexport.proof import check_model
from normexport.runtime import OnnxRuntime
from normexport.runtime.baseline_arithmetic import PlainArithmetic

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "glu": lambda x: functional.glu(x, 1),
    "logsigmoid": functional.logsigmoid,
    "softmax": lambda x: torch.softmax(x, 1),
    "gelu": functional.gelu,
    "tanh": lambda x: torch.tanh(1e-3 * x),
}


class Scores(nn.Module):
    """Scores around 0, -1.8, ..., -9: the last sigmoid is 1e-4."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.gate = nn.Linear(4, 6), gate

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.linear(0.1 * x) - torch.linspace(0, 9, 6, dtype=x.dtype))


class Cells(nn.Module):
    """A recurrent layer, of which two units let a ten-thousandth out."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cells = getattr(nn, kind)(4, 8, batch_first=True)
        if kind == "LSTM":
            with torch.no_grad():
                self.cells.bias_ih_l0[24:26] -= 9

    def forward(self, x: Tensor) -> Any:
        return self.cells(x)[0]


def exported(model: nn.Module, *shape: int) -> tuple[nn.Module, Any]:
    return model.eval(), export(model.eval(), [InputSpec("x", shape)])


def verdict(model: nn.Module, found: Any, candidate: ir.Model) -> str:
    return check_model(model, candidate, found.layers, found.inputs).judgement.verdict.word


@pytest.mark.parametrize("name", GATES)
def test_a_right_gate_passes_and_a_channel_that_is_a_little_off_fails(name: str) -> None:
    model, found = exported(Scores(GATES[name]), 4)
    assert verdict(model, found, found.model) == "PASSED"
    wrong = found.model.clone()
    bias = next(value for value in wrong.graph.initializers.values() if value.name == "linear.bias")
    assert bias.const_value is not None
    array = bias.const_value.numpy().copy()
    array[-1] += 3e-3
    bias.const_value = ir.tensor(array, name=bias.name)
    assert verdict(model, found, wrong) == "FAILED"


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_right_recurrent_layer_passes(kind: str) -> None:
    model, found = exported(Cells(kind), 5, 4)
    assert verdict(model, found, found.model) == "PASSED"


def test_log_sigmoid_is_exact_where_the_sigmoid_vanishes() -> None:
    _, found = exported(nn.Sequential(nn.LogSigmoid()), 3)
    x = torch.tensor([[-100.0, -30.0, 20.0]])
    (got,) = OnnxRuntime(found.model).run({found.inputs[0].name: x.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(got), functional.logsigmoid(x.double()).float(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["sum", "mean"])
def test_the_baseline_sums_numbers_without_an_axis_and_no_numbers_as_pytorch_does(name: str) -> None:
    cases = [((), 0), ((), -1), ((70, 0), 0), ((0, 70), 0), ((70, 0), 1), ((70, 0), (0, 1))]
    for shape, dim in cases:
        x = torch.full(shape, 3.0)
        expected = getattr(x, name)(dim)
        with PlainArithmetic():
            torch.testing.assert_close(getattr(x, name)(dim), expected, equal_nan=True)


@pytest.mark.parametrize("in_place", [False, True])
def test_the_baselines_sigmoid_errs_by_a_rounding_of_a_half(in_place: bool) -> None:
    x = torch.linspace(-60, 30, 10_001)
    exact = torch.sigmoid(x.double())
    with PlainArithmetic():
        found = x.clone().sigmoid_() if in_place else torch.sigmoid(x)
        silu = functional.silu(x.clone(), inplace=in_place)
        double = torch.sigmoid(x.double())
    error = (found.double() - exact).abs()
    assert error[exact < 0.5].max() <= 2**-24 + 2**-25
    assert error[exact < 0.1].max() >= 2**-26
    assert (found > 0).all()
    assert torch.equal(double, exact)
    assert torch.equal(silu, found * x)
