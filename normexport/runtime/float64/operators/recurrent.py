"""RNN, GRU and LSTM: one step after the other, every direction, peephole, clip and sequence length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from normexport.runtime.float64.operators.functions import sigmoid, softplus
from normexport.runtime.float64.registry import Call, Unsupported, operator

Activation = Callable[[Any], Any]
#: One step: (x_t @ W^T, state) -> state; the first of the state is the output.
Cell = Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]


@operator("RNN")
def rnn(call: Call, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None) -> Any:
    """H = f(x W' + H R' + b)."""

    def cell(d: int, f: list[Activation]) -> Cell:
        bias = _biases(b, d, r.shape[-1], 1)

        def step(xw: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
            return (f[0](_clip(call, xw + state[0] @ r[d].T + bias[0] + bias[1])),)

        return step

    return _unroll(call, x, w, r, lengths, [h], cell, ("Tanh",))


@operator("GRU")
def gru(call: Call, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None) -> Any:
    """Gates z, r and the candidate; `linear_before_reset` multiplies by r after the recurrent product."""

    def cell(d: int, f: list[Activation]) -> Cell:
        n = r.shape[-1]
        wb, rb = _biases(b, d, n, 3)

        def step(xw: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
            (hidden,) = state
            gates = f[0](_clip(call, xw[:, : 2 * n] + hidden @ r[d][: 2 * n].T + wb[: 2 * n] + rb[: 2 * n]))
            z, reset = gates[:, :n], gates[:, n:]
            if call["linear_before_reset"]:
                inner = reset * (hidden @ r[d][2 * n :].T + rb[2 * n :])
            else:
                inner = (reset * hidden) @ r[d][2 * n :].T + rb[2 * n :]
            candidate = f[1](_clip(call, xw[:, 2 * n :] + inner + wb[2 * n :]))
            return ((1 - z) * candidate + z * hidden,)

        return step

    return _unroll(call, x, w, r, lengths, [h], cell, ("Sigmoid", "Tanh"))


@operator("LSTM")
def lstm(
    call: Call,
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    lengths: Any = None,
    h: Any = None,
    c: Any = None,
    p: Any = None,
) -> Any:
    """Gates i, o, f, c; peepholes P add P * C to i and f (of the step before) and o (of this one)."""

    def cell(d: int, f: list[Activation]) -> Cell:
        n = r.shape[-1]
        wb, rb = _biases(b, d, n, 4)
        peep = np.zeros((3, n)) if p is None else p[d].reshape(3, n)

        def step(xw: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden, memory = state
            i, o, forget, candidate = np.split(xw + hidden @ r[d].T + wb + rb, 4, axis=1)
            i = f[0](_clip(call, i + peep[0] * memory))
            forget = 1 - i if call["input_forget"] else f[0](_clip(call, forget + peep[2] * memory))
            memory = forget * memory + i * f[1](_clip(call, candidate))
            o = f[0](_clip(call, o + peep[1] * memory))
            return o * f[2](memory), memory

        return step

    return _unroll(call, x, w, r, lengths, [h, c], cell, ("Sigmoid", "Tanh", "Tanh"))


def _biases(b: Any, d: int, n: int, gates: int) -> tuple[Any, Any]:
    """The biases of the input's and of the state's product."""
    return (np.zeros(gates * n),) * 2 if b is None else (b[d][: gates * n], b[d][gates * n :])


def _clip(call: Call, x: Any) -> Any:
    bound = call["clip"]
    return x if not bound else np.clip(x, -bound, bound)


def _unroll(
    call: Call,
    x: Any,
    w: Any,
    r: Any,
    lengths: Any,
    initial: list[Any],
    cell: Callable[[int, list[Activation]], Cell],
    usual: tuple[str, ...],
) -> tuple[Any, ...]:
    """Y (steps, directions, batch, hidden) and the last states (directions, batch, hidden)."""
    if call["layout"]:  # batch first
        x, initial = x.swapaxes(0, 1), [None if s is None else s.swapaxes(0, 1) for s in initial]
    steps, batch, _ = x.shape
    directions, hidden = len(w), r.shape[-1]
    y = np.zeros((steps, directions, batch, hidden))
    last = [np.zeros((directions, batch, hidden)) for _ in initial]
    valid = np.full(batch, steps) if lengths is None else lengths.astype(np.int64)
    for d in range(directions):
        functions = _activations(call, usual, d)
        step = cell(d, functions)
        state = tuple(np.zeros((batch, hidden)) if s is None else s[d] for s in initial)
        backwards = d == 1 or call["direction"] == "reverse"
        for t in reversed(range(steps)) if backwards else range(steps):
            # a sample that has ended, or backwards not begun, keeps its state
            moved, on = step(x[t] @ w[d].T, state), (t < valid)[:, None]
            state = tuple(np.where(on, new, old) for new, old in zip(moved, state, strict=True))
            y[t, d] = np.where(on, state[0], 0.0)
        for kept, final in zip(last, state, strict=True):
            kept[d] = final
    if call["layout"]:
        return (y.transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in last))
    return (y, *last)


def _activations(call: Call, usual: tuple[str, ...], direction: int) -> list[Activation]:
    """The functions of one direction; parameters are handed out in order to those that take them."""
    names = list(call["activations"] or usual)
    names = names if len(names) > len(usual) else names * 2
    alphas, betas = list(call["activation_alpha"] or ()), list(call["activation_beta"] or ())
    functions = []
    for name in names:
        key = name.lower()
        if key not in _PARAMETERS:
            raise Unsupported(f"activation {name} is not known")
        alpha, beta = _PARAMETERS[key]
        alpha = alphas.pop(0) if alpha is not None and alphas else alpha
        beta = betas.pop(0) if beta is not None and betas else beta
        functions.append(_function(key, alpha, beta))
    return functions[direction * len(usual) : (direction + 1) * len(usual)]


#: (alpha, beta) where none are given; None: the function has none.
_PARAMETERS: dict[str, tuple[float | None, float | None]] = {
    "tanh": (None, None),
    "sigmoid": (None, None),
    "relu": (None, None),
    "softsign": (None, None),
    "softplus": (None, None),
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, None),
    "thresholdedrelu": (1.0, None),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, None),
}


def _function(key: str, alpha: Any, beta: Any) -> Activation:
    functions: dict[str, Activation] = {
        "tanh": np.tanh,
        "sigmoid": sigmoid,
        "relu": lambda v: np.maximum(v, 0),
        "softsign": lambda v: v / (1 + np.abs(v)),
        "softplus": softplus,
        "affine": lambda v: alpha * v + beta,
        "leakyrelu": lambda v: np.where(v < 0, alpha * v, v),
        "thresholdedrelu": lambda v: np.where(v > alpha, v, 0.0),
        "scaledtanh": lambda v: alpha * np.tanh(beta * v),
        "hardsigmoid": lambda v: np.clip(alpha * v + beta, 0, 1),
        "elu": lambda v: np.where(v < 0, alpha * np.expm1(np.minimum(v, 0)), v),
    }
    return functions[key]
