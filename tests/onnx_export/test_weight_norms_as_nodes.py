"""Weight norms of every kind and axis, written to ONNX: what ONNX Runtime computes is torch's float64 result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.utils import weight_norm as hooked
from torch.nn.utils.parametrizations import weight_norm as parametrized

from normexport import convert, export, load
from normexport.nn import bounded_weight_norm
from tests.narrow import present

pytestmark = pytest.mark.slow

WEIGHT_NORMS: dict[str, Callable[..., Any]] = {
    "hooked": hooked,
    "parametrized": parametrized,
    "bounded": bounded_weight_norm,
}


class Scaling(nn.Module):
    """y = weight * x, weight (4,)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.5, -2.0, 0.7, 0.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def network(
    kind: str, dim: int | None, layer: Callable[[], nn.Module] = Scaling, name: str = "weight"
) -> nn.Sequential:
    """A layer under weight norm whose parts have moved since, so that v is not of its first length."""
    torch.manual_seed(0)
    made = WEIGHT_NORMS[kind](layer(), name, dim=dim)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(torch.rand_like(parameter) + 0.5)
    return nn.Sequential(made).eval()


def computed(path: Path, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]


@pytest.mark.parametrize("dim", [None, 0, -1])
@pytest.mark.parametrize("kind", WEIGHT_NORMS)
def test_a_vector_under_weight_norm_is_exported_and_converted_as_torch_computes_it(
    kind: str, dim: int | None, tmp_path: Path
) -> None:
    model = network(kind, dim)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    with torch.no_grad():
        expected = network(kind, dim).double()(torch.from_numpy(x).double()).numpy()
    export(network(kind, dim), ["4"], tmp_path / "module.onnx")
    checkpoint = load(tmp_path / "net.pt", model=lambda: network(kind, dim))
    export(checkpoint, ["4"], tmp_path / "state.onnx")
    assert convert(checkpoint, tmp_path / "out", ["4"]).passed
    for path in ("module.onnx", "state.onnx", "out/model.onnx"):
        np.testing.assert_allclose(computed(tmp_path / path, x), expected, rtol=1e-5, err_msg=path)


@pytest.mark.parametrize("dim", [None, 0, 1, -1])
@pytest.mark.parametrize("kind", WEIGHT_NORMS)
def test_a_matrix_under_weight_norm_is_exported_as_torch_computes_it(
    kind: str, dim: int | None, tmp_path: Path
) -> None:
    def layer() -> nn.Linear:
        return nn.Linear(4, 5)

    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    with torch.no_grad():
        expected = network(kind, dim, layer).double()(torch.from_numpy(x).double()).numpy()
    export(network(kind, dim, layer), ["4"], tmp_path / "module.onnx")
    np.testing.assert_allclose(computed(tmp_path / "module.onnx", x), expected, rtol=1e-5, atol=1e-6)


def test_a_vector_stored_under_weight_norm_loads_into_a_plain_layer(tmp_path: Path) -> None:
    model = network("hooked", 0)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    loaded = load(tmp_path / "net.pt", model=lambda: nn.Sequential(Scaling()))
    stored: Any = model[0]
    v, g = stored.weight_v.detach().double(), stored.weight_g.detach().double()
    plain: Any = present(loaded.model).get_submodule("0")
    torch.testing.assert_close(plain.weight.double(), g * torch.sign(v), rtol=1e-6, atol=0)
    assert [record.layout for record in loaded.weight_norms] == ["torch-weight-norm"]
