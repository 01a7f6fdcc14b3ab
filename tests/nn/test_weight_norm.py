"""`bounded_weight_norm`: the norm stays, the direction trains."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from normexport.errors import UsageError
from normexport.nn import BoundedWeightNorm, bounded_weight_norm, ops, remove_bounded_weight_norm

#: A layer, and the axis of its outputs.
LAYERS: dict[str, Callable[[], tuple[Any, int]]] = {
    "conv1d": lambda: (nn.Conv1d(4, 6, 3, groups=2), 0),
    "conv2d": lambda: (nn.Conv2d(4, 6, 3), 0),
    "conv3d": lambda: (nn.Conv3d(2, 4, 2), 0),
    "transposed": lambda: (nn.ConvTranspose2d(4, 6, 3), 1),
    "linear": lambda: (nn.Linear(5, 7), 0),
}


def p_norm(values: np.ndarray, p: float) -> float:
    values = np.abs(np.asarray(values, np.float64)).reshape(-1)
    return values.max() if math.isinf(p) else (values**p).sum() ** (1 / p)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("layer", list(LAYERS))
def test_slices_share_one_norm_and_the_layer_keeps_its_own(layer: str, p: float) -> None:
    module, dim = LAYERS[layer]()
    before = array(module.weight)
    same: Any = bounded_weight_norm(module, dim=dim, p=p)
    assert same is module
    slices = np.moveaxis(array(module.weight), dim, 0)
    rho = module.parametrizations.weight[0].rho
    assert rho.shape == (1,)
    np.testing.assert_allclose([p_norm(s, p) for s in slices], float(rho), rtol=1e-5)
    np.testing.assert_allclose(p_norm(slices, p), p_norm(before, p), rtol=1e-5)
    # Only lengths changed: each slice points where it pointed.
    for old, new in zip(np.moveaxis(before, dim, 0), slices, strict=True):
        np.testing.assert_allclose(new / p_norm(new, p), old / p_norm(old, p), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_whole_tensor_as_one_slice_starts_as_the_weight_itself(dtype: torch.dtype) -> None:
    module: Any = nn.Conv2d(3, 4, 3).to(dtype)
    before = module.weight.detach().clone()
    bounded_weight_norm(module, dim=None)
    assert torch.equal(module.weight, before)
    assert float(module.parametrizations.weight[0].rho) == pytest.approx(p_norm(array(before), 2), rel=1e-6)


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
def test_the_operator_is_rho_v_over_its_norm(axis: int, p: float) -> None:
    v = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = ops.bounded_weight_norm(v, torch.tensor(1.5), axis, p)
    axes = tuple(i for i in range(3) if i != axis)
    size = np.abs(v.numpy())
    norms = size.max(axes, keepdims=True) if math.isinf(p) else (size**p).sum(axes, keepdims=True) ** (1 / p)
    np.testing.assert_allclose(w, 1.5 * v.numpy() / norms, rtol=1e-6)


def test_a_rho_per_slice_and_half_weights() -> None:
    v = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)) * 1000  # squares overflow fp16
    rho = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    w = ops.bounded_weight_norm(v.half(), rho, 0, 2.0)
    assert w.dtype == torch.half
    np.testing.assert_allclose([p_norm(s, 2) for s in w.double().numpy()], [1, 2, 3], rtol=1e-3)


def test_bias_like_vectors_have_slices_of_one_element() -> None:
    w = ops.bounded_weight_norm(torch.tensor([3.0, -4.0]), torch.tensor([2.0]), 0, 2.0)
    assert w.tolist() == [2.0, -2.0]


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_training_lets_v_grow_and_w_stays_bounded(precision: torch.dtype | None) -> None:
    torch.manual_seed(0)
    module: Any = bounded_weight_norm(nn.Linear(6, 4))
    rho = float(module.parametrizations.weight[0].rho)
    x, target = torch.randn(64, 6), torch.randn(64, 4)
    optimizer = torch.optim.SGD(module.parameters(), lr=2.0)
    lengths, losses = [], []
    for _ in range(30):
        with torch.autocast("cpu", precision, enabled=precision is not None):
            loss = (module(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        lengths.append(p_norm(array(module.parametrizations.weight.original), 2))
        np.testing.assert_allclose([p_norm(row, 2) for row in array(module.weight)], rho, rtol=1e-5)
    # The gradient is orthogonal to v, so each step can only lengthen it.
    assert lengths[-1] > 1.01 * lengths[0]
    assert losses[-1] < losses[0]


def test_a_state_dict_round_trip_keeps_v_and_rho() -> None:
    layers: list[Any] = [bounded_weight_norm(nn.Conv2d(3, 4, 3), p=3.0) for _ in range(2)]
    trained, fresh = layers
    state = trained.state_dict()
    assert set(state) == {"bias", "parametrizations.weight.original", "parametrizations.weight.0.rho"}
    assert not torch.equal(trained.weight, fresh.weight)
    fresh.load_state_dict(state)
    assert torch.equal(trained.weight, fresh.weight)
    twin = copy.deepcopy(trained)
    assert torch.equal(twin.weight, trained.weight)
    with pytest.raises(RuntimeError, match=r"stored with axis=0, p=3.0, and this weight norm has axis=0, p=2.0"):
        bounded_weight_norm(nn.Conv2d(3, 4, 3)).load_state_dict(state)


def test_removal_leaves_a_plain_weight_equal_to_the_normalised_one() -> None:
    module: Any = bounded_weight_norm(nn.ConvTranspose1d(3, 4, 5), dim=1)
    with torch.no_grad():
        module.parametrizations.weight.original.mul_(7)
    normalised = module.weight.detach().clone()
    assert remove_bounded_weight_norm(module) is module
    assert not parametrize.is_parametrized(module)
    assert isinstance(module.weight, nn.Parameter)
    assert torch.equal(module.weight, normalised)
    assert set(module.state_dict()) == {"weight", "bias"}


def test_assigning_a_weight_sets_its_direction() -> None:
    module: Any = bounded_weight_norm(nn.Linear(2, 1, bias=False), dim=0)
    rho = float(module.parametrizations.weight[0].rho)
    with torch.no_grad():
        module.weight = torch.tensor([[30.0, 40.0]])
    np.testing.assert_allclose(array(module.weight), [[0.6 * rho, 0.8 * rho]], rtol=1e-6)


def test_whatever_has_no_direction_or_no_such_axis_is_refused() -> None:
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight[1] = 0
    with pytest.raises(UsageError, match=r"Linear.weight: is all zero in slice 1 of axis 0"):
        bounded_weight_norm(module)
    with pytest.raises(UsageError, match="has no axis 2"):
        bounded_weight_norm(nn.Linear(3, 2), dim=2)
    with pytest.raises(UsageError, match=r"p = 0 is not a norm"):
        bounded_weight_norm(nn.Linear(3, 2), p=0)
    with pytest.raises(UsageError, match=r"Linear.gain: is not a tensor"):
        bounded_weight_norm(nn.Linear(3, 2), "gain")
    with pytest.raises(UsageError, match="parametrized already"):
        bounded_weight_norm(bounded_weight_norm(nn.Linear(3, 2)))
    with pytest.raises(UsageError, match="no bounded weight norm"):
        remove_bounded_weight_norm(nn.Linear(3, 2))


def test_removal_refuses_where_others_stand_on_top() -> None:
    module: Any = bounded_weight_norm(nn.Linear(3, 2))
    parametrize.register_parametrization(module, "weight", nn.Identity())
    with pytest.raises(UsageError, match="other parametrizations besides"):
        remove_bounded_weight_norm(module)


@pytest.mark.parametrize(
    ("rho", "axis", "p", "words"),
    [
        (torch.ones(1), 2, 2.0, "no axis 2"),
        (torch.ones(1), 0, -1.0, "p = -1.0 is not a norm"),
        (torch.ones(2), 0, 2.0, "does not broadcast"),
        (torch.ones(1, 1, 1), 0, 2.0, "does not broadcast"),
    ],
)
def test_wrong_operator_arguments_are_named(rho: torch.Tensor, axis: int, p: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ops.bounded_weight_norm(torch.ones(2, 3), rho, axis, p)


@pytest.mark.slow
def test_compiles_and_exports_as_one_operator() -> None:
    module: Any = bounded_weight_norm(nn.Conv2d(3, 4, 3))
    x = torch.randn(2, 3, 5, 5)
    compiled: Callable[..., torch.Tensor] = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), module(x))
    program = torch.export.export(module, (x,))
    assert [str(n.target) for n in program.graph.nodes].count("normexport.bounded_weight_norm.default") == 1
    assert isinstance(module.parametrizations.weight[0], BoundedWeightNorm)
