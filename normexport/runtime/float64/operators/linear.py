"""Products of matrices, by BLAS in float64 and exactly in integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.runtime.float64.operators.quantization import about
from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.room import require_room


@operator("MatMul")
def matmul(_: Call, a: Any, b: Any) -> Any:
    if a.ndim > 1 and b.ndim > 1:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        require_room([*batch, a.shape[-2], b.shape[-1]], "MatMul")
    return np.matmul(a, b)


@operator("Gemm")
def gemm(call: Call, a: Any, b: Any, c: Any = None) -> Any:
    """alpha * A @ B + beta * C."""
    a, b = (a.T if call["transA"] else a), (b.T if call["transB"] else b)
    if a.ndim != 2 or b.ndim != 2:
        raise Unsupported("Gemm takes matrices")
    require_room([a.shape[0], b.shape[1]], "Gemm")
    y = a @ b
    alpha, beta = call["alpha"], call["beta"]
    if y.dtype.kind != "f":
        alpha, beta = int(alpha), int(beta)
    y = y if alpha == 1 else y * alpha
    if c is None or beta == 0:
        return y
    return y + (c if beta == 1 else c * beta)


@operator("Einsum", since=12)
def einsum(call: Call, *inputs: Any) -> Any:
    return np.asarray(np.einsum(call["equation"].replace(" ", ""), *inputs, optimize=len(inputs) > 1))


@operator("MatMulInteger", since=10)
def matmul_integer(_: Call, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    """Sums of products of bytes: exact in float64, held in int32."""
    return np.matmul(about(a, a_zero, -2), about(b, b_zero, -1)).astype(np.int64).astype(np.int32)


@operator("QLinearMatMul", since=10)
def qlinear_matmul(
    _: Call, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any
) -> Any:
    """quantize(dequantize(a) @ dequantize(b)): the sums are integers, exact."""
    sums = np.matmul(about(a, a_zero, -2), about(b, b_zero, -1))
    a_scale = np.expand_dims(a_scale, -1) if a_scale.ndim == 1 and a_scale.size > 1 else a_scale
    y = np.rint(sums * (a_scale * b_scale / y_scale)) + y_zero.astype(np.float64)
    if y_zero.dtype.kind not in "iu":
        return y.astype(y_zero.dtype)
    ends = np.iinfo(y_zero.dtype)
    return np.clip(y, ends.min, ends.max).astype(y_zero.dtype)
