"""Small nodes whose meaning depends on the opset, or that the shipped models try at one opset only.

Each is tried at every opset whose schema takes its attributes and its number of inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

RNG = np.random.default_rng(11)


@dataclass(frozen=True)
class Case:
    """One node; integer inputs are stored in the model (shapes, axes), the others are fed. None: left out."""

    operator: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    feeds_integers: bool = False

    def __str__(self) -> str:
        return f"{self.operator} {self.attributes} {[getattr(x, 'shape', x) for x in self.inputs]}"


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _broadcasting()
    yield from _normalising()
    yield from _windows()
    yield from _reductions()
    yield from _resizing()
    yield from _shapes()
    yield from _recurrent()
    yield from _integers()
    yield from _rare()


def _broadcasting() -> Iterator[Case]:
    x, row, channel, same = normal(2, 3, 4), normal(4), normal(3), normal(2, 3, 4)
    for name in ("Add", "Sub", "Mul", "Div", "Pow"):
        x_ = np.abs(x) + 0.5 if name == "Pow" else x
        yield Case(name, (x_, same))
        yield Case(name, (x_, row))
        yield Case(name, (x_, row), {"broadcast": 1})
        yield Case(name, (x_, channel), {"broadcast": 1, "axis": 1})
        yield Case(name, (x_, normal(3, 4)), {"broadcast": 1, "axis": -2})
        yield Case(name, (x_, np.array(1.5, np.float32)), {"broadcast": 1})
    for name in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual"):
        yield Case(name, (x, row))
        yield Case(name, (x, row), {"broadcast": 1})
    for name in ("And", "Or", "Xor"):
        yield Case(name, (x > 0, row > 0))
        yield Case(name, (x > 0, row > 0), {"broadcast": 1})
    for name in ("Sum", "Mean", "Max", "Min"):
        yield Case(name, (x, same, row))
        yield Case(name, (x, same))
    for slope in (normal(1), normal(3, 1), normal(2, 3, 4), normal(3)):
        yield Case("PRelu", (x, slope))
    yield Case("Clip", (x,), {"min": -0.5, "max": 0.25})
    yield Case("Clip", (x,))
    for low, high in product((None, np.array(-0.5, np.float32)), (None, np.array(-0.7, np.float32))):
        yield Case("Clip", (x, low, high))
    yield Case("Where", (x > 0, x, row))
    yield Case("Mod", (x, row), {"fmod": 1})


def _normalising() -> Iterator[Case]:
    x = normal(2, 3, 4, 5)
    for name, axis in product(("Softmax", "LogSoftmax", "Hardmax"), (0, 1, 2, 3, -1, -2)):
        yield Case(name, (x,), {"axis": axis})
    for name in ("Softmax", "LogSoftmax", "Hardmax"):
        yield Case(name, (x,))
    stats = (normal(3), normal(3), normal(3), np.abs(normal(3)) + 0.1)
    for extra in ({}, {"is_test": 1}, {"is_test": 1, "spatial": 1}, {"spatial": 1}, {"training_mode": 0}):
        yield Case("BatchNormalization", (x, *stats), {"epsilon": 1e-2, **extra})
    each = tuple(normal(3, 4, 5) for _ in range(3))
    for extra in ({"is_test": 1}, {}):
        yield Case("BatchNormalization", (x, *each, np.abs(normal(3, 4, 5)) + 0.1), {"spatial": 0, **extra})
    yield Case("BatchNormalization", (normal(4, 3), *stats))
    yield Case("BatchNormalization", (x, *stats), {"training_mode": 1}, outputs=3)
    yield Case("InstanceNormalization", (x, normal(3), normal(3)), {"epsilon": 1e-2})
    yield Case("GroupNormalization", (normal(2, 6, 4), normal(2), normal(2)), {"num_groups": 2})
    yield Case("GroupNormalization", (normal(2, 6, 4), normal(6), normal(6)), {"num_groups": 2})
    for axis in (1, -1, 2):
        shape = (3, 4, 5)[axis - 1 if axis > 0 else axis :]
        yield Case("LayerNormalization", (x, normal(*shape), normal(*shape)), {"axis": axis}, outputs=3)
    for size in (1, 2, 3, 4, 5):
        yield Case("LRN", (normal(2, 7, 3, 3),), {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 1.5})
    for p, axis in product((1, 2), (0, 1, -1)):
        yield Case("LpNormalization", (x,), {"p": p, "axis": axis})
    yield Case("MeanVarianceNormalization", (x,), {"axes": [0, 2, 3]})
    yield Case("MeanVarianceNormalization", (x,))
    yield Case("Dropout", (x,), {"ratio": 0.3})
    yield Case("Dropout", (x,), {"ratio": 0.3, "is_test": 1})
    yield Case("Dropout", (x, np.array(0.5, np.float32), np.array(False)), outputs=2)


def _windows() -> Iterator[Case]:
    for rank in (1, 2, 3):
        x = normal(2, 4, *(9, 8, 7)[:rank])
        kernel, ones = (3, 2, 3)[:rank], [1] * rank
        grids: list[dict[str, Any]] = [
            {},
            {"strides": [2] * rank},
            {"dilations": [2] * rank},
            {"pads": [1] * (2 * rank)},
            {"pads": [1, 0, 1][:rank] + [0, 1, 1][:rank], "strides": [2] * rank},
            {"strides": [2] * rank, "dilations": [2] * rank, "pads": [1] * (2 * rank)},
            {"auto_pad": "SAME_UPPER", "strides": [2] * rank},
            {"auto_pad": "SAME_LOWER", "strides": [2] * rank},
            {"auto_pad": "SAME_LOWER"},
            {"auto_pad": "VALID", "strides": [3] * rank},
        ]
        for grid in grids:
            for group in (1, 2, 4):
                w = normal(8, 4 // group, *kernel)
                yield Case("Conv", (x, w, normal(8)), {"group": group, **grid})
                yield Case("ConvTranspose", (x, normal(4, 2, *kernel), normal(2 * group)), {"group": group, **grid})
            for pool in ("MaxPool", "AveragePool", "LpPool"):
                how = {"kernel_shape": list(kernel), **grid}
                yield Case(pool, (x,), how)
                yield Case(pool, (x,), {**how, "ceil_mode": 1})
            yield Case("AveragePool", (x,), {"kernel_shape": list(kernel), **grid, "count_include_pad": 1})
            both = {"count_include_pad": 1, "ceil_mode": 1}
            yield Case("AveragePool", (x,), {"kernel_shape": list(kernel), **grid, **both})
            yield Case("MaxPool", (x,), {"kernel_shape": list(kernel), **grid}, outputs=2)
            yield Case("MaxPool", (x,), {"kernel_shape": list(kernel), **grid, "storage_order": 1}, outputs=2)
            yield Case("LpPool", (x,), {"kernel_shape": list(kernel), **grid, "p": 3})
        padding = {"strides": [3] * rank, "output_padding": [1] * rank}
        yield Case("ConvTranspose", (x, normal(4, 2, *kernel)), padding)
        wanted = {"strides": [3] * rank, "output_shape": [3 * n + 1 for n in x.shape[2:]]}
        for auto in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
            yield Case("ConvTranspose", (x, normal(4, 2, *kernel)), {**wanted, "auto_pad": auto})
        yield Case("Conv", (x, normal(8, 4, *ones)))
        for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
            yield Case(name, (x,))
    byte = (RNG.integers(0, 255, (2, 4, 9, 8))).astype(np.uint8)
    yield Case("MaxPool", (byte,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, feeds_integers=True)


def _reductions() -> Iterator[Case]:
    x = np.abs(normal(2, 3, 4)) + 0.1
    names = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
    for name, keep in product(names, (0, 1)):
        for axes in ([1], [0, 2], [-1], [-3, -1]):
            yield Case(f"Reduce{name}", (x,), {"axes": axes, "keepdims": keep})
            yield Case(f"Reduce{name}", (x, ints(*axes)), {"keepdims": keep})
        yield Case(f"Reduce{name}", (x,), {"keepdims": keep})
        yield Case(f"Reduce{name}", (x,), {"keepdims": keep, "noop_with_empty_axes": 1})
        yield Case(f"Reduce{name}", (x, ints()), {"keepdims": keep})
    ties = RNG.integers(0, 3, (3, 5, 4)).astype(np.float32)
    for name, axis, keep in product(("ArgMax", "ArgMin"), (0, 1, -1), (0, 1)):
        yield Case(name, (ties,), {"axis": axis, "keepdims": keep})
        yield Case(name, (ties,), {"axis": axis, "keepdims": keep, "select_last_index": 1})
    for axis in (0, 1, -1):
        yield Case("TopK", (ties,), {"axis": axis, "k": 2}, outputs=2)
        yield Case("TopK", (ties, ints(3)), {"axis": axis}, outputs=2)
        yield Case("TopK", (ties, ints(3)), {"axis": axis, "largest": 0}, outputs=2)
    for exclusive, reverse, axis in product((0, 1), (0, 1), (0, -1)):
        yield Case("CumSum", (x, np.array(axis)), {"exclusive": exclusive, "reverse": reverse})


def _resizing() -> Iterator[Case]:
    x = normal(1, 2, 6, 5)
    up, down, odd = [np.array(s, np.float32) for s in ([1, 1, 2, 3], [1, 1, 0.5, 0.6], [1, 1, 1.7, 0.8])]
    for mode in ("nearest", "linear", "bilinear"):
        yield Case("Upsample", (x,), {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]})
        yield Case("Upsample", (x,), {"mode": mode, "height_scale": 2.0, "width_scale": 3.0})
        for scales in (up, odd[[0, 1, 2, 0]], down):
            yield Case("Upsample", (x, scales), {"mode": mode})
            yield Case("Resize", (x, scales), {"mode": mode})
    transforms = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
    for transform, scales in product((*transforms, "tf_half_pixel_for_nn"), (up, down, odd)):
        how = {"coordinate_transformation_mode": transform}
        rounds = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for nearest in rounds:
            if (transform, nearest) == ("half_pixel_symmetric", "floor") and scales is down:
                continue  # (1.5 / 0.6) - 0.5 is on an edge: 2 in float32, and 1 in ONNX Runtime
            yield Case("Resize", (x, None, scales), {**how, "mode": "nearest", "nearest_mode": nearest})
        for mode, outside in product(("linear", "cubic"), (0, 1)):
            yield Case("Resize", (x, None, scales), {**how, "mode": mode, "exclude_outside": outside})
        for mode, outside in product(("linear", "cubic"), (0, 1)):
            yield Case("Resize", (x, None, scales), {**how, "mode": mode, "antialias": 1, "exclude_outside": outside})
    for mode, sizes in product(("nearest", "linear", "cubic"), ((1, 2, 9, 4), (1, 2, 1, 1), (1, 2, 3, 11))):
        for transform in transforms:
            how = {"mode": mode, "coordinate_transformation_mode": transform}
            yield Case("Resize", (x, None, None, ints(*sizes)), how)
    for policy in ("not_larger", "not_smaller"):
        how = {"mode": "linear", "keep_aspect_ratio_policy": policy, "axes": [2, 3]}
        yield Case("Resize", (x, None, None, ints(9, 4)), how)
    yield Case("Resize", (x, None, np.array([2, 0.5], np.float32)), {"axes": [3, 2], "mode": "linear"})
    roi = np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.3], np.float32)
    for mode in ("nearest", "linear", "cubic"):
        how = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
        yield Case("Resize", (x, roi, None, ints(1, 2, 4, 7)), how)


def _shapes() -> Iterator[Case]:
    x = normal(2, 3, 4)
    yield Case("Reshape", (x, ints(0, -1)))
    yield Case("Reshape", (x, ints(4, 3, 2)), {"allowzero": 1})
    yield Case("Reshape", (x,), {"shape": [0, -1]})
    for axis in (0, 1, 2, 3, -1):
        yield Case("Flatten", (x,), {"axis": axis})
    one = normal(1, 3, 1, 2)
    for axes in ([0], [0, 2], [-2]):
        yield Case("Squeeze", (one,), {"axes": axes})
        yield Case("Squeeze", (one, ints(*axes)))
        yield Case("Unsqueeze", (x,), {"axes": axes})
        yield Case("Unsqueeze", (x, ints(*axes)))
    yield Case("Squeeze", (one,))
    for axis in (0, 1, -1):
        yield Case("Concat", (x, x), {"axis": axis})
    yield Case("Concat", (x, x))
    y = normal(2, 7)
    yield Case("Split", (y,), {"axis": 1, "split": [2, 4, 1]}, outputs=3)
    yield Case("Split", (y, ints(2, 4, 1)), {"axis": 1}, outputs=3)
    yield Case("Split", (y, ints(2, 5)), {"axis": -1}, outputs=2)
    yield Case("Split", (normal(2, 6),), {"axis": 1}, outputs=3)
    yield Case("Split", (y,), {"axis": 1, "num_outputs": 3}, outputs=3)
    s = normal(6, 5)
    yield Case("Slice", (s,), {"starts": [1, -3], "ends": [1000, -1], "axes": [0, 1]})
    yield Case("Slice", (s,), {"starts": [2], "ends": [4]})
    slices = ([1, 5, 2, 1], [-1, -1000, -2, -1], [1000, -1000, -3, 0], [-1000, 1000, 2, 1], [4, 1, 1, 0])
    for start, end, step, axis in slices:
        yield Case("Slice", (s, ints(start), ints(end), ints(axis), ints(step)))
    yield Case("Slice", (s, ints(1, 0), ints(4, 3)))
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield Case("Pad", (s,), {"mode": mode, "pads": [1, 2, 0, 3], "value": 1.5})
        yield Case("Pad", (s,), {"mode": mode, "paddings": [1, 2, 0, 3], "value": 1.5})
        yield Case("Pad", (s, ints(1, 2, 0, 3), np.array(1.5, np.float32)), {"mode": mode})
        yield Case("Pad", (s, ints(1, 2), None, ints(-1)), {"mode": mode})
        yield Case("Pad", (s, ints(-1, 2, 1, -2)), {"mode": mode})
    yield Case("Tile", (s, ints(2, 3)))
    yield Case("Expand", (normal(3, 1), ints(2, 1, 4)))
    for k, upper in product((-1, 0, 2), (0, 1)):
        yield Case("Trilu", (s, np.array(k)), {"upper": upper})
    for mode in ("DCR", "CRD"):
        yield Case("DepthToSpace", (normal(1, 8, 2, 3),), {"blocksize": 2, "mode": mode})
    yield Case("SpaceToDepth", (normal(1, 2, 4, 6),), {"blocksize": 2})
    for start, end in ((0, 2), (-2, 100), (1, -1), (-100, 1)):
        yield Case("Shape", (x,), {"start": start, "end": end})
    for axis in (0, 1, -1):
        yield Case("Gather", (x, ints(1, 0, -1)), {"axis": axis})
        yield Case("OneHot", (ints(1, 0, -1, 5), ints(3), np.array([2.0, 5.0], np.float32)), {"axis": axis})
        places = RNG.integers(-1, 2, (2, 3, 2))
        yield Case("GatherElements", (x, places), {"axis": axis})
        for how in ("none", "add", "mul", "max", "min"):
            unique = places if how != "none" else np.zeros((2, 3, 1), np.int64)
            for name in ("ScatterElements", "Scatter"):
                extra = {} if how == "none" else {"reduction": how}
                yield Case(name, (x, unique, normal(*unique.shape)), {"axis": axis, **extra})
    for how in ("none", "add", "mul", "max", "min"):
        at = np.array([[0, 1], [1, 2]], np.int64)
        yield Case("ScatterND", (x, at, normal(2, 4)), {} if how == "none" else {"reduction": how})
    yield Case("GatherND", (x, np.array([[0, 1], [1, -1]], np.int64)))
    yield Case("GatherND", (x, np.array([[1], [2]], np.int64)), {"batch_dims": 1})
    yield Case("Compress", (x, np.array([True, False, True])), {"axis": 1})
    yield Case("ReverseSequence", (normal(4, 3, 2), ints(1, 3, 4)), {"time_axis": 0, "batch_axis": 1})
    for ta, tb, c in product((0, 1), (0, 1), ((2, 4), (4,), (2, 1), (1,), ())):
        a, b = normal(*((3, 2) if ta else (2, 3))), normal(*((4, 3) if tb else (3, 4)))
        how = {"transA": ta, "transB": tb, "alpha": 0.5, "beta": 1.5}
        yield Case("Gemm", (a, b, normal(*c)), how)
        yield Case("Gemm", (a, b, normal(*c)), {**how, "broadcast": 1})
        yield Case("Gemm", (a, b), how)
    for equation in ("ij,jk->ik", "i j , j k", "...ij,...jk->...ki", "ii->i"):
        count = equation.count(",") + 1
        yield Case("Einsum", tuple(normal(3, 3) for _ in range(count)), {"equation": equation})


def _recurrent() -> Iterator[Case]:
    steps, batch, size, hidden = 4, 3, 5, 2
    x = normal(steps, batch, size)
    for name, gates, states in (("RNN", 1, 1), ("GRU", 3, 1), ("LSTM", 4, 2)):
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            w, r, b = normal(d, gates * hidden, size), normal(d, gates * hidden, hidden), normal(d, 2 * gates * hidden)
            begin = tuple(normal(d, batch, hidden) for _ in range(states))
            lengths = np.array([4, 2, 3], np.int32)
            how = {"direction": direction, "hidden_size": hidden}
            peep = (normal(d, 3 * hidden),) if name == "LSTM" else ()
            variants: list[dict[str, Any]] = [{}, {"clip": 0.4}]
            variants += [{"linear_before_reset": 1}] if name == "GRU" else []
            variants += [{"input_forget": 1}] if name == "LSTM" else []
            functions = ["HardSigmoid", "Affine", "LeakyRelu"][: {"RNN": 1, "GRU": 2, "LSTM": 3}[name]] * d
            alpha = [0.3, 0.9, 0.1][: len(functions) // d] * d
            beta = [0.4, 0.2][: min(2, len(functions) // d)] * d
            variants.append({"activations": functions, "activation_alpha": alpha, "activation_beta": beta})
            for extra in variants:
                yield Case(name, (x, w, r), {**how, **extra}, outputs=1 + states)
                yield Case(name, (x, w, r, b, lengths, *begin, *peep), {**how, **extra}, outputs=1 + states)


def _integers() -> Iterator[Case]:
    for dtype in (np.int32, np.int64, np.uint8, np.int8, np.uint32, np.uint64, np.int16, np.uint16):
        ends = np.iinfo(dtype)
        a = RNG.integers(max(ends.min, -(2**40)), min(ends.max, 2**40), (4, 5)).astype(dtype)
        b = np.where((c := RNG.integers(ends.min // 16, ends.max // 16, (4, 5)).astype(dtype)) == 0, 1, c).astype(dtype)
        for name in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Equal", "Greater"):
            yield Case(name, (a, b), feeds_integers=True)
        for name in ("Abs", "Neg", "Sign", "Relu"):
            yield Case(name, (a,), feeds_integers=True)
        yield Case("Mod", (a, b), {"fmod": 1}, feeds_integers=True)
        for name in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "SumSquare"):
            sized = a % 9 if name in ("Prod", "SumSquare") else a // 8  # ONNX Runtime saturates some and wraps others
            yield Case(f"Reduce{name}", (sized.astype(dtype),), {"axes": [1]}, feeds_integers=True)
        small = (a % 5).astype(dtype)
        yield Case("Pow", (small, np.full_like(small, 2)), feeds_integers=True)
        yield Case("Pow", (small, (small % 3).astype(dtype)), feeds_integers=True)
        yield Case("ArgMax", (a,), {"axis": 1}, feeds_integers=True)
        yield Case("Clip", (a, dtype(3), dtype(90)), feeds_integers=True)
        yield Case("CumSum", (a, np.array(1)), feeds_integers=True)
        yield Case("MatMul", (a, b.T), feeds_integers=True)
        yield Case("Where", (a > b, a, b), feeds_integers=True)
        for to in (1, 2, 3, 5, 6, 7, 9, 12, 13):
            yield Case("Cast", (a,), {"to": to}, feeds_integers=True)
    for shift in ("LEFT", "RIGHT"):
        yield Case("BitShift", (np.uint8([200, 3, 7]), np.uint8([1, 2, 3])), {"direction": shift}, feeds_integers=True)
    x = np.float32([-3.7, -0.5, 0.0, 0.5, 1.5, 2.5, 100.2])
    for to in (2, 3, 6, 7, 9, 10, 11):
        yield Case("Cast", (np.abs(x) if to == 2 else x,), {"to": to})
    for zero in (np.uint8(7), np.int8(-3), None):
        scale = np.float32(0.3)
        yield Case("QuantizeLinear", (x, scale, zero), feeds_integers=True)
    for axis in (0, 1, -1):
        side = (3, 4)[axis]
        m, scales = normal(3, 4), np.abs(normal(side)) + 0.01
        yield Case("QuantizeLinear", (m, scales, np.zeros(side, np.int8)), {"axis": axis}, feeds_integers=True)
        q = RNG.integers(-128, 127, (3, 4)).astype(np.int8)
        zeros = RNG.integers(-9, 9, side).astype(np.int8)
        yield Case("DequantizeLinear", (q, scales, zeros), {"axis": axis}, feeds_integers=True)
        yield Case("DequantizeLinear", (q, scales), {"axis": axis}, feeds_integers=True)
    blocks, q = np.abs(normal(2, 4)) + 0.01, RNG.integers(-128, 127, (6, 4)).astype(np.int8)
    yield Case("DequantizeLinear", (q, blocks), {"axis": 0, "block_size": 3}, feeds_integers=True)
    yield Case("QuantizeLinear", (normal(6, 4), blocks), {"axis": 0, "block_size": 3, "output_dtype": 3})
    byte, other = RNG.integers(0, 255, (3, 4)).astype(np.uint8), RNG.integers(0, 255, (4, 5)).astype(np.uint8)
    yield Case("MatMulInteger", (byte, other, np.uint8(7), np.uint8(9)), feeds_integers=True)
    yield Case("MatMulInteger", (byte, other), feeds_integers=True)
    image = RNG.integers(0, 255, (1, 3, 5, 5)).astype(np.uint8)
    kernel = RNG.integers(0, 255, (4, 3, 3, 3)).astype(np.uint8)
    for pads in ([0] * 4, [1] * 4):
        yield Case("ConvInteger", (image, kernel, np.uint8(7)), {"pads": pads}, feeds_integers=True)
        quantised = (image, np.float32(0.1), np.uint8(9), kernel, np.float32(0.02), np.uint8(120), np.float32(1.3))
        yield Case("QLinearConv", (*quantised, np.uint8(5)), {"pads": pads}, feeds_integers=True)
    matrices = (byte, np.float32(0.1), np.uint8(9), other, np.float32(0.02), np.uint8(120), np.float32(0.3))
    yield Case("QLinearMatMul", (*matrices, np.uint8(5)), feeds_integers=True)


def _rare() -> Iterator[Case]:
    """Operators of which onnx.reference is asked, at the opsets that the shipped models leave out."""
    x, boxes = normal(2, 3, 8, 7), np.array([[0, 0, 5, 6], [1, 2, 3.5, 7]], np.float32)
    for mode, ratio, half in product(("avg", "max"), (0, 2), ("half_pixel", "output_half_pixel")):
        how = {"mode": mode, "sampling_ratio": ratio, "output_height": 3, "output_width": 2, "spatial_scale": 0.7}
        yield Case("RoiAlign", (x, boxes, ints(0, 1)), how)
        yield Case("RoiAlign", (x, boxes, ints(0, 1)), {**how, "coordinate_transformation_mode": half})
    yield Case("MelWeightMatrix", tuple(map(np.array, (8, 16, 8192, np.float32(0), np.float32(4096)))))
    grid = RNG.uniform(-1.3, 1.3, (2, 4, 5, 2)).astype(np.float32)
    edges = ("zeros", "border", "reflection")
    for mode, edge, corners in product(("bilinear", "nearest", "bicubic", "linear", "cubic"), edges, (0, 1)):
        yield Case("GridSample", (x, grid), {"mode": mode, "padding_mode": edge, "align_corners": corners})
    volume = RNG.uniform(-1.3, 1.3, (2, 2, 4, 5, 3)).astype(np.float32)
    yield Case("GridSample", (normal(2, 1, 4, 5, 6), volume), {"mode": "linear"})
    signal = normal(2, 16, 1)
    for onesided, axis in product((0, 1), (1,)):
        yield Case("DFT", (signal,), {"onesided": onesided, "axis": axis})
        yield Case("DFT", (signal, np.array(12)), {"onesided": onesided, "axis": axis})
        yield Case("DFT", (signal, None, np.array(axis)), {"onesided": onesided})
        yield Case("STFT", (signal, np.array(4), np.hanning(8).astype(np.float32)), {"onesided": onesided})
    yield Case("DFT", (normal(2, 16, 2),), {"inverse": 1, "axis": 1})
    places = np.argsort(RNG.random((1, 1, 16)), axis=-1)[..., :4].reshape(1, 1, 2, 2)
    yield Case("MaxUnpool", (normal(1, 1, 2, 2), places), {"kernel_shape": [2, 2], "strides": [2, 2]})
    corners = np.sort(RNG.random((1, 9, 2, 2)).astype(np.float32), axis=2).reshape(1, 9, 4)
    limits = (np.array([4]), np.array([0.4], np.float32), np.array([0.2], np.float32))
    for center in (0, 1):
        how = {"center_point_box": center}
        yield Case("NonMaxSuppression", (corners, RNG.random((1, 2, 9)).astype(np.float32), *limits), how)
    for ordered, axis in product((0, 1), ({}, {"axis": 0}, {"axis": 1})):
        tied = RNG.integers(0, 3, (4, 3)).astype(np.float32)
        yield Case("Unique", (tied,), {"sorted": ordered, **axis}, outputs=4)
    yield Case("Col2Im", (normal(1, 8, 16), ints(5, 5), ints(2, 2)))
    how = {"dilations": [2, 1], "strides": [1, 2], "pads": [1, 0, 1, 2]}
    yield Case("Col2Im", (normal(2, 8, 15), ints(5, 5), ints(2, 2)), how)
    yield Case("DeformConv", (normal(1, 2, 5, 5), normal(3, 2, 2, 2), normal(1, 8, 4, 4) / 3))
    yield Case("Det", (normal(2, 3, 3),))
    for kind in ("Hann", "Hamming", "Blackman"):
        for periodic in (0, 1):
            yield Case(f"{kind}Window", (np.array(7),), {"periodic": periodic})
    labels = np.array([0, 2, 1, 2])
    for reduction in ("none", "mean", "sum"):
        for weights in ((), (np.abs(normal(3)),)):
            how = {"reduction": reduction}
            yield Case("NegativeLogLikelihoodLoss", (normal(4, 3), labels, *weights), how)
            yield Case("NegativeLogLikelihoodLoss", (normal(4, 3), labels, *weights), {**how, "ignore_index": 2})
            yield Case("SoftmaxCrossEntropyLoss", (normal(4, 3), labels, *weights), how, outputs=2)
    yield Case("DynamicQuantizeLinear", (normal(4, 5),), outputs=3)
    for shape in (ints(2, 9), ints(5, 3), ints(4, 4)):
        yield Case("CenterCropPad", (normal(4, 5), shape))
    for approximate in ("none", "tanh"):
        yield Case("Gelu", (normal(40) * 3,), {"approximate": approximate})
    for name in ("Erf", "Softplus", "Softsign", "Mish", "HardSwish", "Sigmoid", "Tanh", "Round", "Sign", "Exp"):
        yield Case(name, (normal(40) * 3,))
    for name in ("Elu", "Celu", "LeakyRelu", "ThresholdedRelu"):
        yield Case(name, (normal(40) * 3,), {"alpha": 0.7})
        yield Case(name, (normal(40) * 3,))
    for name in ("Selu", "HardSigmoid", "Shrink"):
        yield Case(name, (normal(40) * 3,))
