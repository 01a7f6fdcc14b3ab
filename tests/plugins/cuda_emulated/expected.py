"""What the kernels must give: float64 numpy with a bound on the error of each element, and integers exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normexport import norms
from normexport.norms import Scope
from tests.plugins.cuda_emulated.emulated import DTYPES, Norm

#: Float32 roundings that an element of y may have gone through: of the sums (two levels of partials), of the mean, of
#: the quotient and of the product. Measured on the tables of these tests: 2.5 at most.
ROUNDINGS = 4

UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float32": 2.0**-150, "float16": 2.0**-25, "bfloat16": 2.0**-134}


def reference(norm: Norm, x: NDArray[Any], scale: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[Any]:
    """y (N, C, S): float64 of the stored values of x, or int8."""
    kind = norms.kind(norm.kind)
    options: dict[str, Any] = {"scope": Scope.of(norm.instance), "k": norm.k, "chunks": norm.chunks}
    options["correction"] = norm.correction
    if norm.type == "int8":
        return norms.quantized_reference(kind, x, scale, bias, epsilon=norm.epsilon, **options)
    wide = [array.astype(np.float64) for array in (x, scale, bias)]
    return norms.reference(kind, *wide, epsilon=float(np.float32(norm.epsilon)), **options)


def error(
    norm: Norm, y: NDArray[Any], right: NDArray[Any], scale: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Per element, error over allowed error; NaN where just one of y and right is.

    Allowed are half a unit in the last place of the type for storing y, and ROUNDINGS roundings of float32 of
    |bias| + |y - bias| + |scale|: the last is what an error of the mean, in units of the statistic, comes out as.
    """
    got = y.astype(np.float64)
    size = np.abs(right - bias[None, :, None]) + (np.abs(bias) + np.abs(scale)).astype(np.float64)[None, :, None]
    allowed = ROUNDINGS * 2.0**-24 * size
    if norm.type != "float32":
        allowed = allowed + UNIT[norm.type] * np.abs(right) + SMALLEST[norm.type]
    with np.errstate(invalid="ignore"):
        ratio = np.abs(got - right) / np.maximum(allowed, SMALLEST[norm.type])
    ratio[np.isnan(got) & np.isnan(right)] = 0
    return np.asarray(ratio)


def sample(norm: Norm, shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Any, Any]:
    """x of the norm's dtype with mean 3 and deviation 2 (int8: -30 and 25), scale and bias of both signs."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape)
    scale = (random.uniform(0.5, 2, shape[1]) * random.choice([-1, 1], shape[1])).astype(np.float32)
    bias = random.standard_normal(shape[1]).astype(np.float32)
    if norm.type == "int8":
        return np.clip(np.rint(values * 25 - 30), -128, 127).astype(np.int8), 30 * scale, 10 * bias
    return (values * 2 + 3).astype(np.float32).astype(DTYPES[norm.type]), scale, bias
