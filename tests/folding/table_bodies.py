"""Graphs of norms inside the branches of an If."""

from __future__ import annotations

import numpy as np
from onnx import helper

from tests.folding.build import GraphBuilder
from tests.folding.case import GAMMAS, Cases, conv, norm, weights

CASES = Cases()
C = 3


def _branches(b: GraphBuilder, x: str, weight: str, constants: tuple[str, ...], op: str = "Conv") -> str:
    """An If with a layer and a norm (Mul, Add) in one branch, and another activation in the other."""
    elem = helper.np_dtype_to_tensor_dtype(b.dtype)
    out = helper.make_tensor_value_info("inner", elem, None)
    nodes = [helper.make_node(op, [x, weight], ["layer"], name="inner_layer")]
    for step, constant in zip(("Mul", "Add"), constants, strict=True):
        made = "inner" if step == "Add" else "scaled"
        nodes.append(helper.make_node(step, [nodes[-1].output[0], constant], [made], name=f"inner_{step}"))
    normed = helper.make_graph(nodes, "then", [], [out])
    other = helper.make_graph([helper.make_node("Neg", [x], ["inner"])], "else", [], [out])
    return b.node("If", [b.const(np.array(True), keep_type=True)], then_branch=normed, else_branch=other)


def _constants(b: GraphBuilder) -> tuple[str, str]:
    shift = np.array([0.3, -0.7, 1.1])
    return b.const(GAMMAS[:C].reshape(C, 1, 1)), b.const(shift.reshape(C, 1, 1))


@CASES.folds(If=1)
def norm_in_a_branch_with_constants_from_around_it(b: GraphBuilder) -> None:
    b.output(_branches(b, b.input((1, C, 4, 4)), b.const(weights(C, C, 1, 1), "weight"), _constants(b)))


@CASES.folds(If=1, Conv=1)
def norms_in_a_branch_and_around_it_with_one_constant(b: GraphBuilder) -> None:
    x, constants = b.input((1, C, 4, 4)), _constants(b)
    inner = _branches(b, x, b.const(weights(C, C, 1, 1), "weight"), constants)
    b.output(inner, b.node("Add", [b.node("Mul", [conv(b, x, C, C), constants[0]]), constants[1]]))


@CASES.refuses(says="is shared: it")
def weight_of_a_layer_in_a_branch_and_of_one_around_it(b: GraphBuilder) -> None:
    x, weight = b.input((1, C, 4, 4)), b.const(weights(C, C, 1, 1), "weight")
    b.output(_branches(b, x, weight, _constants(b)), norm(b, conv(b, x, C, C, (1, 1), weight=weight), C))


@CASES.folds(If=1, Relu=1)
def norm_in_a_branch_whose_scale_is_computed_around_it(b: GraphBuilder) -> None:
    x, (scale, shift) = b.node("Relu", [b.input((1, C, 4, 4))]), _constants(b)
    b.output(_branches(b, x, b.const(weights(C, C, 1, 1), "weight"), (b.node("Exp", [scale]), shift)))
