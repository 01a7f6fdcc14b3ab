"""Elementary functions as exact in ONNX as torch computes them, at their corners too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normexport.onnx_export import InputSpec, export
from normexport.proof import check_model
from normexport.runtime import OnnxRuntime

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "log_sigmoid": nn.functional.logsigmoid,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
}


class Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Tensor:
        return self.function(*given)


def computed(function: Callable[..., Tensor], *given: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime gives for the exported function, and torch in float64."""
    specs = [InputSpec(f"x{number}", tuple(each.shape[1:])) for number, each in enumerate(given)]
    found = export(Function(function).eval(), specs)
    feeds = {spec.name: each.numpy() for spec, each in zip(found.inputs, given, strict=True)}
    (got,) = OnnxRuntime(found.model).run(feeds).values()
    return got, function(*(each.double() for each in given)).numpy()


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e-3, 0.3, 1.0, 30.0])
def test_it_is_float32s_own_error_off_at_every_size(name: str, scale: float) -> None:
    x = scale * torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    x = x.abs() if name == "log1p" and scale >= 0.3 else x
    got, exact = computed(UNARY[name], x)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(got, exact.astype(np.float32), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("name", UNARY)
def test_ends_are_what_torch_says(name: str) -> None:
    x = torch.tensor([[-np.inf, -200.0, -1.0, 0.0, 80.0, np.inf, np.nan]])
    got, exact = computed(UNARY[name], x)
    np.testing.assert_allclose(got, exact, rtol=1e-6)


def test_the_angle_is_right_on_the_axes_too() -> None:
    grid = torch.tensor([-2.0, -1e-3, 0.0, 1e-3, 2.0])
    y, x = (each.reshape(1, -1) for each in torch.meshgrid(grid, grid, indexing="ij"))
    got, exact = computed(torch.atan2, y, x)
    np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", UNARY)
def test_onnx_runtime_has_the_operators_in_float64_too(name: str) -> None:
    got, exact = computed(lambda x: UNARY[name](x.double()).float(), torch.linspace(-0.9, 2, 12).reshape(2, 6))
    np.testing.assert_allclose(got, exact, rtol=1e-6)


@pytest.mark.parametrize("name", UNARY)
def test_a_network_that_ends_in_it_passes(name: str) -> None:
    model = Function(lambda x: UNARY[name](1e-4 * x.abs())).eval()
    found = export(model, [InputSpec("x", (6,))])
    assert check_model(model, found.model, found.layers, found.inputs).passed
