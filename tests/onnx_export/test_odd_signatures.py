"""Inputs and outputs as people write them: `*args`, tensors without axes, the same tensor twice, names that collide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx_ir.serde import serialize_model
from torch import nn

from normexport import nn as nxn
from normexport.checkpoint import load
from normexport.errors import ExportError, UsageError
from normexport.folding import fold
from normexport.onnx_export import InputSpec, export, parse_inputs
from normexport.proof import check_model
from normexport.verdicts import Verdict
from tests.narrow import present

pytestmark = pytest.mark.slow

X = InputSpec("x", (4,))


class Net(nn.Module):
    """A linear layer and a norm, tensors without axes, and a forward that is given."""

    def __init__(self, around: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.norm, self.around = nn.Linear(4, 4), nxn.L1BatchNorm1d(4), around
        for value in (self.norm.running_mean, self.norm.running_scale, self.norm.bias):
            value.data = torch.rand(4) + 0.5
        self.scale, self.table = nn.Parameter(torch.tensor(1.7)), nn.Parameter(torch.randn(2, 3))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("shift", torch.tensor(0.3), persistent=False)
        self.plain = torch.tensor(0.25)
        self.eval()

    def y(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x))

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> object:
        return self.around(self, x, *more)


def pair(net: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = net.y(x)
    return y, y


#: what forward returns, and the names that its outputs have in the file
OUTPUTS = {
    "the input": (lambda net, x: x, ["output"]),
    "the input twice": (lambda net, x: (x, net.y(x), x), ["output_0", "output_1", "output_2"]),
    "one tensor twice": (pair, ["output_0", "output_1"]),
    "parameters": (lambda net, x: (net.table, net.norm.weight, net.y(x)), ["output_0", "output_1", "output_2"]),
    "no axes": (
        lambda net, x: (net.y(x).sum(), net.scale, net.count, net.shift, net.plain),
        [f"output_{i}" for i in range(5)],
    ),
    "None": (lambda net, x: {"loss": None, "logits": net.y(x)}, ["logits"]),
    "nested": (lambda net, x: {"a": (net.y(x), {"b": [x * 2, None]}), "c": x}, ["a_0", "a_1_b_0", "c"]),
    "an inner value's name": (lambda net, x: {"fc": net.y(x), "norm": net.fc(x) * 2}, ["fc", "norm"]),
    "an input's name": (lambda net, x: {"x": net.y(x), "x_out": x * 2}, ["x_out_2", "x_out"]),
    "a parameter's name": (lambda net, x: {"scale": net.y(x) * net.scale, "z": x * net.scale}, ["scale_out", "z"]),
    "one name twice": (lambda net, x: {"a": (net.y(x),), "a_0": x * 2}, ["a_0", "a_0_out"]),
    "odd names": (lambda net, x: {"a b/c": net.y(x), "": x * 2, "é": x * 3}, ["a b/c", "output", "é"]),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTPUTS)
def test_every_output_keeps_its_name_and_its_numbers(case: str) -> None:
    around, names = OUTPUTS[case]
    net = Net(around)
    exported = export(net, [X])
    folded = fold(exported.model).model
    proto = serialize_model(folded)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in folded.graph.outputs] == names
    report = check_model(net, folded, exported.layers, exported.inputs)
    assert report.judgement.verdict is not Verdict.FAILED  # outputs that never change prove nothing by themselves
    assert {row.tensor for row in report.outputs} == set(names)
    x = np.random.default_rng(0).standard_normal((3, 4))
    got = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x.astype(np.float32)})
    with torch.no_grad():
        leaves = torch.utils._pytree.tree_leaves(net.double()(torch.from_numpy(x)))
    wanted = [leaf.detach().double().numpy() for leaf in leaves if leaf is not None]
    for value, exact in zip(got, wanted, strict=True):
        assert value.shape == exact.shape
        np.testing.assert_allclose(value, exact, rtol=1e-4, atol=1e-5)


def test_arguments_of_a_star_have_a_free_batch_too() -> None:
    net = Net(lambda net, x, *more: net.y(x) + sum(more))
    specs = [X, InputSpec("a", (4,)), InputSpec("b", (4,))]
    exported = export(net, specs)
    assert [[str(size) for size in value.shape] for value in exported.model.graph.inputs] == [["batch", "4"]] * 3
    assert check_model(net, fold(exported.model).model, exported.layers, specs).passed


@pytest.mark.parametrize("t", [torch.tensor(2.0), torch.tensor(3), torch.tensor(True)], ids=str)
def test_a_program_reads_and_returns_tensors_without_axes(tmp_path: Path, t: torch.Tensor) -> None:
    net = Net(lambda net, x, t: (net.y(x) * t, t))
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (torch.zeros(2, 4), t), dynamic_shapes=({0: batch}, (None,)))
    torch.export.save(program, tmp_path / "m.pt2")
    checkpoint = load(tmp_path / "m.pt2")
    exported = export(checkpoint)
    assert exported.inputs[1].sized(7) == ()
    assert check_model(present(checkpoint.program), fold(exported.model).model, exported.layers, exported.inputs).passed


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_that_projects_its_state_is_refused_by_name(bidirectional: bool) -> None:
    """The exporter reads its projection as another direction's weights."""
    model = nn.Sequential(nn.LSTM(4, 6, 2, proj_size=3, batch_first=True, bidirectional=bidirectional)).eval()
    with pytest.raises(ExportError, match="the LSTM 0 projects its state"):
        export(model, [InputSpec("x", (5, 4))])


def test_complex_outputs_are_refused_and_their_two_parts_are_not() -> None:
    with pytest.raises(ExportError, match="returns complex numbers"):
        export(Net(lambda net, x: torch.complex(net.y(x), x)), [X])
    net = Net(lambda net, x: torch.view_as_real(torch.complex(net.y(x), x)))
    exported = export(net, [X])
    assert check_model(net, fold(exported.model).model, exported.layers, exported.inputs).passed


def test_shapes_beyond_the_memory_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="has not the memory for input") as refused:
        export(nn.Conv2d(3, 4, 3).eval(), parse_inputs(["3x9999999x9999999"]))
    assert "\n" not in str(refused.value)
