"""`RunningNorm` and its operator against float64 numpy."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.errors import CheckpointError, UsageError
from normexport.nn import RunningNorm
from normexport.nn.ops import running_norm
from normexport.norms import AffineParams
from tests.narrow import present


def params(channels: int = 3, seed: int = 0) -> AffineParams:
    generator = np.random.default_rng(seed)
    return AffineParams(
        generator.normal(5, 1, channels),
        generator.uniform(0.5, 2, channels),
        generator.normal(0, 1, channels),
        generator.normal(0, 1, channels),
    )


def expected(x: np.ndarray, p: AffineParams) -> np.ndarray:
    """(x - mean) * inv_scale * gamma + beta on axis 1, float64."""
    mean, inv_scale, gamma, beta = (
        v.reshape(1, -1, *[1] * (x.ndim - 2)) for v in (p.mean, p.inv_scale, p.gamma, p.beta)
    )
    return (np.asarray(x, np.float64) - mean) * inv_scale * gamma + beta


@settings(max_examples=30)
@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    channels=st.integers(1, 6),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_values_are_the_affine_map_rounded_to_the_inputs_type(
    shape: list[int], channels: int, dtype: torch.dtype, seed: int
) -> None:
    p, rest = params(channels, seed), shape[1:]
    x = torch.tensor(np.random.default_rng(seed).normal(5, 2, (shape[0], channels, *rest))).to(dtype)
    y = RunningNorm(p, "l1", torch.float64)(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    # Rounding to float32 of numbers up to about 15, times gains up to about 8; then the result's own type.
    eps = torch.finfo(dtype).eps
    np.testing.assert_allclose(y.double(), expected(x.double().numpy(), p), rtol=eps, atol=200 * min(eps, 2**-23))


def test_a_tiny_spread_on_a_large_offset_is_kept() -> None:
    x = (100 + 1e-3 * np.random.default_rng(0).normal(size=(8, 1, 50))).astype(np.float32)
    p = AffineParams(*(np.array([v]) for v in (100.0, 1e3, 1.0, 0.0)))
    y = RunningNorm(p, "l2")(torch.tensor(x))
    np.testing.assert_allclose(y, expected(x, p), rtol=1e-6)  # x - 100 is exact: no digit is lost before scaling


def test_half_keeps_the_buffers_in_float32() -> None:
    p = AffineParams(*(np.array([v]) for v in (0.0, 1e5, 1e-5, 0.0)))  # 1e5 overflows fp16
    module = RunningNorm(p, "topk").half()
    assert {b.dtype for b in module.buffers()} == {torch.float32}
    assert module(torch.tensor([[0.5]], dtype=torch.half)).item() == pytest.approx(0.5, rel=1e-3)
    assert {b.dtype for b in module.double().buffers()} == {torch.float64}


def test_state_dict_rebuilds_the_module_even_from_a_safe_file() -> None:
    model = torch.nn.Sequential(torch.nn.ReLU(), RunningNorm(params(), "range"))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert set(state) == {f"1.{name}" for name in ("mean", "inv_scale", "weight", "bias")}
    again = RunningNorm.from_state_dict(state, "1.")
    x = torch.randn(2, 3, 4)
    assert again.kind == "range"
    assert torch.equal(again(x), model[1](x))


def test_rebuilding_says_what_is_missing() -> None:
    state = RunningNorm(params(), "l1").state_dict()
    bare = dict(state)
    with pytest.raises(CheckpointError, match="kind of norm is unknown; pass kind="):
        RunningNorm.from_state_dict(bare)
    assert RunningNorm.from_state_dict(bare, kind="linf").kind == "linf"
    del bare["inv_scale"]
    with pytest.raises(CheckpointError, match="state_dict: no inv_scale"):
        RunningNorm.from_state_dict(bare)


def test_params_pickle_deepcopy_and_affine_params_agree() -> None:
    p, x = params(), torch.randn(2, 3, 4, dtype=torch.float64)
    module = RunningNorm(p, "l1", torch.float64)
    for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert torch.equal(twin(x), module(x))
    for name in ("mean", "inv_scale", "gamma", "beta"):
        np.testing.assert_array_equal(getattr(module.affine_params(), name), getattr(p, name))
    assert module.num_features == 3
    assert repr(module) == "RunningNorm(3, kind='l1')"


def test_gradients_reach_input_and_parameters_but_buffers_are_not_trained() -> None:
    module = RunningNorm(params(), "l1", torch.float64)
    assert not list(module.parameters())
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    slope = params().coefficients()[0].reshape(1, 3, 1)
    np.testing.assert_allclose(present(x.grad), np.broadcast_to(slope, (2, 3, 4)), rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "kind", "words"),
    [
        (torch.zeros(2, 4), "l1", r"mean has shape \(3,\) where x has 4 channels"),
        (torch.zeros(3), "l1", "no channel axis"),
        (torch.zeros(2, 3, dtype=torch.int8), "l1", "int8"),
        (torch.zeros(2, 3), "lp", "not a norm kind"),
    ],
)
def test_wrong_inputs_are_named(x: torch.Tensor, kind: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        running_norm(x, *[torch.ones(3)] * 4, kind)


@pytest.mark.slow
def test_compiles_and_exports_as_one_operator() -> None:
    module, x = RunningNorm(params(), "l1"), torch.randn(4, 3, 5)
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="aot_eager")(x), module(x))
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called == ["normexport.running_norm.default"]
    torch.testing.assert_close(program.module()(x[:1]), module(x[:1]))
