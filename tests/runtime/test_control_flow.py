"""Models with `torch.cond`, `while_loop`, `scan` and `map`: float64 in every branch and body, and judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx_ir.serde import serialize_model
from torch import nn
from torch._higher_order_ops.map import map as mapped
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

from normexport import nn as nxn
from normexport.folding import fold
from normexport.onnx_export import InputSpec, export
from normexport.proof import check_model, check_torch
from normexport.runtime import TorchRuntime

pytestmark = pytest.mark.slow


class Net(nn.Module):
    """A linear layer and a norm, then `rest(net, y)`."""

    def __init__(self, rest: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.norm, self.head, self.rest = nn.Linear(4, 4), nxn.L1BatchNorm1d(4), nn.Linear(4, 3), rest
        for value in (self.norm.running_mean, self.norm.running_scale, self.norm.bias):
            value.data = torch.rand(4) + 0.5
        self.eval()

    def forward(self, x: torch.Tensor) -> object:
        return self.rest(self, self.norm(self.fc(x)))


def branch(net: Net, y: torch.Tensor) -> torch.Tensor:
    return torch.cond(y[0, 0] > 0, lambda a: net.head(a) / 3.0, lambda a: net.head(a * 2) - 1, (y,))


def loop(net: Net, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    count, y = while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, torch.tanh(a) * 1.1), (torch.tensor(0), y))
    return net.head(y), count


def scanned(net: Net, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    def step(carry: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        new = torch.tanh(carry + value)
        return new, new * 2

    last, all_ = scan(step, torch.zeros_like(y), torch.stack([y, y * 2, y * 3]))
    return net.head(last), all_


def each_row(net: Net, y: torch.Tensor) -> torch.Tensor:
    over_rows: Callable[..., torch.Tensor] = mapped
    return over_rows(lambda row: torch.tanh(row) / 3.0, torch.stack([y, y + 1]))


def in_numpy(rest: Callable[..., Any], y: np.ndarray, head: nn.Linear) -> list[np.ndarray]:
    """The same four, by hand, in float64."""
    weight, bias = (value.detach().double().numpy() for value in head.parameters())
    if rest is branch:
        return [(y @ weight.T + bias) / 3.0 if y[0, 0] > 0 else (y * 2) @ weight.T + bias - 1]
    if rest is loop:
        for _ in range(3):
            y = np.tanh(y) * np.float64(1.1)
        return [y @ weight.T + bias, np.array(3)]
    if rest is scanned:
        carry, steps = np.zeros_like(y), []
        for value in (y, y * 2, y * 3):
            carry = np.tanh(carry + value)
            steps.append(carry * 2)
        return [carry @ weight.T + bias, np.stack(steps)]
    return [np.tanh(np.stack([y, y + 1])) / 3.0]


def normed(net: Net, x: np.ndarray) -> np.ndarray:
    weight, bias = (value.detach().double().numpy() for value in net.fc.parameters())
    norm = {name: value.detach().double().numpy() for name, value in net.norm.state_dict().items()}
    y = x @ weight.T + bias
    return (y - norm["running_mean"]) / (norm["running_scale"] + net.norm.eps) * norm["weight"] + norm["bias"]


def program_of(net: Net) -> torch.export.ExportedProgram:
    return torch.export.export(net, (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("n")},))


@pytest.mark.parametrize(
    ("rest", "program"), [(branch, False), (loop, False), (scanned, False), (each_row, False), (branch, True)]
)
def test_branches_and_bodies_are_computed_in_float64(rest: Callable[..., Any], program: bool) -> None:
    net = Net(rest)
    for sign in (1, -1):  # either branch
        x = np.random.default_rng(1).standard_normal((2, 4)) * sign
        wanted = in_numpy(rest, normed(net, x), net.head)
        names = [f"y{index}" for index in range(len(wanted))]
        source = program_of(net) if program else net
        got = TorchRuntime(source, [InputSpec("x", (4,))], names, "float64").run({"x": x})
        for name, value in zip(names, wanted, strict=True):
            np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("rest", [branch, scanned])
def test_a_file_with_control_flow_is_judged_against_module_and_program(rest: Callable[..., Any]) -> None:
    net = Net(rest)
    exported = export(net, [InputSpec("x", (4,))])
    folded = fold(exported.model).model
    assert not any(node.op_type == "RunningNorm" for node in folded.graph.all_nodes())
    for source in (net, program_of(net)):
        assert check_model(source, folded, exported.layers, exported.inputs).passed
    assert check_torch(net, net, exported.inputs).passed
    x = np.random.default_rng(0).standard_normal((3, 4))
    got = ort.InferenceSession(serialize_model(folded).SerializeToString()).run(None, {"x": x.astype(np.float32)})
    for value, wanted in zip(got, in_numpy(rest, normed(net, x), net.head), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)


def test_a_file_whose_loop_computes_something_else_fails() -> None:
    exported = export(Net(loop), [InputSpec("x", (4,))])
    other = Net(lambda net, y: loop(net, y * 1.001))
    assert not check_model(other, exported.model, (), exported.inputs).passed


def test_running_a_model_leaves_later_exports_alone() -> None:
    """Dynamo remembers what it could not compile: a second net with a branch could then not be exported."""
    first, second = Net(branch), Net(lambda net, y: torch.cond(y.sum() > 0, torch.sin, torch.cos, (y,)))
    spec = InputSpec("x", (4,))
    TorchRuntime(first, [spec], ["y"], "float64").run({"x": np.ones((2, 4))})
    TorchRuntime(first, [spec], ["y"], jitter=1).run({"x": np.ones((2, 4))})
    assert "If" in {node.op_type for node in export(second, [spec]).model.graph}
