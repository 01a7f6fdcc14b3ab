"""Reductions, arg-reductions, cumulative sums and TopK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, Unsupported, operator


def _mean(x: Any, axis: Any) -> Any:
    """The mean; of integers truncated towards zero."""
    if x.dtype.kind in "iu":
        count = int(np.prod([x.shape[i] for i in axis], dtype=np.int64)) if axis is not None else x.size
        total = x.sum(axis=axis, keepdims=True, dtype=np.int64)
        return np.trunc(total / count) if count else total
    return x.mean(axis=axis, keepdims=True)


def _log_sum_exp(x: Any, axis: Any) -> Any:
    x = x.astype(np.float64)
    top = x.max(axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top


def _extreme(x: Any, axis: Any, largest: bool) -> Any:
    if x.dtype == bool:
        return (np.any if largest else np.all)(x, axis=axis, keepdims=True)
    ends = (-np.inf, np.inf) if x.dtype.kind == "f" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    if largest:
        return x.max(axis=axis, keepdims=True, initial=ends[0])
    return x.min(axis=axis, keepdims=True, initial=ends[1])


_REDUCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "ReduceSum": lambda x, axis: x.sum(axis=axis, keepdims=True, dtype=x.dtype),
    "ReduceProd": lambda x, axis: x.prod(axis=axis, keepdims=True, dtype=x.dtype),
    "ReduceMean": _mean,
    "ReduceMax": lambda x, axis: _extreme(x, axis, True),
    "ReduceMin": lambda x, axis: _extreme(x, axis, False),
    "ReduceL1": lambda x, axis: np.abs(x).sum(axis=axis, keepdims=True, dtype=x.dtype),
    "ReduceL2": lambda x, axis: np.sqrt((x.astype(np.float64) ** 2).sum(axis=axis, keepdims=True)),
    "ReduceSumSquare": lambda x, axis: (x * x).sum(axis=axis, keepdims=True, dtype=x.dtype),
    "ReduceLogSum": lambda x, axis: np.log(x.sum(axis=axis, keepdims=True)),
    "ReduceLogSumExp": _log_sum_exp,
}


def _reduction(name: str, compute: Callable[[Any, Any], Any]) -> None:
    @operator(name)
    def reduce(call: Call, x: Any, axes: Any = None) -> Any:
        """`axes` is an attribute up to a version, then an input; none are all, or none with `noop_with_empty_axes`."""
        given = call["axes"] if axes is None else axes.ravel().tolist()
        if not given and call["noop_with_empty_axes"]:
            # Over no axis at all: what is done to each element remains (square, logarithm, absolute value).
            return compute(x[..., None], (x.ndim,))[..., 0].astype(x.dtype)
        axis = tuple(int(a) % x.ndim for a in given) if given else tuple(range(x.ndim))
        y = compute(x, axis).astype(x.dtype, copy=False)
        return y if call["keepdims"] else y.reshape([n for i, n in enumerate(x.shape) if i not in axis])


for _name, _compute in _REDUCTIONS.items():
    _reduction(_name, _compute)


def _argument(name: str, find: Callable[..., Any]) -> None:
    @operator(name)
    def argument(call: Call, x: Any) -> Any:
        """The first place of the extreme, or the last with `select_last_index`."""
        axis = call["axis"] % x.ndim
        if call["select_last_index"]:
            found = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis)
        else:
            found = find(x, axis=axis)
        return (np.expand_dims(found, axis) if call["keepdims"] else np.asarray(found)).astype(np.int64)


_argument("ArgMax", np.argmax)
_argument("ArgMin", np.argmin)


@operator("CumSum", "CumProd")
def cumulative(call: Call, x: Any, axis: Any) -> Any:
    """Sums or products up to each element, without it where `exclusive`, from the end where `reverse`."""
    if axis.size != 1:
        raise Unsupported("the axis is not one number")
    at = int(axis.reshape(())) % x.ndim
    x = np.flip(x, at) if call["reverse"] else x
    up_to = np.cumsum if call.operator == "CumSum" else np.cumprod
    y = up_to(x, axis=at, dtype=x.dtype)
    if call["exclusive"]:
        first = np.full_like(np.take(y, [], axis=at), 0, shape=[1 if i == at else n for i, n in enumerate(y.shape)])
        first += 0 if call.operator == "CumSum" else 1
        y = np.concatenate([first, np.take(y, range(y.shape[at] - 1), axis=at)], axis=at) if y.shape[at] else y
    return np.flip(y, at).copy() if call["reverse"] else y


@operator("TopK")
def top_k_attribute(call: Call, x: Any) -> Any:
    return _top_k(x, call["k"], call["axis"], True)


@operator("TopK", since=10)
def top_k(call: Call, x: Any, k: Any) -> Any:
    largest = call["largest"]
    return _top_k(x, int(k.reshape(())), call["axis"], largest is None or bool(largest))


def _top_k(x: Any, k: int, axis: int, largest: bool) -> Any:
    """The k largest, the largest first, the first of equals first; and their places."""
    if not 0 <= k <= x.shape[axis]:
        raise Unsupported(f"k = {k} of {x.shape[axis]} elements")
    if largest:  # a stable descending order: the reverse of the stable ascending order of the reverse
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    places = np.take(order, range(k), axis=axis)
    return np.take_along_axis(x, places, axis=axis), places.astype(np.int64)
