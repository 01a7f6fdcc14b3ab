"""Elementwise functions of one input, activations among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, as_tensor, operator


def _unary(name: str, compute: Callable[[Any], Any], since: int = 1) -> None:
    @operator(name, since=since)
    def kernel(_: Call, x: Any) -> Any:
        return compute(x).astype(x.dtype, copy=False)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), in one array; below -709 the power is infinite and the result 0."""
    y = np.empty_like(x)
    np.negative(x, out=y)
    np.exp(y, out=y)
    y += 1
    return np.reciprocal(y, out=y)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow."""
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def erf(x: Any, torch: Any) -> Any:
    """The error function."""
    if torch is not None:
        return torch.erf(as_tensor(torch, x)).numpy()
    return np.vectorize(math.erf, otypes=[np.float64])(x)


_UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Neg": np.negative,
    "Reciprocal": lambda x: 1 / x,
    "Relu": lambda x: np.maximum(x, 0),
    "Round": np.rint,
    "Sigmoid": sigmoid,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Tan": np.tan,
    "Tanh": np.tanh,
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Mish": lambda x: x * np.tanh(softplus(x)),
}
for _name, _compute in _UNARY.items():
    _unary(_name, _compute)


@operator("Identity")
def identity(_: Call, x: Any) -> Any:
    return x


@operator("Erf")
def error_function(call: Call, x: Any) -> Any:
    return erf(x, call.torch).astype(x.dtype)


@operator("Gelu")
def gelu(call: Call, x: Any) -> Any:
    if call["approximate"] == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2), call.torch))


@operator("Swish")
def swish(call: Call, x: Any) -> Any:
    return x * sigmoid(call["alpha"] * x)


@operator("Elu")
def elu(call: Call, x: Any) -> Any:
    return np.where(x < 0, call["alpha"] * np.expm1(np.minimum(x, 0)), x)


@operator("Celu")
def celu(call: Call, x: Any) -> Any:
    return np.maximum(x, 0) + np.minimum(0, call["alpha"] * np.expm1(x / call["alpha"]))


@operator("Selu")
def selu(call: Call, x: Any) -> Any:
    return call["gamma"] * np.where(x > 0, x, call["alpha"] * np.expm1(np.minimum(x, 0)))


@operator("LeakyRelu")
def leaky_relu(call: Call, x: Any) -> Any:
    return np.where(x < 0, call["alpha"] * x, x)


@operator("ThresholdedRelu")
def thresholded_relu(call: Call, x: Any) -> Any:
    return np.where(x > call["alpha"], x, 0.0)


@operator("HardSigmoid")
def hard_sigmoid(call: Call, x: Any) -> Any:
    return np.clip(call["alpha"] * x + call["beta"], 0, 1)


@operator("Shrink")
def shrink(call: Call, x: Any) -> Any:
    lambd, bias = call["lambd"], call["bias"]
    y = np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))
    return y.astype(x.dtype)


@operator("IsNaN")
def is_nan(_: Call, x: Any) -> Any:
    return np.isnan(x)


@operator("IsInf")
def is_inf(call: Call, x: Any) -> Any:
    kept = ((x > 0) & bool(call["detect_positive"])) | ((x < 0) & bool(call["detect_negative"]))
    return np.isinf(x) & kept


@operator("Det")
def determinant(_: Call, x: Any) -> Any:
    return np.linalg.det(x)


def _flat(axis: int, x: Any) -> tuple[Any, tuple[int, ...]]:
    """(rows, columns): the meaning of `axis` before opset 13."""
    axis = axis % x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1 if x.size else math.prod(x.shape[axis:])), x.shape


def softmax_over(x: Any, axis: int) -> Any:
    """exp(x) / sum exp(x)."""
    y = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return y / y.sum(axis=axis, keepdims=True)


def _log_softmax(x: Any, axis: int) -> Any:
    shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _hardmax(x: Any, axis: int) -> Any:
    y = np.zeros_like(x)
    np.put_along_axis(y, np.expand_dims(x.argmax(axis=axis), axis), 1.0, axis)
    return y


def _register_along_axis(name: str, compute: Callable[[Any, int], Any]) -> None:
    @operator(name)
    def flattened(call: Call, x: Any) -> Any:
        rows, shape = _flat(call["axis"], x)
        return compute(rows, 1).reshape(shape)

    @operator(name, since=13)
    def along_axis(call: Call, x: Any) -> Any:
        return compute(x, call["axis"])


_register_along_axis("Softmax", softmax_over)
_register_along_axis("LogSoftmax", _log_softmax)
_register_along_axis("Hardmax", _hardmax)
