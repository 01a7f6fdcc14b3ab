"""Training by the compiled kernels: what numpy computes in float64, and eager PyTorch at every edge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normexport.errors import UsageError
from normexport.nn.ops import live_norm
from normexport.nn.ops.native import native_norm
from normexport.plugins import kernels, training_call
from tests.nn.formulas import KINDS
from tests.nn.numpy_step import EPS, step
from tests.plugins.cpu.kernel_cases import needs_library

pytestmark = needs_library

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def ours(kind: str, x: Tensor, grads: list[Tensor], scale: Tensor, bias: Tensor, k: int, chunks: int) -> list[Tensor]:
    given = [each.detach().requires_grad_() for each in (x, scale, bias)]
    found = native_norm(*given, kind, EPS, 0.0, k, chunks)[:3]
    return [*(each.detach() for each in found), *torch.autograd.grad(found, given, grads)]


def eager(kind: str, x: Tensor, grads: list[Tensor], scale: Tensor, bias: Tensor, k: int, chunks: int) -> list[Tensor]:
    given = [each.detach().requires_grad_() for each in (x, scale, bias)]
    found = live_norm(*given, kind, False, EPS, 0.0, k, chunks, 0)
    return [*(each.detach() for each in found), *torch.autograd.grad(found, given, grads)]


def case(
    shape: tuple[int, ...], dtype: torch.dtype, seed: int, levels: int = 0
) -> tuple[Tensor, list[Tensor], Any, Any]:
    """x, of few values where `levels` says so, the gradients of the three results, scale and bias."""
    made = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=made, dtype=dtype)
    x = (x * levels).round() / 4 if levels else x * 2 + 1
    g = torch.randn(shape, generator=made, dtype=dtype)
    vectors = [torch.randn(shape[1], generator=made, dtype=dtype) for _ in range(4)]
    return x, [g, *vectors[:2]], vectors[2], vectors[3]


def laid_out(x: Tensor, last: bool) -> Tensor:
    return x.contiguous(memory_format=FORMATS[x.dim()]) if last and x.dim() in FORMATS else x


@settings(max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    samples=st.integers(1, 5),
    channels=st.sampled_from([1, 2, 5, 16, 63, 70]),
    space=st.lists(st.integers(1, 9), min_size=0, max_size=3),
    last=st.booleans(),
    levels=st.sampled_from([0, 0, 1, 3]),
    chunks=st.integers(1, 9),
    seed=st.integers(0, 2**20),
)
def test_a_step_is_that_of_float64_numpy(
    kind: str,
    dtype: torch.dtype,
    samples: int,
    channels: int,
    space: list[int],
    last: bool,
    levels: int,
    chunks: int,
    seed: int,
) -> None:
    """In float32, within 32 roundings of the largest; equals are numbers whose d is exact, so that they tie in both."""
    shape = (2 * samples, channels, *space)
    n = math.prod(shape) // channels
    x, grads, scale, bias = case(shape, dtype, seed, levels)
    if levels:  # a mean of exactly 0
        x[samples:] = -x[:samples]
    x, grads[0] = laid_out(x, last), laid_out(grads[0], last and seed % 2 == 0)
    parameters = {"k": 1 + seed % n, "chunks": chunks}
    found = ours(kind, x, grads, scale, bias, **parameters)
    right = step(kind, x, grads, scale, bias, **parameters)
    assert found[0].stride() == x.stride() == found[3].stride()
    unit = 2.0**-24 if dtype == torch.float32 else 2.0**-53
    reach = float((np.abs(scale.double().numpy()) / (right[2] + EPS)).max())  # of an error of d or of g
    for name, a, b in zip(("y", "mean", "stat", "dx", "dscale", "dbias"), found, right, strict=True):
        largest = max(np.abs(b).max(), reach * float(x.abs().max()) if name == "y" else 0, 1.0)
        if name in ("dx", "dscale"):
            largest = largest * (1 + float(x.abs().max()) * reach)
        np.testing.assert_allclose(a.double().numpy(), b, rtol=0, atol=64 * unit * largest, err_msg=name)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", KINDS)
def test_large_tensors_of_many_pieces_too(kind: str, last: bool) -> None:
    """Several pieces a channel, rows that end within a vector, a ReLU's equals, an offset beside a small spread.

    Where d is within rounding of 0 its sign, and so L1's slope, is anybody's: such elements are left out.
    """
    for shape, levels in (((3, 3, 211, 199), 0), ((9, 70, 31, 37), 3), ((40, 300, 9, 9), 0)):
        x, grads, scale, bias = case(shape, torch.float32, 1, levels)
        x = laid_out(x.relu() if levels else x / 100 + 3, last)
        found = ours(kind, x, grads, scale, bias, 10, 16)
        wide = [each.double() for each in (x, *grads, scale, bias)]
        right = eager(kind, wide[0], wide[1:4], wide[4], wide[5], 10, 16)
        clear = (wide[0] - right[1].reshape(1, -1, 1, 1)).abs() > 1e-6
        assert clear.float().mean() > 0.99
        for name, a, b in zip(("y", "mean", "stat", "dx", "dscale", "dbias"), found, right, strict=True):
            error = (a.double() - b).abs() * (clear if name == "dx" else 1)
            assert error.max() <= 1e-4 * max(1.0, float(b.abs().max())), (name, shape)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_threads(kind: str, last: bool) -> None:
    for shape in ((3, 5, 130, 131), (16, 80, 30, 30)):
        x, grads, scale, bias = case(shape, torch.float32, 2)
        results, before = [], torch.get_num_threads()
        try:
            for threads in (1, 2, 3, 7):
                torch.set_num_threads(threads)
                results.append(ours(kind, laid_out(x, last), grads, scale, bias, 10, 16))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("where", ["x", "g"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_spoils_what_it_spoils_in_eager(kind: str, value: float, where: str, last: bool) -> None:
    x, grads, scale, bias = case((4, 3, 9, 11), torch.float32, 3)
    (x if where == "x" else grads[0])[1, 1, 2, 3] = value
    x = laid_out(x, last)
    found, right = (step(kind, x, grads, scale, bias, 5, 4) for step in (ours, eager))
    for a, b in zip(found, right, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
        assert torch.equal(a.isnan(), b.isnan()) or where == "g"
    assert all(each.select(0 if each.dim() == 1 else 1, 0).isfinite().all() for each in found)  # of another channel


@pytest.mark.parametrize("kind", KINDS)
def test_constant_channels_and_single_elements_give_bias_and_no_gradient(kind: str) -> None:
    for x in (torch.full((4, 2, 5, 3), 0.1), torch.randn(1, 2), torch.randn(1, 2, 1, 1)):
        n = x.numel() // 2
        g = torch.randn(x.shape)
        zero = torch.zeros(2)
        found = ours(kind, x, [g, zero, zero], torch.tensor([2.0, 3.0]), torch.tensor([0.5, -1.0]), 1, 1)
        right = eager(
            kind, x.double(), [g.double(), zero.double(), zero.double()], torch.tensor([2.0, 3.0]), zero, 1, 1
        )
        assert torch.equal(found[0], torch.tensor([0.5, -1.0]).reshape(1, 2, *[1] * (x.dim() - 2)).expand_as(x))
        if n == 1:
            assert found[3].abs().max() == 0
        else:  # divided by epsilon alone
            torch.testing.assert_close(found[3].double(), right[3], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_tensors_have_empty_results(kind: str, shape: tuple[int, ...]) -> None:
    x, grads, scale, bias = case(shape, torch.float32, 0)
    for a, b in zip(*(f(kind, x, grads, scale, bias, 1, 1) for f in (ours, eager)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences_and_so_do_theirs(kind: str) -> None:
    x, _, scale, bias = case((3, 2, 3, 2), torch.float64, 5)
    given = [each.requires_grad_() for each in (x, scale, bias)]

    def formula(*tensors: Tensor) -> tuple[Tensor, ...]:
        return native_norm(*tensors, kind, EPS, 0.0, 3, 2)[:3]

    assert torch.autograd.gradcheck(formula, given)
    assert torch.autograd.gradgradcheck(formula, given)


def test_the_c_interface_refuses_what_it_can_not_compute() -> None:
    library = kernels.load()
    x = torch.zeros(2, 3, 4, 4)
    places = {name: x.data_ptr() for name in ("x", "scale", "bias", "y", "mean", "stat", "marks")}
    good = {"kind": 1, "type": 0, "batch": 2, "channels": 3, "space": 16, "k": 1, "chunks": 1}

    def refusal(tensors: dict[str, int], **other: int) -> str:
        norm = kernels.NxNorm(**{**good, **other})
        with pytest.raises(UsageError) as caught:
            training_call.run(library, norm, training_call.NxForward(**tensors, epsilon=0.1), 1)
        return str(caught.value)

    for name in places:
        assert "null" in refusal({other: at for other, at in places.items() if other != name})
    assert "no kernel" in refusal(places, type=1)
    assert "no kernel" in refusal(places, instance=1)
    assert "no kernel" in refusal(places, layout=2)
    assert "k <= elements" in refusal(places, kind=2, k=33)
    assert training_call.count_marks(library, kernels.NxNorm(**{**good, "kind": 3, "chunks": 4})) == 8
