"""Nodes of whole numbers, and those that quantise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.runtime.float64.node_case import RNG, Case, normal


def integers() -> Iterator[Case]:
    for dtype in (np.int32, np.int64, np.uint8, np.int8, np.uint32, np.uint64, np.int16, np.uint16):
        ends = np.iinfo(dtype)
        a: Any = RNG.integers(max(ends.min, -(2**40)), min(ends.max, 2**40), (4, 5)).astype(dtype)
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
        yield Case(
            "BitShift",
            (np.array([200, 3, 7], np.uint8), np.array([1, 2, 3], np.uint8)),
            {"direction": shift},
            feeds_integers=True,
        )
    x = np.array([-3.7, -0.5, 0.0, 0.5, 1.5, 2.5, 100.2], np.float32)
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
