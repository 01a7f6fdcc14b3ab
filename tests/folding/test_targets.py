"""Shapes that are computed at inference: what they say of a Reshape or an Expand, and what they do not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from normexport.folding import FoldResult, fold
from tests.folding.build import GraphBuilder
from tests.folding.claims import by_reference, check_meaning, fold_proto
from tests.folding.graphs import A, B, array, int64


def conv(b: GraphBuilder, name: str = "x", channels: int = 3) -> str:
    return b.node("Conv", [b.input(("n", 2, "h", "w"), name), b.const(array(channels, 2, 2, 2))])


def size(b: GraphBuilder, value: str, axis: int) -> str:
    """One size of a value as a vector, as the TorchScript exporter asks for it."""
    whole = b.node("Shape", [value])
    one = b.node("Gather", [whole, b.const(np.array(axis), keep_type=True)], axis=0)
    return b.node("Unsqueeze", [one, int64(b, 0)])


def affine(b: GraphBuilder, x: str, rank: int, axis: int = 1) -> str:
    """A*x + B on `axis`."""
    shape = (3, *(1,) * (rank - axis - 1))
    return b.node("Add", [b.node("Mul", [x, b.const(A[:3].reshape(shape))]), b.const(B[:3].reshape(shape))])


def result(b: GraphBuilder, y: str, **sizes: tuple[int, ...]) -> tuple[FoldResult, list[str]]:
    """The fold, checked on inputs of two sizes, and the operators that are left beside those of shapes."""
    b.output(y)
    folded = fold_proto(b.model())
    rng = np.random.default_rng(0)
    for more in (0, 1):
        feeds = {value.name: rng.standard_normal((2, 2, 4 + more, 5)) for value in folded.before.graph.input}
        check_meaning(folded, feeds, (by_reference,))
    shaping = ("Shape", "Gather", "Unsqueeze", "Concat", "Slice", "Constant")
    return folded.result, [node.op_type for node in folded.after.graph.node if node.op_type not in shaping]


def test_rows_whose_shape_the_graph_computes_are_followed() -> None:
    b = GraphBuilder()
    y = conv(b)
    target = b.node("Concat", [size(b, y, 0), size(b, y, 1), int64(b, -1)], axis=0)
    z = affine(b, b.node("Reshape", [y, target]), 3)
    back = b.node("Concat", [size(b, y, axis) for axis in range(4)], axis=0)
    outcome, operators = result(b, b.node("Relu", [b.node("Reshape", [z, back])]))
    assert [norm.fate for norm in outcome.norms] == ["folded"]
    assert operators == ["Conv", "Relu"]  # the second Reshape undid the first


def test_rows_before_a_convolution_are_followed_back() -> None:
    b = GraphBuilder()
    x = b.input(("n", 3, "h", "w"))
    target = b.node("Concat", [b.node("Slice", [b.node("Shape", [x]), int64(b, 0), int64(b, 2)]), int64(b, -1)], axis=0)
    y = affine(b, b.node("Reshape", [x, target]), 3)
    y = b.node("Reshape", [y, b.node("Shape", [x])])
    b.output(b.node("Conv", [y, b.const(array(4, 3, 2, 2))]))
    assert [norm.fate for norm in fold(ir.from_proto(b.model())).norms] == ["folded"]


def test_a_reshape_to_its_own_shape_is_no_obstacle() -> None:
    b = GraphBuilder()
    y = b.node("Mul", [conv(b), b.const(A[:3].reshape(3, 1, 1))])
    y = b.node("Reshape", [y, b.node("Shape", [y])])
    outcome, operators = result(b, b.node("Relu", [b.node("Add", [y, b.const(B[:3].reshape(3, 1, 1))])]))
    assert [norm.fate for norm in outcome.norms] == ["folded"]
    assert operators == ["Conv", "Relu"]


def test_constants_that_are_expanded_to_the_tensor_are_constants() -> None:
    b = GraphBuilder()
    y = conv(b)
    for op, values in (("Sub", B), ("Div", A)):
        y = b.node(op, [y, b.node("Expand", [b.const(values[:3].reshape(3, 1, 1)), b.node("Shape", [y])])])
    outcome, operators = result(b, b.node("Relu", [y]))
    assert [norm.fate for norm in outcome.norms] == ["folded"]
    assert operators == ["Conv", "Relu"]


@pytest.mark.parametrize("axis", [0, 2])
def test_a_constant_that_is_expanded_to_another_tensor_is_left_alone(axis: int) -> None:
    b = GraphBuilder()
    y, other = b.node("GlobalAveragePool", [conv(b)]), conv(b, "other")
    spread = b.node("Expand", [b.const(A[:3].reshape(3, 1, 1)), b.node("Shape", [other])])
    outcome, operators = result(b, b.node("Relu", [b.node("Mul", [y, spread])]))
    assert not outcome.changed
    assert "Expand" in operators


def test_rows_by_the_sizes_of_another_tensor_are_not_followed() -> None:
    b = GraphBuilder()
    y, other = conv(b), conv(b, "other")
    target = b.node("Concat", [size(b, other, 0), int64(b, 3, -1)], axis=0)
    y = affine(b, b.node("Reshape", [y, target]), 3)
    outcome, _ = result(b, b.node("Relu", [y]))
    assert [norm.fate for norm in outcome.norms] == ["lowered"]
    assert "are not static" in outcome.norms[0].reason


def test_rows_whose_sizes_change_places_are_not_followed() -> None:
    """(n, 3, h, w) to (h, 3, -1): axis 1 is no axis of channels any more."""
    b = GraphBuilder()
    y = conv(b)
    target = b.node("Concat", [size(b, y, 2), int64(b, 3, -1)], axis=0)
    outcome, _ = result(b, b.node("Relu", [affine(b, b.node("Reshape", [y, target]), 3)]))
    assert [norm.fate for norm in outcome.norms] == ["lowered"]


def test_channels_on_the_first_axis_behind_a_transpose_fold() -> None:
    b = GraphBuilder()
    y = b.node("Transpose", [conv(b)], perm=[1, 0, 2, 3])
    y = b.node("Transpose", [affine(b, y, 4, axis=0)], perm=[1, 0, 2, 3])
    outcome, operators = result(b, b.node("Relu", [y]))
    assert [norm.fate for norm in outcome.norms] == ["folded"]
    assert operators == ["Conv", "Relu"]
