"""Accuracy of the compiled kernels: no worse than PyTorch's own computation of the formula in the same type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport import norms
from normexport.nn.ops import live_norm
from normexport.norms import Scope
from normexport.plugins import norm_call
from tests.plugins.cpu.kernel_cases import EPSILON, KINDS, allowed_error, needs_library

pytestmark = needs_library


@st.composite
def float_case(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[Any, ...]]:
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 30)), draw(st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.standard_normal(shape) * draw(st.sampled_from([1e-6, 1e-3, 1.0, 1e4]))
    x += draw(st.sampled_from([0.0, 0.0, 1.0, -100.0, 3e4]))
    if draw(st.booleans()):  # a heavy tail
        x[rng.random(shape) < 0.02] *= 1e3
    if draw(st.booleans()):  # as after a ReLU
        x = np.maximum(x, x.mean())
    scale, bias = rng.uniform(-3, 3, (2, shape[1]))
    instance = draw(st.booleans())
    n = shape[2] * shape[3] * (1 if instance else shape[0])
    how = (instance, EPSILON, 0.0, draw(st.integers(1, n)), draw(st.integers(1, 20)))
    return x, scale.astype(np.float32), bias.astype(np.float32), how


def errors(
    kind: str, dtype: torch.dtype, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, how: tuple[Any, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ours, torch's, allowed): absolute errors per element against float64 of the same input."""
    values = torch.from_numpy(x).to(dtype)
    tensors = torch.from_numpy(scale), torch.from_numpy(bias)
    instance, epsilon, correction, k, chunks = how
    named: dict[str, Any] = {
        "scope": Scope.of(instance),
        "epsilon": epsilon,
        "correction": correction,
        "k": k,
        "chunks": chunks,
    }
    exact = norms.reference(norms.KINDS[kind], values.double().numpy(), scale, bias, **named)
    ours = norm_call.norm(kind, values, *tensors, **named).double().numpy()
    theirs = live_norm(values, *tensors, kind, *how)[0].double().numpy()
    with np.errstate(invalid="ignore"):
        return np.abs(ours - exact), np.abs(theirs - exact), allowed_error(exact, bias, str(dtype)[6:])


# The rule: per channel, the largest error is at most PyTorch's on the same input; or, since PyTorch's may by luck be
# next to nothing, every element is within the few roundings of the result that any float arithmetic makes.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(case=float_case())
def test_the_error_is_at_most_that_of_pytorch_or_a_few_roundings(
    kind: str, dtype: torch.dtype, case: tuple[np.ndarray, np.ndarray, np.ndarray, tuple[Any, ...]]
) -> None:
    if dtype == torch.float16:
        case = (np.clip(case[0], -6e4, 6e4), *case[1:])
    ours, theirs, allowed = errors(kind, dtype, *case)
    for channel in range(ours.shape[1]):
        within = (ours[:, channel] <= allowed[:, channel]).all()
        assert within or ours[:, channel].max() <= theirs[:, channel].max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_offset_costs_no_accuracy(kind: str) -> None:
    # Mean 100, sigma 1e-3: a float32 near 100 resolves 7.6e-6, so that a mean rounded to float32 is off by up to
    # 0.004 sigma. PyTorch's result has that error; here the mean keeps its lower half.
    rng = np.random.default_rng(0)
    x = (100 + 1e-3 * rng.standard_normal((8, 4, 56, 56))).astype(np.float32)
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    ours, theirs, allowed = errors(kind, torch.float32, x, one, zero, (False, EPSILON, 0.0, 10, 16))
    assert (ours <= allowed).all()
    assert ours.max() < theirs.max() / 20
