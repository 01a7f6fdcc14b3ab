"""L1: sqrt(pi/2) * mean |d| (Hoffer et al. 2018, "Norm matters", section 3.1)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from normexport.norms.constants import L1_CONSTANT
from normexport.norms.kind import Array, Integers, NormKind, Shared, Team, beside, element_axes, mean_deviation


def statistic(d: Array, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Array:
    """(C, n) -> (C,)."""
    return np.asarray((correction or L1_CONSTANT) * np.abs(d).mean(axis=1))


def integer_statistic(r: Integers, e: Integers, *, k: int = 0, chunks: int = 0) -> Array:
    """Mean |r + e/n|; since |e/n| <= 1/2, the sign of r + e/n is that of r, or of e where r = 0."""
    sides = np.sign(r).sum(axis=1)
    zeros = (r == 0).sum(axis=1)
    return mean_deviation(np.abs(r).sum(axis=1), e * sides + np.abs(e) * zeros, r.shape[1], r.shape[1])


def factor(n: int, chunks: int = 0) -> float:
    """sqrt(pi/2)."""
    return L1_CONSTANT


def torch_statistic(d: Any, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Any:
    """(R, *elements) -> (R,)."""
    return d.abs().mean(element_axes(d)) * (correction or L1_CONSTANT)


def torch_slope(d: Any, worth: Any, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> tuple[Any, Any]:
    """sign(d) / n, 0 where d is 0."""
    side, share = d.sign(), worth * ((correction or L1_CONSTANT) / d[0].numel())
    total = side.sum(element_axes(d)) * share
    return side.mul_(beside(share, d)), total


def shared_statistic(d: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """Sums add up."""
    return team.sum(d.abs().sum(1)) * ((correction or L1_CONSTANT) / team.count)


def shared_slope(d: Any, worth: Any, stat: Any, team: Team, *, k: int, chunks: int, correction: float) -> Any:
    """`torch_slope` with n of all processes."""
    return d.sign().mul_(beside(worth * ((correction or L1_CONSTANT) / team.count), d))


L1 = NormKind(
    name="l1",
    title="L1",
    formula="sqrt(pi/2) * mean |d|",
    statistic=statistic,
    integer_statistic=integer_statistic,
    factor=factor,
    torch_statistic=torch_statistic,
    torch_slope=torch_slope,
    shared=Shared(shared_statistic, shared_slope),
    onnx_constant=f"own64 = Constant <value = double {{{L1_CONSTANT!r}}}>()  own = CastLike(own64, scale)",
    onnx_statistic="""
        absolute = Abs(d)
        raw = ReduceMean <keepdims = 1>(absolute, axes)
        stat = Mul(constant, raw)
    """,
    onnx_integer_statistic="""
        distance = Abs(r)
        whole = ReduceSum <keepdims = 1>(distance, along)
        side = Sign(r)
        sides = ReduceSum <keepdims = 1>(side, along)
        nought = Constant <value = int64 {0}>()
        at_pivot = Equal(r, nought)
        at_pivot64 = Cast <to = 7>(at_pivot)
        zeros = ReduceSum <keepdims = 1>(at_pivot64, along)
        beside = Mul(e, sides)
        size_of_e = Abs(e)
        inside = Mul(size_of_e, zeros)
        part = Add(beside, inside)
        count = Identity(n)
    """,
    native=0,
    per_std=math.sqrt(math.pi) / 2,  # a Laplace distribution's: sqrt(pi/2) * b over sqrt(2) * b
    tails="heavy",
    order=1,
    hint="l1",
)
