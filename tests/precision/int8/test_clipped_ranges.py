"""What a ReLU or Clip alone reads needs no range of its own: the result's does the clipping."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from normexport.precision.half.search import group_of
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import quantize
from normexport.runtime import OnnxRuntime
from tests.precision import nets
from tests.precision.nets import images

pytestmark = pytest.mark.slow


def everything_seen(model: ir.Model, x: np.ndarray) -> dict[str, tuple[float, float]]:
    """The extremes of every tensor of a model, without `calibrate`."""
    runtime = OnnxRuntime(model)
    names = [str(value.name) for node in model.graph for value in node.outputs]
    values = {"input": x, **runtime.run({"input": x}, names, None)}
    return {name: (float(array.min()), float(array.max())) for name, array in values.items()}


@pytest.mark.parametrize("symmetric", [False, True])
def test_what_a_relu_alone_reads_needs_no_range_for_the_same_file(symmetric: bool) -> None:
    model, _ = nets.folded(branching)
    whole = everything_seen(model, images())
    found = calibrate(model, [{"input": images()}], "minmax", symmetric=symmetric).ranges
    assert found == {name: whole[name] for name in found}
    left_out = set(whole) - set(found)
    assert len(left_out) == 3  # in front of two ReLUs and a Clip; not in front of the one whose source is added too
    left, right = (quantize(model, ranges, symmetric=symmetric).model for ranges in (whole, found))
    assert ir.to_proto(left) == ir.to_proto(right)


def test_a_relu_that_stays_float32_by_itself_takes_what_its_layer_computes() -> None:
    model, _ = nets.folded(branching)
    found = calibrate(model, [{"input": images()}], "minmax").ranges
    relu = next(node for node in model.graph if node.op_type == "Relu")
    layer = relu.inputs[0]
    kept = quantize(model, found, exclude=[group_of(relu)]).model
    nodes = {node.op_type + str(node.outputs[0].name): node for node in kept.graph}
    same = nodes[f"Relu{relu.outputs[0].name}"]
    assert same.inputs[0] is not None
    assert layer is not None
    assert same.inputs[0].name == layer.name  # no pair between the two


class Branching(nn.Module):
    """Three layers whose ReLU or Clip alone reads them, and one that is added to what its ReLU makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 6, 3), nn.ReLU()
        self.second, self.third = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.fourth, self.head = nn.Conv2d(6, 6, 3), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.first(x))
        y = self.second(x)
        x = torch.relu(self.third(y + torch.relu(y)))
        return self.head(torch.clamp(self.fourth(x), 0, 6).mean((2, 3)))


def branching() -> nn.Module:
    torch.manual_seed(4)
    return Branching().eval()
