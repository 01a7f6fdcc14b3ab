"""Random steps that move, choose and reduce numbers."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto

from tests.precision.random_growth import Growth, Unfit, Value, smooth, spatial


def reshape(g: Growth) -> None:
    """To another factorisation of the size, with 0 and -1 in it; at times by a computed shape."""
    x = g.pick(smooth)
    size = prod(x.shape)
    target = g.choices.one_of([(-1,), (x.shape[0], -1), (0, -1), (1, -1), (*x.shape, 1), (-1, x.shape[-1])])
    if g.choices.chance(20) and g.opset >= 13:
        first = g.node("Gather", [g.node("Shape", [x], keep=False), g.const(np.int64(0))], keep=False)
        if first.rank:
            raise Unfit
        one = g.node("Unsqueeze", [first, g.ints(0)], keep=False)
        shape = g.node("Concat", [one, g.ints(-1)], axis=0, keep=False)
        g.node("Reshape", [x, shape])
    elif size:
        g.node("Reshape", [x, g.ints(*target)])


def flatten(g: Growth) -> None:
    g.node("Flatten", [g.pick(smooth)], axis=1)


def transpose(g: Growth) -> None:
    """Any order of the axes but most often one that leaves the batch in front; at times no order is given."""
    x = g.pick(smooth)
    order = [int(axis) for axis in g.rng.permutation(x.rank - 1) + 1]
    how: dict[str, Any] = {} if g.choices.chance(15) else {"perm": [0, *order]}
    g.node("Transpose", [x], **how)


def squeezed(g: Growth) -> None:
    """Unsqueeze, and Squeeze of an axis of size 1; axes as attribute (up to 12) or input."""
    x = g.pick()
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    name = "Squeeze" if ones and g.choices.chance(60) else "Unsqueeze"
    axis = g.choices.one_of(ones) if name == "Squeeze" else g.choices.integer(0, x.rank)
    if g.opset < 13:
        g.node(name, [x], axes=[axis])
    else:
        g.node(name, [x, g.ints(axis)])


def concat(g: Growth) -> None:
    """Two or three values, at times one of them a constant."""
    first = g.pick(smooth)
    axis = g.choices.one_of((min(1, first.rank - 1), first.rank - 1, 0))

    def fits(value: Value) -> bool:
        same = value.is_float and value.rank == first.rank
        return same and all(i == axis or value.shape[i] == size for i, size in enumerate(first.shape))

    parts = [first, g.pick(fits)]
    if g.choices.chance(30):
        parts.append(g.const(g.normal(*first.shape), "part") if g.choices.chance(50) else g.pick(fits))
    g.node("Concat", parts, axis=g.choices.one_of((axis, axis - first.rank)))


def split(g: Growth) -> None:
    """Into two parts: sizes as attribute (up to 12) or input, equal ones by number (from 18)."""
    x = g.pick(lambda v: smooth(v) and max(v.shape) > 1)
    axis = g.choices.one_of([axis for axis, size in enumerate(x.shape) if size > 1])
    sizes = [1, x.shape[axis] - 1]
    if g.opset >= 18 and g.choices.chance(40):
        g.node("Split", [x], outputs=2, axis=axis, num_outputs=2)
    elif g.opset < 13:
        g.node("Split", [x], outputs=2, axis=axis, split=sizes)
    else:
        g.node("Split", [x, g.ints(*sizes)], outputs=2, axis=axis)


def sliced(g: Growth) -> None:
    """A part of one axis, at times backwards; by attributes in opset 9."""
    x = g.pick(lambda v: smooth(v) and max(v.shape) > 1)
    axis = g.choices.one_of([axis for axis, size in enumerate(x.shape) if size > 1])
    start, end, step = g.choices.one_of(((1, 2**31 - 1, 1), (0, -1, 1), (0, 2**31 - 1, 2), (-1, -(2**31), -1)))
    if g.opset < 10:
        if step != 1:
            raise Unfit
        g.node("Slice", [x], starts=[start], ends=[end], axes=[axis])
    else:
        g.node("Slice", [x, g.ints(start), g.ints(end), g.ints(axis), g.ints(step)])


def gathered(g: Growth) -> None:
    """Gather by a scalar, a vector or a matrix of stored indices; GatherElements."""
    x = g.pick(smooth)
    axis = g.choices.integer(0, x.rank - 1)
    dtype = g.choices.one_of((np.int64, np.int32))
    if g.opset >= 11 and g.choices.chance(20):
        indices = g.const(g.rng.integers(0, x.shape[axis], x.shape).astype(dtype), "indices")
        g.node("GatherElements", [x, indices], axis=axis)
        return
    shape = g.choices.one_of(((), (1,), (2,), (2, 1)))
    g.node("Gather", [x, g.const(np.asarray(g.rng.integers(0, x.shape[axis], shape), dtype), "indices")], axis=axis)


def embedded(g: Growth) -> None:
    """Rows of a stored table by whole numbers."""
    rows = 6
    x = g.pick(lambda v: v.elem in (TensorProto.INT64, TensorProto.INT32) and v.rank < 3)
    inside = g.node("Mod", [x, g.const(np.asarray(rows, x.array.dtype))], keep=False) if g.opset >= 10 else x
    g.node("Gather", [g.const(g.normal(rows, 4), "table"), inside])


def expanded(g: Growth) -> None:
    """Expand or Tile."""
    x = g.pick(lambda v: smooth(v) and v.rank < 5)
    if g.choices.chance(50):
        g.node("Tile", [x, g.ints(*([1] * (x.rank - 1)), 2)])
    else:
        g.node("Expand", [x, g.ints(*(size if size > 1 else 2 for size in x.shape))])


def padded(g: Growth) -> None:
    """Pad in every mode, by attribute (up to 10) or inputs, with axes from 18, some of it negative."""
    x = g.pick(smooth)
    modes = ["constant", "reflect", "edge"] + (["wrap"] if g.opset >= 19 else [])
    mode = g.choices.one_of(modes)
    amount = 1 if max(x.shape[-1], 0) > 1 else 0
    ends = g.choices.one_of(((amount, amount), (0, amount), (amount, 0), (0, -amount)))
    if mode == "constant":
        value = g.choices.one_of((None, 0.5, 0.0))
    if g.opset < 11:
        if mode == "wrap":
            raise Unfit
        pads = [*[0] * (x.rank - 1), ends[0], *[0] * (x.rank - 1), ends[1]]
        filled: dict[str, Any] = {"value": value} if mode == "constant" and value else {}
        g.node("Pad", [x], mode=mode, pads=pads, **filled)
        return
    fill = g.const(np.float32(value), "fill") if mode == "constant" and value is not None else None
    if g.opset >= 18 and g.choices.chance(40):
        g.node("Pad", [x, g.ints(*ends), fill, g.ints(-1)], mode=mode)
        return
    pads = [*[0] * (x.rank - 1), ends[0], *[0] * (x.rank - 1), ends[1]]
    g.node("Pad", [x, g.ints(*pads), *([fill] if fill is not None else [])], mode=mode)


def depth(g: Growth) -> None:
    """DepthToSpace and SpaceToDepth of blocks of 2."""
    if g.choices.chance(50):
        x = g.pick(lambda v: spatial(v) and v.rank == 4 and v.shape[1] % 4 == 0)
        how: dict[str, Any] = {"mode": "CRD"} if g.opset >= 11 and g.choices.chance(50) else {}
        g.node("DepthToSpace", [x], blocksize=2, **how)
    else:
        x = g.pick(lambda v: spatial(v) and v.rank == 4 and v.shape[2] % 2 == v.shape[3] % 2 == 0)
        g.node("SpaceToDepth", [x], blocksize=2)


def resize(g: Growth) -> None:
    """Upsample (9), Resize by scales or sizes, of the modes and coordinates that exporters write."""
    x = g.pick(lambda v: spatial(v) and v.rank == 4)
    scales = g.const(np.array([1, 1, 2, g.choices.one_of((2, 1.5))], np.float32), "scales", shared=False)
    mode = g.choices.one_of(("nearest", "linear"))
    if g.opset < 11:
        g.node("Upsample" if g.opset == 9 else "Resize", [x, scales], mode=mode)
        return
    coordinates = g.choices.one_of(("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = g.choices.one_of(("floor", "round_prefer_floor"))
    absent = g.const(np.zeros(0, np.float32), "roi", shared=False) if g.opset < 13 else None
    if g.choices.chance(50):
        g.node("Resize", [x, absent, scales], **attributes)
    else:
        sizes = g.ints(*x.shape[:2], 2 * x.shape[2], x.shape[3] + 1)
        g.node("Resize", [x, absent, absent, sizes], **attributes)


REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")


def reduced(g: Growth) -> None:
    """A reduction over some axes or all; axes as attribute or input, as the opset wants it."""
    x = g.pick(smooth)
    name = g.choices.one_of((*REDUCTIONS, "ReduceLogSumExp", "ReduceProd"))
    axes = g.choices.one_of(([x.rank - 1], [-1], list(range(1, x.rank)) or [0], None))
    keep = g.choices.integer(0, 1)
    by_input = g.opset >= (13 if name == "ReduceSum" else 18)
    if axes is None:
        g.node(name, [x], keepdims=keep)
    elif by_input:
        g.node(name, [x, g.ints(*axes)], keepdims=keep)
    else:
        g.node(name, [x], axes=axes, keepdims=keep)


def ranked(g: Growth) -> None:
    """TopK with its indices, ArgMax and ArgMin."""
    g.jumps = True
    x = g.pick(smooth)
    axis = x.rank - 1
    if g.choices.chance(50):
        k = g.choices.integer(1, x.shape[axis])
        if g.opset < 10:
            g.node("TopK", [x], outputs=2, axis=axis, k=k)
        else:
            g.node("TopK", [x, g.ints(k)], outputs=2, axis=axis)
        return
    g.node(g.choices.one_of(("ArgMax", "ArgMin")), [x], axis=axis, keepdims=g.choices.integer(0, 1))


def summed(g: Growth) -> None:
    """CumSum along the last axis (from 11)."""
    if g.opset < 11:
        raise Unfit
    x = g.pick(smooth)
    g.node("CumSum", [x, g.const(np.int32(x.rank - 1), "axis")], exclusive=g.choices.integer(0, 1))


def made(g: Growth) -> None:
    """Numbers from nothing that a network reads: ConstantOfShape, Range, EyeLike, OneHot, Trilu."""
    kind = g.choices.integer(0, 3)
    if kind == 0:
        x = g.pick(smooth)
        value = np.asarray([0.5], np.float32)
        from onnx import numpy_helper

        ones = g.node("ConstantOfShape", [g.ints(x.shape[-1])], value=numpy_helper.from_array(value), keep=False)
        g.node("Mul", [x, ones])
    elif kind == 1:
        x = g.pick(lambda v: v.elem == TensorProto.INT64 and v.rank == 1)
        values = g.const(np.array([0.25, 1.5], np.float32), "values", shared=False)
        g.node("OneHot", [x, g.const(np.int64(5)), values])
    elif kind == 2:
        x = g.pick(lambda v: v.is_float and v.rank == 2)
        g.node("Mul", [x, g.node("EyeLike", [x], keep=False)])
    else:
        if g.opset < 14:
            raise Unfit
        g.node("Trilu", [g.pick(lambda v: v.is_float and v.rank >= 2)], upper=g.choices.integer(0, 1))


STEPS = (
    (3, reshape),
    (4, flatten),
    (3, transpose),
    (3, squeezed),
    (4, concat),
    (2, split),
    (2, sliced),
    (2, gathered),
    (2, embedded),
    (1, expanded),
    (2, padded),
    (1, depth),
    (2, resize),
    (4, reduced),
    (1, ranked),
    (1, summed),
    (1, made),
)
