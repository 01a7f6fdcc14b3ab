"""What goes in and out of an exported file, and of its modules, whatever a model returns and a rewrite fuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from normexport import nn as nxn
from normexport.errors import ExportError
from normexport.onnx_export import InputSpec, export
from normexport.proof import check_model

pytestmark = pytest.mark.slow


def randomise(model: nn.Module) -> nn.Module:
    """Running statistics and affine parameters that are neither 0 nor 1."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point() and value.dim() == 1:
            value.data = torch.rand(value.shape) + (0.5 if "running_" in name else -0.5)
    return model.eval()


class Returning(nn.Module):
    """A convolution and a norm, returned as `arrange(x, y)` says."""

    def __init__(self, arrange: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.norm, self.arrange = nn.Conv2d(3, 4, 3), nxn.L1BatchNorm2d(4), arrange

    def forward(self, x: torch.Tensor) -> object:
        return self.arrange(x, self.norm(self.conv(x)))


@pytest.mark.parametrize(
    ("arrange", "names"),
    [
        (lambda x, y: (None, y), ["output_1"]),
        (lambda x, y: {"y": y, "aux": None, "more": [y.relu(), None]}, ["y", "more_0"]),
        (lambda x, y: (x, y), ["output_0", "output_1"]),
        (lambda x, y: {"image": x, "y": y}, ["image_out", "y"]),
        (lambda x, y: (y, y), ["output_0", "output_1"]),
    ],
)
def test_inputs_and_outputs_keep_their_names_whatever_the_model_returns(
    arrange: Callable[..., Any], names: list[str]
) -> None:
    model, spec = randomise(Returning(arrange)), InputSpec("image", (3, 8, 8))
    exported = export(model, [spec])
    assert [value.name for value in exported.model.graph.inputs] == ["image"]
    assert [value.name for value in exported.model.graph.outputs] == names
    assert check_model(model, exported.model, exported.layers, exported.inputs).passed


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda x, y: (y, 3), "returns 3, which is not a tensor"),
        (lambda x, y: {"y": y, "kind": "map"}, "returns 'map', which is not a tensor"),
        (lambda x, y: None, "returns no tensor"),
    ],
)
def test_outputs_that_are_no_tensors_are_refused_by_name(arrange: Callable[..., Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(randomise(Returning(arrange)), [InputSpec("image", (3, 8, 8))])


def test_boundary_that_a_rewrite_fused_away_is_not_another_tensor() -> None:
    """Two transposes in line become one: what is left of the first module is not its output."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x).transpose(1, 2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.norm = Last(), nxn.L1BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.last(x).transpose(1, 2).relu())

    model = randomise(Net())
    exported = export(model, [InputSpec("x", (4, 4))])
    assert "last" not in [layer.path for layer in exported.layers]
    assert "norm" in [layer.path for layer in exported.layers]
    assert check_model(model, exported.model, exported.layers, exported.inputs).passed
