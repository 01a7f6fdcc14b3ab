"""Models that are honest in ways a rule is easily written without: half inputs, sizes as outputs, tiny results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normexport import nn as nxn
from normexport.errors import FoldError, UsageError
from normexport.folding import fold
from normexport.onnx_export import InputSpec, export
from normexport.proof import ParityReport, check_model, check_torch
from normexport.runtime import OnnxRuntime

pytestmark = pytest.mark.slow


class Net(nn.Module):
    """A convolution and a norm inside `around(net, x)`."""

    def __init__(self, around: Callable[..., Any] = lambda net, x: net.norm(net.conv(x))) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.around = nn.Conv2d(3, 4, 3), nxn.L1BatchNorm2d(4), around
        for value in (self.norm.running_mean, self.norm.running_scale, self.norm.bias):
            value.data = torch.rand(4) + 0.5
        self.norm.weight.data = torch.tensor([1.0, -2.0, 0.5, -0.25])
        self.eval()

    def forward(self, x: torch.Tensor) -> object:
        return self.around(self, x)


def judged(model: nn.Module, dtype: str = "float32", *, program: bool = False) -> ParityReport:
    spec = InputSpec("x", (3, 8, 8), dtype)
    exported = export(model, [spec])
    reference: Any = model
    if program:
        sample = torch.zeros(2, 3, 8, 8, dtype=getattr(torch, dtype))
        reference = torch.export.export(model, (sample,), dynamic_shapes=({0: torch.export.Dim("n")},))
    return check_model(reference, fold(exported.model).model, exported.layers, exported.inputs)


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "bool"])
def test_inputs_of_other_types_that_the_model_casts_pass(dtype: str) -> None:
    assert judged(Net(lambda net, x: net.norm(net.conv(x.float()))), dtype).passed


@pytest.mark.parametrize("program", [False, True])
def test_a_half_precision_model_is_held_to_half_precision(program: bool) -> None:
    report = judged(Net().half(), "float16", program=program)
    assert report.passed
    assert (report.precision, report.baseline) == ("float16", "PyTorch float16")


def test_types_that_onnx_runtime_lacks_are_refused_with_a_way_out() -> None:
    with pytest.raises(FoldError, match="convert the model to float32"):
        judged(Net().double(), "float64")


def test_sizes_of_the_input_are_outputs_too() -> None:
    model = Net(lambda net, x: (net.norm(net.conv(x)), x.shape[0]))
    assert judged(model).passed
    assert check_torch(model, model, [InputSpec("x", (3, 8, 8))]).passed


def test_results_below_the_smallest_normal_number_pass() -> None:
    assert judged(Net(lambda net, x: net.norm(net.conv(x)) * 1e-40)).passed


def test_a_comparison_that_proves_little_says_so() -> None:
    report = judged(Net(lambda net, x: net.norm(net.conv(x)) + torch.rand_like(net.conv(x))))
    assert len(report.notes) == 3
    assert "off PyTorch float64, and a candidate may be too" in report.notes[0]
    assert not judged(Net()).notes


class Named(nn.Module):
    """Reads a dict and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, images: dict[str, torch.Tensor], *, scale: torch.Tensor) -> torch.Tensor:
        return self.net(images["x"]) * scale + images["y"]


def test_a_program_is_fed_in_the_structure_it_was_exported_with(capfd: pytest.CaptureFixture[str]) -> None:
    images = {"x": torch.zeros(2, 3, 8, 8), "y": torch.zeros(2, 1, 1, 1)}
    program = torch.export.export(Named().eval(), (images,), {"scale": torch.zeros(2, 1, 1, 1)})
    exported = export(program)
    assert check_model(program, exported.model, exported.layers, exported.inputs).passed
    assert check_torch(program, program, exported.inputs).passed
    assert not capfd.readouterr().err


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor, factor: float) -> torch.Tensor:
        return x * factor


def test_a_program_keeps_the_number_that_it_was_exported_with() -> None:
    program = torch.export.export(Scaled(), (torch.zeros(2, 3), 2.5))
    exported = export(program)
    assert [spec.name for spec in exported.inputs] == ["x"]
    assert check_model(program, exported.model, exported.layers, exported.inputs).passed
    x = np.ones((2, 3), np.float32)
    (found,) = OnnxRuntime(exported.model).run({"x": x}).values()
    np.testing.assert_array_equal(found, 2.5 * x)


def test_a_program_that_reads_a_size_of_its_own_is_refused_by_name() -> None:
    sizes = ({0: torch.export.Dim("batch")}, torch.export.Dim.DYNAMIC)
    program = torch.export.export(Scaled(), (torch.zeros(2, 3), 4), dynamic_shapes=sizes)
    with pytest.raises(UsageError, match="input factor: of the exported program is not a tensor"):
        export(program)
