"""Functions by element, as numpy: what they make of the numbers of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _plain(function: Callable[[Array], Array]) -> Callable[[ir.Node, Array], Array]:
    return lambda node, x: function(x)


def _with_alpha(function: Callable[[Array, float], Array], default: float) -> Callable[[ir.Node, Array], Array]:
    return lambda node, x: function(x, node.attributes.get_float("alpha", default))


def _hard_sigmoid(node: ir.Node, x: Array) -> Array:
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _selu(node: ir.Node, x: Array) -> Array:
    alpha = node.attributes.get_float("alpha", 1.6732631921768188)
    return np.asarray(node.attributes.get_float("gamma", 1.0507010221481323) * _elu(x, alpha))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _gelu(node: ir.Node, x: Array) -> Array:
    if node.attributes.get_string("approximate", "none") == "tanh":
        return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))))


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(0.0, x))


#: By operator: (node, numbers) -> numbers.
FUNCTIONS: dict[str, Callable[[ir.Node, Array], Array]] = {
    "Relu": _plain(lambda x: np.maximum(x, 0.0)),
    "Sigmoid": _plain(_sigmoid),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0)),
    "Tanh": _plain(np.tanh),
    "Erf": _plain(_erf),
    "Gelu": _gelu,
    "Softplus": _plain(_softplus),
    "Softsign": _plain(lambda x: x / (1.0 + np.abs(x))),
    "Mish": _plain(lambda x: x * np.tanh(_softplus(x))),
    "Abs": _plain(np.abs),
    "Neg": _plain(np.negative),
    "Sqrt": _plain(np.sqrt),
    "Exp": _plain(np.exp),
    "LeakyRelu": _with_alpha(lambda x, alpha: np.where(x >= 0, x, alpha * x), 0.01),
    "Elu": _with_alpha(_elu, 1.0),
    "Selu": _selu,
    "Celu": _with_alpha(lambda x, alpha: _elu(x / alpha, 1.0) * alpha, 1.0),
    "Swish": _with_alpha(lambda x, alpha: x * _sigmoid(alpha * x), 1.0),
    "ThresholdedRelu": _with_alpha(lambda x, alpha: np.where(x > alpha, x, 0.0), 1.0),
}
