"""`normexport::live_norm` against float64 numpy, against torch's own norms, and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from normexport.errors import UsageError
from normexport.nn.ops import live_norm
from tests.nn.formulas import KINDS, norm, stat


def run(
    x: np.ndarray | torch.Tensor,
    scale: np.ndarray | torch.Tensor,
    bias: np.ndarray | torch.Tensor,
    kind: str,
    instance: bool = False,
    eps: float = 1e-5,
    correction: float = 0.0,
    k: int = 10,
    chunks: int = 16,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tensors = (torch.as_tensor(each) for each in (x, scale, bias))
    return live_norm(*tensors, kind, instance, eps, correction, k, chunks)


def affine(channels: int, seed: int = 0, dtype: type[np.floating] = np.float32) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(1, 0.5, channels).astype(dtype), generator.normal(0, 1, channels).astype(dtype)


def assert_within(actual: torch.Tensor, expected: np.ndarray, budget: np.ndarray) -> None:
    excess = np.abs(actual.double().numpy() - expected) - budget
    assert not np.isnan(excess).any()
    assert excess.max() <= 0, f"{excess.max()} over the budget"


shapes = st.lists(st.integers(2, 6), min_size=2, max_size=5)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    instance=st.booleans(),
    shape=shapes,
    offset=st.sampled_from([0.0, -3.0, 100.0]),
    sigma=st.sampled_from([1e-3, 1.0, 50.0]),
    chunks=st.integers(1, 20),
    seed=st.integers(0, 2**20),
)
def test_float32_is_within_rounding_of_the_float64_formula(
    kind: str, instance: bool, shape: list[int], offset: float, sigma: float, chunks: int, seed: int
) -> None:
    shape = [*shape, 3] if instance and len(shape) == 2 else shape
    x = np.random.default_rng(seed).normal(offset, sigma, shape).astype(np.float32)
    n = math.prod(shape[2:]) * (1 if instance else shape[0])
    scale, bias = affine(shape[1], seed)
    parameters = {"k": 1 + seed % n, "chunks": chunks}
    y, mean, spread = run(x, scale, bias, kind, instance, **parameters)
    expected, means, stats, budget = norm(kind, x, scale, bias, 1e-5, instance, **parameters)
    assert y.dtype == mean.dtype == spread.dtype == torch.float32
    assert_within(y, expected, budget)
    np.testing.assert_allclose(mean, means, rtol=1e-6, atol=1e-6 * sigma)
    np.testing.assert_allclose(spread, stats, rtol=1e-5, atol=1e-6 * abs(offset))


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_float64_is_computed_in_float64(kind: str, instance: bool) -> None:
    x = np.random.default_rng(1).normal(100, 1e-3, (3, 4, 5, 7))
    scale, bias = affine(4, dtype=np.float64)
    y, mean, spread = run(x, scale, bias, kind, instance)
    expected, means, stats, _ = norm(kind, x, scale, bias, 1e-5, instance)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mean, means, rtol=1e-14)
    np.testing.assert_allclose(spread, stats, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_inputs_keep_float32_statistics(kind: str, dtype: torch.dtype) -> None:
    # The sum of 4096 values near 300 is 1.2e6 and their squares 90,000: beyond fp16; bf16 counts to 256.
    x = (torch.randn(4, 2, 32, 32, generator=torch.Generator().manual_seed(2)) + 300).to(dtype)
    scale, bias = affine(2)
    y, mean, spread = run(x, scale, bias, kind)
    expected, means, stats, _ = norm(kind, x.double().numpy(), scale, bias, 1e-5)
    assert (y.dtype, mean.dtype, spread.dtype) == (dtype, torch.float32, torch.float32)
    np.testing.assert_allclose(mean, means, rtol=1e-6)
    np.testing.assert_allclose(spread, stats, rtol=1e-4)
    # One rounding of the result to the half type, and what float32 lost of the mean.
    np.testing.assert_allclose(y.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-3)


def test_l2_agrees_with_torch_batch_and_instance_norm() -> None:
    x = torch.randn(5, 3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2 + 7
    scale, bias = (torch.tensor(each) for each in affine(3, dtype=np.float64))
    for instance in (False, True):
        y, _, _ = run(x, scale, bias, "l2", instance, eps=0.0)
        compute = functional.instance_norm if instance else functional.batch_norm
        expected = compute(x, None, None, scale, bias, True, 0.0, 1e-30)  # torch refuses 0
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_correction_replaces_the_kinds_own_constant(kind: str) -> None:
    x = np.random.default_rng(4).normal(0, 1, (6, 1, 9))
    _, _, spread = run(x, np.ones(1), np.zeros(1), kind, correction=2.5)
    np.testing.assert_allclose(spread, [stat(kind, x.reshape(-1), correction=2.5)], rtol=1e-12)


def test_known_values_by_hand() -> None:
    x = np.array([-4.0, -1.0, 0.0, 1.0, 4.0]).reshape(5, 1)
    c5 = (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(8 * math.log(5))
    c3 = (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(8 * math.log(3))
    expected = {
        ("l1", 1, 1): math.sqrt(math.pi / 2) * 2,  # (4 + 1 + 0 + 1 + 4) / 5
        ("linf", 1, 1): c5 * 4,
        ("topk", 3, 1): c5 * 3,  # (4 + 4 + 1) / 3
        ("range", 1, 2): 0.35 * c3 * ((0 + 4) / 2 - (-4 + 1) / 2),  # chunks (-4, -1, 0) and (1, 4)
        ("l2", 1, 1): math.sqrt(34 / 5),
    }
    for (kind, k, chunks), value in expected.items():
        _, _, spread = run(x, np.ones(1), np.zeros(1), kind, k=k, chunks=chunks)
        assert float(spread) == pytest.approx(value, rel=1e-12), kind


@pytest.mark.parametrize("kind", KINDS)
def test_one_element_and_constant_channels_give_bias(kind: str) -> None:
    scale, bias = np.array([2, 3], np.float32), np.array([0.5, -7], np.float32)
    one, _, _ = run(np.array([[9, -9]], np.float32), scale, bias, kind, k=1)
    constant, _, _ = run(np.full((4, 2, 3), 8, np.float32), scale, bias, kind, k=5)
    np.testing.assert_array_equal(one, [bias])
    np.testing.assert_array_equal(constant, np.broadcast_to(bias[:, None], (4, 2, 3)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_and_infinity_make_their_channel_nan_and_no_other(kind: str, bad: float) -> None:
    x = np.random.default_rng(5).normal(0, 1, (4, 3, 5))
    x[2, 1, 3] = bad
    y, _, _ = run(x, np.ones(3), np.zeros(3), kind)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()
    y, _, _ = run(x, np.ones(3), np.zeros(3), kind, instance=True, k=3)
    assert y[2, 1].isnan().all()
    assert int(y.isnan().sum()) == 5


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0)])
@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_gives_an_empty_result_and_zero_gradients(
    kind: str, instance: bool, shape: tuple[int, ...]
) -> None:
    x = torch.empty(shape, requires_grad=True)
    scale, bias = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    y, mean, spread = live_norm(x, scale, bias, kind, instance, 1e-5, 0.0, 10, 16)
    assert y.shape == shape
    assert mean.shape == spread.shape == (shape[:2] if instance else (3,))
    y.sum().backward()
    assert x.grad.shape == shape
    np.testing.assert_array_equal(scale.grad, 0)
    np.testing.assert_array_equal(bias.grad, 0)


@pytest.mark.parametrize(("k", "n"), [(11, 10), (0, 10)])
def test_k_beyond_the_elements_is_an_error_in_words(k: int, n: int) -> None:
    with pytest.raises(UsageError, match=rf"{k} largest of the {n} elements .* choose 1 <= k"):
        run(np.zeros((5, 2, 2)), np.ones(2), np.zeros(2), "topk", k=k)
    with pytest.raises(UsageError, match="3 largest of the 2 elements"):
        run(np.zeros((5, 2, 2)), np.ones(2), np.zeros(2), "topk", instance=True, k=3)


@pytest.mark.parametrize(
    ("x", "scale", "kind", "chunks", "words"),
    [
        (np.zeros((2, 3)), np.ones(3), "l3", 1, "not a norm kind"),
        (np.zeros((2, 3)), np.ones(3), "range", 0, "chunks = 0"),
        (np.zeros((2, 3)), np.ones(2), "l1", 1, r"scale has shape \(2,\) where x has 3 channels"),
        (np.zeros((2, 3)), np.ones((1, 3)), "l1", 1, r"scale has shape \(1, 3\)"),
        (np.zeros(3), np.ones(3), "l1", 1, "no channel axis"),
        (np.zeros((2, 3), np.int64), np.ones(3), "l1", 1, "int64"),
    ],
)
def test_wrong_arguments_are_named(x: np.ndarray, scale: np.ndarray, kind: str, chunks: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(x, scale, np.zeros(3), kind, chunks=chunks)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_leaves_before_scaling(kind: str) -> None:
    """Where float32 holds the mean exactly, an offset of 25,000 sigma costs no digit of y."""
    steps = np.array([-7, -3, -2, -1, 1, 2, 3, 7]) * 2.0**-10
    x = np.float32(100 + steps).reshape(8, 1)
    y, mean, _ = run(x, np.ones(1), np.zeros(1), kind, k=2, chunks=2)
    assert float(mean) == 100.0
    expected, _, _, _ = norm(kind, x, np.ones(1), np.zeros(1), 1e-5, k=2, chunks=2)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
