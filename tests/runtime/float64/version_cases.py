"""Small nodes whose meaning depends on the opset, or that the shipped models try at one opset only.

Each is tried at every opset whose schema takes its attributes and its number of inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from tests.runtime.float64 import integer_cases, rare_cases, window_cases
from tests.runtime.float64.node_case import RNG, Case, ints, normal


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _broadcasting()
    yield from _normalising()
    yield from window_cases.windows()
    yield from _reductions()
    yield from window_cases.resizing()
    yield from _shapes()
    yield from _recurrent()
    yield from integer_cases.integers()
    yield from rare_cases.rare()


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
        scaled = {"transA": ta, "transB": tb, "alpha": 0.5, "beta": 1.5}
        yield Case("Gemm", (a, b, normal(*c)), scaled)
        yield Case("Gemm", (a, b, normal(*c)), {**scaled, "broadcast": 1})
        yield Case("Gemm", (a, b), scaled)
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
