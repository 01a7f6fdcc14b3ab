"""Gradients of the largest few, which eager code looks up one by one: those of float64 numpy, whatever ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normexport.nn.ops import blocks, live_norm
from normexport.norms import kind as kind_of
from tests.nn.numpy_step import EPS, step

FEW = ["linf", "topk", "range"]


def eager(kind: str, x: Tensor, grads: list[Tensor], scale: Tensor, bias: Tensor, k: int, chunks: int) -> list[Tensor]:
    given = [each.detach().requires_grad_() for each in (x, scale, bias)]
    found = live_norm(*given, kind, False, EPS, 0.0, k, chunks, 0)
    return [*(each.detach() for each in found), *torch.autograd.grad(found, given, grads)]


@settings(max_examples=120)
@given(
    kind=st.sampled_from(["l1", "l2", *FEW]),
    samples=st.integers(1, 4),
    channels=st.sampled_from([1, 3, 17]),
    space=st.sampled_from([(16, 16), (8, 12), (31, 2), (17, 19), (127,), (4, 5, 8), (60, 61)]),
    last=st.booleans(),
    levels=st.sampled_from([0, 0, 1, 40]),
    k=st.integers(1, 4),
    chunks=st.integers(1, 4),
    block=st.sampled_from([1, 1 << 18]),
    seed=st.integers(0, 2**20),
)
def test_a_step_is_that_of_float64_numpy(
    kind: str,
    samples: int,
    channels: int,
    space: tuple[int, ...],
    last: bool,
    levels: int,
    k: int,
    chunks: int,
    block: int,
    seed: int,
) -> None:
    """Of few values, many tie; they are multiples of 1/4 about a mean of exactly 0, so that they tie in both."""
    made = torch.Generator().manual_seed(seed)
    shape = (2 * samples, channels, *space)
    x, g = (torch.randn(shape, generator=made, dtype=torch.float64) for _ in range(2))
    if levels:
        x = (x * levels).round() / 4
        x[samples:] = -x[:samples]
    if last and x.dim() == 4:
        x, g = (each.contiguous(memory_format=torch.channels_last) for each in (x, g))
    of_mean, of_stat, scale, bias = (torch.randn(channels, generator=made, dtype=torch.float64) for _ in range(4))
    parameters = {"k": k, "chunks": chunks}
    whole, blocks.BLOCK_ELEMENTS = blocks.BLOCK_ELEMENTS, block
    try:
        found = eager(kind, x, [g, of_mean, of_stat], scale, bias, **parameters)
    finally:
        blocks.BLOCK_ELEMENTS = whole
    right = step(kind, x, [g, of_mean, of_stat], scale, bias, **parameters)
    assert found[0].stride() == found[3].stride() == x.stride()
    for name, a, b in zip(("y", "mean", "stat", "dx", "dscale", "dbias"), found, right, strict=True):
        largest = max(1.0, float(np.abs(b).max()), float(np.abs(right[3]).max()))
        np.testing.assert_allclose(a.numpy(), b, rtol=0, atol=1e-11 * largest, err_msg=name)


def looked_up(kind: str, d: Tensor, k: int, chunks: int) -> Any:
    """(what is added, its sums), or None where all of d is to be looked at."""
    add: Any = kind_of(kind).torch_add_slope
    out = torch.zeros_like(d)
    total = add(out, d, torch.arange(1.0, len(d) + 1, dtype=d.dtype), k=k, chunks=chunks, correction=0.0)
    assert total is not None or not out.any()
    return None if total is None else (out, total)


@pytest.mark.parametrize("kind", FEW)
def test_what_is_looked_up_is_the_slope_and_its_sum(kind: str) -> None:
    """In rows whose elements lie apart, as those of a batch norm do; with equals within a piece."""
    made = torch.Generator().manual_seed(1)
    d = torch.randn(8, 5, 1, 4096, generator=made, dtype=torch.float64).permute(1, 2, 0, 3)
    d[:, 0, 2, 34:37] = 9.0
    found = looked_up(kind, d, 2, 4)
    assert found is not None
    slope: Any = kind_of(kind).torch_slope
    right = slope(d, torch.arange(1.0, 6, dtype=torch.float64), k=2, chunks=4, correction=0.0)
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    torch.testing.assert_close(right[0].sum((1, 2, 3)), right[1], rtol=0, atol=1e-12)
    assert (found[0] != 0).sum() <= d.numel() / 50


@pytest.mark.parametrize("kind", FEW)
def test_equals_in_other_pieces_or_sizes_that_nothing_divides_leave_it_to_the_whole(kind: str) -> None:
    made = torch.Generator().manual_seed(2)
    d = torch.randn(3, 1, 64, 64, generator=made, dtype=torch.float64)
    assert looked_up(kind, d, 1, 2) is not None
    assert looked_up(kind, torch.randn(3, 1, 64, 131, dtype=torch.float64), 1, 2) is None
    d[1, 0, 1, 3] = d[1, 0, 2, 5] = 9.0
    assert looked_up(kind, d, 1, 2) is None
