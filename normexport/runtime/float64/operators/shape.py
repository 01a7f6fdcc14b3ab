"""Operators that move, repeat, cut and make elements without computing with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, Unsupported, operator
from normexport.runtime.float64.room import require_room
from normexport.runtime.float64.types import held_as


def ints(x: Any) -> list[int]:
    """The elements of an integer array."""
    return [int(v) for v in np.asarray(x).ravel().tolist()]


@operator("Shape")
def shape(call: Call, x: Any) -> Any:
    return np.array(x.shape[slice(call["start"] or 0, call["end"])], dtype=np.int64)


@operator("Size")
def size(_: Call, x: Any) -> Any:
    return np.array(x.size, dtype=np.int64)


@operator("Reshape")
def reshape(call: Call, x: Any, wanted: Any = None) -> Any:
    """0 keeps the input's size, unless `allowzero`; -1 is what remains."""
    sizes = ints(call["shape"] if wanted is None else wanted)
    if not call["allowzero"]:
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    if min(sizes, default=0) < -1:
        raise Unsupported(f"{min(sizes)} is no size")
    if -1 in sizes and 0 in sizes and not call["allowzero"]:
        known = math.prod(n for n in sizes if n != -1)
        sizes = [0 if n == -1 and known == 0 else n for n in sizes]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(call: Call, x: Any) -> Any:
    axis = call["axis"] + (x.ndim if call["axis"] < 0 else 0)
    if not 0 <= axis <= x.ndim:
        raise Unsupported(f"axis {call['axis']} of {x.ndim} axes")
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Transpose")
def transpose(call: Call, x: Any) -> Any:
    return np.transpose(x, call["perm"])


@operator("Squeeze")
def squeeze(call: Call, x: Any, axes: Any = None) -> Any:
    given = call["axes"] if axes is None else ints(axes)
    return np.squeeze(x, None if given is None else tuple(given))


@operator("Unsqueeze")
def unsqueeze(call: Call, x: Any, axes: Any = None) -> Any:
    return np.expand_dims(x, tuple(call["axes"] if axes is None else ints(axes)))


@operator("Concat")
def concat(call: Call, *inputs: Any) -> Any:
    axis = 1 if call["axis"] is None else call["axis"]
    require_room([sum(x.size for x in inputs)], "Concat")
    return np.concatenate(inputs, axis=axis)


@operator("Split")
def split(call: Call, x: Any, sizes: Any = None) -> Any:
    axis = (call["axis"] or 0) % x.ndim
    side, parts = x.shape[axis], len(call.outputs)
    given = call["split"] if sizes is None else ints(sizes)
    if not given:
        step = -(-side // (call["num_outputs"] or parts))
        given = [max(0, min(step, side - i * step)) for i in range(parts)]
    if sum(given) != side or len(given) < parts or min(given) < 0:
        raise Unsupported(f"parts of {given} do not make up {side}")
    return tuple(np.split(x, np.cumsum(given)[:-1], axis=axis))


@operator("Slice")
def slice_attributes(call: Call, x: Any) -> Any:
    starts, ends = call["starts"], call["ends"]
    return _slice(x, starts, ends, call["axes"] or range(len(starts)), [1] * len(starts))


@operator("Slice", since=10)
def slice_inputs(_: Call, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    starts, ends = ints(starts), ints(ends)
    places = range(len(starts)) if axes is None else ints(axes)
    return _slice(x, starts, ends, places, [1] * len(starts) if steps is None else ints(steps))


def _slice(x: Any, starts: Any, ends: Any, axes: Any, steps: Any) -> Any:
    key = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        side = x.shape[axis]
        if step > 0:
            key[axis] = slice(start, end, step)
        else:  # an end below -side means: up to and with the first element
            key[axis] = slice(start if start >= -side else None, None if end < -side else end, step)
            if start < -side:
                key[axis] = slice(0, 0, 1)
    return x[tuple(key)]


@operator("Expand")
def expand(_: Call, x: Any, wanted: Any) -> Any:
    target = np.broadcast_shapes(x.shape, tuple(ints(wanted)))
    require_room(target, "Expand")
    return np.broadcast_to(x, target)


@operator("Tile")
def tile_early(_: Call, x: Any, tiles: Any, axis: Any) -> Any:
    repeats = [1] * x.ndim
    repeats[int(axis.reshape(()))] = int(tiles.reshape(()))
    return _tile(x, repeats)


@operator("Tile", since=6)
def tile(_: Call, x: Any, repeats: Any) -> Any:
    return _tile(x, ints(repeats))


def _tile(x: Any, repeats: list[int]) -> Any:
    require_room([n * r for n, r in zip(x.shape, repeats, strict=True)], "Tile")
    return np.tile(x, repeats)


@operator("Pad")
def pad_attributes(call: Call, x: Any) -> Any:
    return _pad(x, call["pads"] or call["paddings"], call["mode"], call["value"], range(x.ndim))


@operator("Pad", since=11)
def pad(call: Call, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    places = range(x.ndim) if axes is None else ints(axes)
    return _pad(x, ints(pads), call["mode"], None if value is None else value.reshape(()), places)


def _pad(x: Any, pads: Any, mode: str, value: Any, axes: Any) -> Any:
    """Negative pads cut off, before anything is added."""
    around, half = [[0, 0] for _ in range(x.ndim)], len(pads) // 2
    for i, axis in enumerate(axes):
        around[axis % x.ndim] = [int(pads[i]), int(pads[half + i])]
    x = x[tuple(slice(max(-b, 0), n - max(-e, 0)) for n, (b, e) in zip(x.shape, around, strict=True))]
    around = [[max(b, 0), max(e, 0)] for b, e in around]
    require_room([n + b + e for n, (b, e) in zip(x.shape, around, strict=True)], "Pad")
    if mode == "constant":
        fill = value if value is not None else "" if x.dtype == object else 0
        return np.pad(x, around, constant_values=fill)
    return np.pad(x, around, mode={"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode])  # type: ignore[call-overload]  # a Literal each


@operator("ConstantOfShape")
def constant_of_shape(call: Call, wanted: Any) -> Any:
    sizes, value = ints(wanted), call["value"]
    require_room(sizes, "ConstantOfShape")
    return np.full(sizes, 0.0 if value is None else value.reshape(-1)[0])


@operator("Range")
def range_of(_: Call, start: Any, limit: Any, delta: Any) -> Any:
    start, limit, delta = (v.reshape(()) for v in (start, limit, delta))
    count = max(0, math.ceil((limit.item() - start.item()) / delta.item()))
    require_room([count], "Range")
    if start.dtype.kind == "f":
        return start + np.arange(count) * delta
    return (start.item() + np.arange(count, dtype=np.int64) * delta.item()).astype(start.dtype)


@operator("EyeLike")
def eye_like(call: Call, x: Any) -> Any:
    dtype = x.dtype if call["dtype"] is None else held_as(call["dtype"])
    return np.eye(x.shape[0], x.shape[1], call["k"], dtype=dtype)


@operator("Trilu")
def trilu(call: Call, x: Any, k: Any = None) -> Any:
    at = 0 if k is None else int(k.reshape(()))
    at = max(-(1 << 31), min(at, 1 << 31))
    return (np.triu if call["upper"] else np.tril)(x, at)


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Any) -> Any:
    n, c, h, w = x.shape
    b = call["blocksize"]
    if call["mode"] == "CRD":
        return x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(call: Call, x: Any) -> Any:
    n, c, h, w = x.shape
    b = call["blocksize"]
    order = (0, 1, 3, 5, 2, 4) if call["mode"] == "CRD" else (0, 3, 5, 1, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(order).reshape(n, c * b * b, h // b, w // b)


@operator("ReverseSequence")
def reverse_sequence(call: Call, x: Any, lengths: Any) -> Any:
    """The first `lengths[i]` steps of each sample backwards."""
    y, batch, time = x.copy(), call["batch_axis"], call["time_axis"]
    view, source = np.moveaxis(y, (batch, time), (0, 1)), np.moveaxis(x, (batch, time), (0, 1))
    for i, length in enumerate(ints(lengths)):
        view[i, :length] = source[i, :length][::-1]
    return y
