"""What the tests of the compiled kernels share: the skip, inputs, and how far a result may be from float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from normexport import norms, plugins
from normexport.plugins import norm_call

KINDS = sorted(norms.KINDS)
#: Exact in float32, in which the kernels take it.
EPSILON = 2.0**-17

needs_library = pytest.mark.skipif(
    plugins.find("kernels") is None, reason="the kernel library is not built; run: normexport plugins build"
)

#: Half a unit in the last place, relative: what rounding to a type costs.
ROUNDING = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}


def allowed_error(y: np.ndarray, bias: np.ndarray, dtype: str) -> np.ndarray:
    """How far a computed norm may be from y (N, C, *space), its exact value, by the arithmetic of the kernels.

    With d = x - mean and u the rounding of the working precision: d is rounded once (|y - bias| u), the statistic
    comes from terms rounded at most twice each and the slope from one division rounded once (3 |y - bias| u), the
    multiply-add rounds |y|, and bias was rounded together with the mean's lower half (|bias| u): within
    u (5 |y - bias| + 2 |bias|). Sums are double: they add nothing. A narrower y is rounded once more. Of float64, sums
    and means are rounded too, here and in the reference, which costs a few roundings of the largest |y - bias|.
    """
    bias = np.asarray(bias, np.float64).reshape(-1, *[1] * (y.ndim - 2))
    work = ROUNDING["float64" if dtype == "float64" else "float32"]
    away = np.abs(y - bias)
    error = work * (5 * away + 2 * np.abs(bias))
    if dtype == "float64" and y.size:
        error = error + 16 * work * np.nanmax(away)
    if dtype == "float16":
        error = error + ROUNDING[dtype] * np.abs(y) + 2.0**-25
    return error + 2.0**-126


def case(
    shape: tuple[int, ...], dtype: str, seed: int = 0, offset: float = 0.0, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x of a shape and type, and scale and bias for it."""
    rng = np.random.default_rng(seed)
    x = (offset + spread * rng.standard_normal(shape)).astype(dtype)
    wide = "float64" if dtype == "float64" else "float32"
    return x, rng.uniform(0.5, 2, shape[1]).astype(wide), rng.standard_normal(shape[1]).astype(wide)


def check(kind: str, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, **how: Any) -> np.ndarray:
    """Compute, compare with float64 and return y."""
    threads = how.pop("threads", 1)
    how.setdefault("epsilon", EPSILON)
    y = norm_call.norm(kind, x, scale, bias, threads=threads, **how)
    exact = norms.reference(norms.KINDS[kind], x, scale, bias, **how)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    error = np.abs(y.astype(np.float64) - exact)
    assert (error <= allowed_error(exact, bias, x.dtype.name)).all(), (kind, x.shape, how, error.max())
    return y
