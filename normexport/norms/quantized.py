"""The norms on int8 tensors: statistics are integers, so every implementation gives the same bytes.

Norms are scale invariant. With x = s_x*(q - z_x) the zero point leaves with the mean and s_x only divides epsilon, so
`QuantizeLinear -> norm -> DequantizeLinear` with output scale s_y and zero point z_y is one integer operator with
`scale/s_y`, `bias/s_y + z_y` and `epsilon/s_x`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from normexport.norms.kind import CHUNKS_DEFAULT, EPSILON_DEFAULT, K_DEFAULT, NormKind
from normexport.norms.scope import Scope

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]


def quantized_reference(
    kind: NormKind,
    q: Int8,
    scale: Float32,
    bias: Float32,
    *,
    epsilon: float = EPSILON_DEFAULT,
    scope: Scope = Scope.BATCH,
    num_groups: int = 1,
    k: int = K_DEFAULT,
    chunks: int = CHUNKS_DEFAULT,
    correction: float = 0.0,
) -> Int8:
    """The integer operator, byte for byte, in numpy.

    q (N, C, *space) int8; scale, bias (C,) and epsilon in units of the quantised tensors. With n elements reduced,
    S = sum q, p = rint(S/n) and e = n*p - S, the deviation of an element is exactly (q - p) + e/n. The statistic is
    float64 from exact integers; `a = scale / (factor * statistic + epsilon)` and `y = ((q - p) + e/n) * a + bias`
    are float32 with every operation rounded; y is rounded half to even and saturates; NaN gives 0.

    Raises:
        UsageError: k exceeds the number of elements reduced, or `num_groups` does not divide C.
    """
    if q.size == 0:
        return np.array(q, dtype=np.int8)
    batch, channels = q.shape[:2]
    cube = q.reshape(batch, channels, -1).astype(np.int64)
    rows = scope.rows(cube, num_groups)
    n = rows.shape[1]
    total = rows.sum(axis=1)
    pivot = np.rint(total / n).astype(np.int64)
    e = n * pivot - total
    statistic = kind.integer_statistic(rows - pivot[:, None], e, k=k, chunks=chunks)
    factor = np.float32(correction) if correction else np.float32(kind.factor(n, chunks))
    with np.errstate(all="ignore"):
        divisor = factor * statistic.astype(np.float32) + np.float32(epsilon)
        a = scale.astype(np.float32) / scope.per_channel(divisor, channels, num_groups)
        offset = scope.per_channel((e / n).astype(np.float32), channels, num_groups)
        pivots = scope.per_channel(pivot, channels, num_groups)
        deviation = (cube - pivots[:, :, None]).astype(np.float32) + offset[:, :, None]
        y = deviation * a[:, :, None] + bias.astype(np.float32)[:, None]
        whole = np.rint(np.clip(np.where(np.isnan(y), np.float32(0), y), -128, 127)).astype(np.int8)
    return np.asarray(whole.reshape(q.shape))
