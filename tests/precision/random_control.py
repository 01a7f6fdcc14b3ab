"""Random steps with graphs inside: If, and functions of the model's own."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.precision.random_growth import FLOAT, Growth, Unfit

LOCAL = "local.parts"


def branching(g: Growth) -> None:
    """An If whose branches read values from outside; its condition is stored, or computed."""
    x = g.pick()
    if g.choices.chance(50):
        condition = g.const(np.array(g.choices.chance(50)), "condition")
    else:
        g.jumps = True
        total = g.node("ReduceMax", [x], keepdims=0, keep=False)
        condition = g.node("Greater", [total, g.const(np.float32(0.3))], keep=False)
    shift = g.const(np.float32(0.5), "shift", shared=False)
    branches = {
        f"{which}_branch": _branch(g, which, operator, [x.name, shift.name], x.shape)
        for which, operator in (("then", "Add"), ("else", "Mul"))
    }
    g.node("If", [condition], captured=[x, shift], **branches)


def _branch(g: Growth, which: str, operator: str, reads: list[str], shape: tuple[int, ...]) -> onnx.GraphProto:
    inner, out = g.fresh(f"{which}_inner"), g.fresh(f"{which}_out")
    nodes = [
        helper.make_node(operator, reads, [inner], g.fresh("node")),
        helper.make_node("Relu", [inner], [out], g.fresh("node")),
    ]
    return helper.make_graph(nodes, which, [], [helper.make_tensor_value_info(out, FLOAT, shape)])


def local_function(g: Growth) -> None:
    """A function of the model's own domain: x * sigmoid(x)."""
    x = g.pick()
    if g.opset < 13:
        raise Unfit
    body = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    if not g.functions:
        opsets = [helper.make_opsetid("", g.opset)]
        g.functions.append(helper.make_function(LOCAL, "Swish", ["x"], ["y"], body, opsets))
    g.node("Swish", [x], domain=LOCAL)


def looping(g: Growth) -> None:
    """A Loop of three rounds that halves and adds."""
    x = g.pick()
    if g.opset < 11:
        raise Unfit
    names = {each: g.fresh(f"loop_{each}") for each in ("i", "go", "x", "out", "half", "again")}
    half = g.const(np.float32(0.5), "half", shared=False)
    nodes = [
        helper.make_node("Mul", [names["x"], half.name], [names["half"]], g.fresh("node")),
        helper.make_node("Add", [names["half"], x.name], [names["out"]], g.fresh("node")),
        helper.make_node("Identity", [names["go"]], [names["again"]], g.fresh("node")),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [
            helper.make_tensor_value_info(names["i"], TensorProto.INT64, []),
            helper.make_tensor_value_info(names["go"], TensorProto.BOOL, []),
            helper.make_tensor_value_info(names["x"], FLOAT, x.shape),
        ],
        [
            helper.make_tensor_value_info(names["again"], TensorProto.BOOL, []),
            helper.make_tensor_value_info(names["out"], FLOAT, x.shape),
        ],
    )
    go = g.const(np.array(True), "go")
    g.node("Loop", [g.const(np.int64(3), "rounds"), go, x], captured=[x, half], body=body)


STEPS = (
    (1, branching),
    (2, local_function),
    (1, looping),
)
