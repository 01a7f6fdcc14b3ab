"""Elementary functions in ONNX operators, where torch's exporter writes them less exactly than torch computes them.

log_sigmoid(x) = -softplus(-x)                        log(sigmoid(x)) is -infinity where the sigmoid is 0
expm1(x)       = tanh(x / 2) (exp(x) + 1)             exp(x) - 1 has 7,000 times float32's error at 1e-4
log1p(x)       = x log(u) / (u - 1), u = 1 + x        log(u) has that too, near 0
atan2(y, x)    = atan(y / x), half turns apart        pi for y = 0 and x < 0, where the exporter's is 0
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript.values import Opset

from normexport import norms

_STANDARD = Opset("", norms.OPSET)


def elementary_functions() -> dict[Callable[..., Any], Callable[..., Any]]:
    """torch operator -> function that emits its ONNX nodes, as `translate.translation_table` gives them."""
    aten = torch.ops.aten
    return {
        aten.log_sigmoid.default: _log_sigmoid,
        aten.expm1.default: _expm1,
        aten.log1p.default: _log1p,
        aten.atan2.default: _atan2,
    }


def _log_sigmoid(x: Any) -> Any:
    if x.dtype == ir.DataType.DOUBLE:  # ONNX Runtime has no Softplus of float64
        small = _STANDARD.Exp(_STANDARD.Neg(_STANDARD.Abs(x)))
        return _STANDARD.Sub(_STANDARD.Min(x, _like(x, 0.0)), _log1p(small))
    return _STANDARD.Neg(_STANDARD.Softplus(_STANDARD.Neg(x)))


def _expm1(x: Any) -> Any:
    half = _STANDARD.Mul(x, _like(x, 0.5))
    return _STANDARD.Mul(_STANDARD.Tanh(half), _STANDARD.Add(_STANDARD.Exp(x), _like(x, 1.0)))


def _log1p(x: Any) -> Any:
    """After Kahan: log(u) errs by what u = 1 + x has lost of x, and so does u - 1."""
    one = _like(x, 1.0)
    moved = _STANDARD.Add(x, one)
    far = _STANDARD.Log(moved)
    near = _STANDARD.Div(_STANDARD.Mul(far, x), _STANDARD.Sub(moved, one))
    near = _STANDARD.Where(_STANDARD.Equal(moved, one), x, near)
    return _STANDARD.Where(_STANDARD.Less(_STANDARD.Abs(x), _like(x, 0.5)), near, far)


def _atan2(y: Any, x: Any) -> Any:
    zero, pi = _like(x, 0.0), _like(x, math.pi)
    right = _STANDARD.Atan(_STANDARD.Div(y, x))
    turn = _STANDARD.Where(_STANDARD.Less(y, zero), _STANDARD.Neg(pi), pi)
    upright = _STANDARD.Mul(_STANDARD.Sign(y), _like(x, math.pi / 2))
    sided = _STANDARD.Where(_STANDARD.Less(x, zero), _STANDARD.Add(right, turn), right)
    return _STANDARD.Where(_STANDARD.Equal(x, zero), upright, sided)


def _like(x: Any, number: float) -> Any:
    return _STANDARD.CastLike(_STANDARD.Constant(value_float=number), x)
