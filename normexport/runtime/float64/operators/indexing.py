"""Operators that read and write elements at computed places."""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.room import require_room


def _at(indices: Any, side: int) -> Any:
    """Indices from 0 on; -1 is the last.

    Raises:
        Unsupported: one is outside.
    """
    indices = indices.astype(np.int64)
    if indices.size and (indices.min() < -side or indices.max() >= side):
        raise Unsupported(f"an index is outside of {side} elements")
    return np.where(indices < 0, indices + side, indices)


@operator("Gather")
def gather(call: Call, x: Any, indices: Any) -> Any:
    axis = (call["axis"] or 0) % x.ndim
    require_room([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]], "Gather")
    return np.take(x, _at(indices, x.shape[axis]), axis=axis)


@operator("GatherElements")
def gather_elements(call: Call, x: Any, indices: Any) -> Any:
    axis = (call["axis"] or 0) % x.ndim
    grid = list(np.indices(indices.shape, sparse=True))
    grid[axis] = _at(indices, x.shape[axis])
    return x[tuple(grid)]


@operator("GatherND")
def gather_nd(call: Call, x: Any, indices: Any) -> Any:
    batch = call["batch_dims"] or 0
    last = indices.shape[-1]
    require_room([*indices.shape[:-1], *x.shape[batch + last :]], "GatherND")
    grid = [g[..., 0] if batch else g for g in np.indices(indices.shape, sparse=True)[:batch]] if batch else []
    places = [_at(indices[..., i], x.shape[batch + i]) for i in range(last)]
    key = (*grid, *places)
    return x[key]


_UPDATES = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _write(y: Any, places: Any, updates: Any, how: str | None) -> Any:
    if how in (None, "none"):
        y[places] = updates
    else:
        _UPDATES[str(how)].at(y, places, updates)
    return y


@operator("Scatter", "ScatterElements")
def scatter_elements(call: Call, x: Any, indices: Any, updates: Any) -> Any:
    axis = (call["axis"] or 0) % x.ndim
    grid = list(np.indices(indices.shape, sparse=True))
    grid[axis] = _at(indices, x.shape[axis])
    return _write(x.copy(), tuple(np.broadcast_arrays(*grid)), updates, call["reduction"])


@operator("ScatterND")
def scatter_nd(call: Call, x: Any, indices: Any, updates: Any) -> Any:
    places = tuple(_at(indices[..., i], x.shape[i]) for i in range(indices.shape[-1]))
    return _write(x.copy(), places, updates, call["reduction"])


@operator("TensorScatter", since=24)
def tensor_scatter(call: Call, cache: Any, update: Any, start: Any = None) -> Any:
    """`update` written into the cache of each sample from its `start` on, around the end where `circular`."""
    axis, y = call["axis"] % cache.ndim, cache.copy()
    circular, length = call["mode"] == "circular", update.shape[axis]
    for sample in range(len(cache)):
        first = 0 if start is None else int(start[sample])
        places = np.arange(first, first + length)
        places = places % cache.shape[axis] if circular else _at(places, cache.shape[axis])
        key: list[Any] = [slice(None)] * (cache.ndim - 1)
        key[axis - 1] = places
        y[sample][tuple(key)] = update[sample]
    return y


@operator("NonZero")
def non_zero(_: Call, x: Any) -> Any:
    x = np.atleast_1d(x)
    return np.array(np.nonzero(x), dtype=np.int64).reshape(x.ndim, -1)


@operator("Compress")
def compress(call: Call, x: Any, condition: Any) -> Any:
    if call["axis"] is None:
        return np.compress(condition, x.ravel())
    return np.compress(condition, x, axis=call["axis"])


@operator("OneHot")
def one_hot(call: Call, indices: Any, depth: Any, values: Any) -> Any:
    """values[1] at the index, counted from the end where it is negative, values[0] elsewhere."""
    count = int(depth.reshape(-1)[0])
    require_room([*indices.shape, count], "OneHot")
    axis = call["axis"] + (indices.ndim + 1 if call["axis"] < 0 else 0)
    indices = np.trunc(indices).astype(np.int64)
    where = np.where(indices < 0, indices + count, indices)
    classes = np.arange(count).reshape([-1 if i == axis else 1 for i in range(indices.ndim + 1)])
    return np.where(np.expand_dims(where, axis) == classes, values[1], values[0])
