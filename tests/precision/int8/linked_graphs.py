"""Random graphs of layers and of what passes factors between them, of channels of very different sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray


class Graph:
    """A graph in the making; values are names, `shape` of each is known.

    Args:
        seed: of everything random.
        shape: of the input "x".
        dtype: of every number.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], dtype: type = np.float64) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes = {"x": shape}

    def const(self, array: Array, name: str = "c") -> str:
        name = f"{name}{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def uneven(self, *shape: int, along: int) -> Array:
        """Normal numbers whose slices along an axis differ in size by up to e^3."""
        sizes = np.exp(self.random.uniform(-1.5, 1.5, shape[along]))
        values = self.random.standard_normal(shape) / np.sqrt(np.prod(shape) / shape[along])
        return (values * sizes.reshape([-1 if i == along else 1 for i in range(len(shape))])).astype(self.dtype)

    def node(self, operator: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"{operator}{len(self.nodes)}", **attributes))
        self.shapes[name] = shape
        return name

    def conv(self, x: str, channels: int, kernel: int = 1, group: int = 1, bias: bool = True) -> str:
        n, c, h, w = self.shapes[x]
        weight = self.const(self.uneven(channels, c // group, kernel, kernel, along=0))
        extra = [self.const(self.random.standard_normal(channels).astype(self.dtype))] if bias else []
        pad = kernel // 2
        return self.node("Conv", [x, weight, *extra], (n, channels, h, w), group=group, pads=[pad] * 4)

    def transposed(self, x: str, channels: int, group: int = 1) -> str:
        n, c, h, w = self.shapes[x]
        weight = self.const(self.uneven(c, channels // group, 1, 1, along=0))
        return self.node("ConvTranspose", [x, weight], (n, channels, h, w), group=group)

    def gemm(self, x: str, units: int, *, transposed: bool) -> str:
        n, c = self.shapes[x]
        weight = self.uneven(units, c, along=0)
        bias = self.const(self.random.standard_normal((1, units)).astype(self.dtype))
        given = self.const(weight if transposed else np.ascontiguousarray(weight.T))
        return self.node("Gemm", [x, given, bias], (n, units), transB=int(transposed))

    def matmul(self, x: str, units: int) -> str:
        *rest, c = self.shapes[x]
        return self.node("MatMul", [x, self.const(self.uneven(c, units, along=1))], (*rest, units))

    def model(self, *outputs: str, opset: int = 18) -> ir.Model:
        kind = TensorProto.DOUBLE if self.dtype is np.float64 else TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("x", kind, self.shapes["x"])],
            [helper.make_tensor_value_info(name, kind, self.shapes[name]) for name in outputs],
            self.constants,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(proto, full_check=True)
        return ir.from_proto(proto)


def passing(g: Graph, x: str, choice: int) -> str:
    """One operator that passes factors on, by number."""
    n, c, h, w = shape = g.shapes[x]
    channel: Array = g.random.uniform(0.1, 0.9, (c, 1, 1)).astype(g.dtype)

    def scalar(value: float) -> str:
        return g.const(np.array(value, g.dtype))

    def whole(*values: int) -> str:
        return g.const(np.array(values, np.int64))

    ways: tuple[Callable[[], str], ...] = (
        lambda: g.node("Relu", [x], shape),
        lambda: g.node("LeakyRelu", [x], shape, alpha=0.125),
        lambda: g.node("PRelu", [x, g.const(channel)], shape),
        lambda: g.node("Clip", [x, scalar(0)], shape),
        lambda: g.node("Clip", [x, scalar(0), scalar(0.5)], shape),
        lambda: g.node("MaxPool", [x], shape, kernel_shape=[3, 3], pads=[1] * 4),
        lambda: g.node("AveragePool", [x], shape, kernel_shape=[3, 3], pads=[1] * 4),
        lambda: g.node("Pad", [x, whole(0, 0, 1, 1, 0, 0, 0, 0)], (n, c, h + 1, w + 1)),
        lambda: g.node("Pad", [x, whole(0, 0, 1, 1, 0, 0, 0, 0), scalar(2)], (n, c, h + 1, w + 1)),
        lambda: g.node("Add", [x, g.const(channel)], shape),
        lambda: g.node("Sub", [g.const(channel), x], shape),
        lambda: g.node("Add", [x, scalar(0.3)], shape),
        lambda: g.node("Mul", [x, g.const(channel)], shape),
        lambda: g.node("Div", [x, g.const(channel)], shape),
        lambda: g.node("Max", [x, g.const(channel)], shape),
        lambda: g.node("Mul", [x, g.node("Sigmoid", [x], shape)], shape),
        lambda: g.node("Tanh", [x], shape),
        lambda: g.node("Identity", [x], shape),
        lambda: gated(g, x),
        lambda: g.node(
            "Transpose", [g.node("Transpose", [x], (n, h, w, c), perm=[0, 2, 3, 1])], shape, perm=[0, 3, 1, 2]
        ),
        lambda: g.node(
            "Div", [g.const(channel), g.node("Max", [g.node("Abs", [x], shape), g.const(channel)], shape)], shape
        ),
    )
    return ways[choice % len(ways)]()


PASSING = 21


def gated(g: Graph, x: str) -> str:
    """x times a sigmoid of a layer of its mean: squeeze and excitation."""
    n, c, *_ = g.shapes[x]
    mean = g.node("GlobalAveragePool", [x], (n, c, 1, 1))
    return g.node("Mul", [x, g.node("Sigmoid", [g.conv(mean, c)], (n, c, 1, 1))], g.shapes[x])


def random_graph(seed: int, dtype: type = np.float64) -> ir.Model:
    """Layers of all kinds, one behind the other, with branches, and two outputs now and then."""
    g = Graph(seed, (2, 4, 5, 5), dtype)
    pick = g.random.integers
    value = g.conv("x", 6, 3)
    outputs = []
    for _ in range(int(pick(2, 6))):
        value = passing(g, value, int(pick(PASSING)))
        channels = g.shapes[value][1]
        match int(pick(7)):
            case 0:
                value = g.conv(value, 6, 3)
            case 1:
                value = g.conv(value, channels, 3, group=channels)
            case 2:
                value = g.conv(value, channels, 1, group=2, bias=False)
            case 3:
                value = g.transposed(value, channels, group=int(pick(1, 3)))
            case 4:
                value = g.node("Add", [value, g.conv(value, channels, 3)], g.shapes[value])
            case 5:
                parts = [g.conv(value, 4), value]
                shape = g.shapes[value]
                value = g.node("Concat", parts, (shape[0], 4 + channels, *shape[2:]), axis=1)
            case _:
                outputs += [value] if pick(4) == 0 else []
    value = passing(g, value, int(pick(PASSING)))
    n, c, h, w = g.shapes[value]
    match int(pick(4)):
        case 0:
            flat = g.node("Flatten", [value], (n, c * h * w))
        case 1:
            flat = g.node("Reshape", [value, g.const(np.array([n, -1], np.int64))], (n, c * h * w))
        case 2:
            axes = g.const(np.array([2, 3], np.int64))
            flat = g.node("ReduceMean", [value, axes], (n, c), keepdims=0)
        case _:
            moved = g.node("Transpose", [value], (n, h, w, c), perm=[0, 2, 3, 1])
            outputs.append(g.matmul(g.node("Relu", [g.matmul(moved, 5)], (n, h, w, 5)), 3))
            flat = g.node("Flatten", [value], (n, c * h * w))
    hidden = g.node("Relu", [g.gemm(flat, 7, transposed=bool(pick(2)))], (n, 7))
    return g.model(g.gemm(hidden, 3, transposed=bool(pick(2))), *dict.fromkeys(outputs))
