"""A branch that no input takes is no part of what was compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.proof import compare
from normexport.verdicts import Verdict

F, B = TensorProto.FLOAT, TensorProto.BOOL


def branching(condition: list[onnx.NodeProto], constants: Any = (), shift: float = 1.0) -> ir.Model:
    """y = x + 1 where the condition holds, else x - `shift`."""
    value = helper.make_tensor_value_info
    branches = [
        helper.make_graph([helper.make_node(op, ["x", other], ["b"])], op, [], [value("b", F, ["N", 4])])
        for op, other in (("Add", "one"), ("Sub", "shift"))
    ]
    nodes = [
        *condition,
        helper.make_node("If", ["c"], ["y"], "choice", then_branch=branches[0], else_branch=branches[1]),
    ]
    tensors = {"one": np.float32(1), "shift": np.float32(shift), **dict(constants)}
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", F, ["N", 4])],
        [value("y", F, ["N", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def by_sum(limit: float) -> tuple[list[onnx.NodeProto], dict[str, np.float32]]:
    """c: the sum of x is above the limit."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "limit"], ["c"]),
    ]
    return nodes, {"limit": np.float32(limit)}


@pytest.mark.parametrize(("limit", "branch"), [(1e9, "then"), (-1e9, "else")])
def test_a_branch_that_no_input_takes_leaves_the_verdict_open(limit: float, branch: str) -> None:
    report = compare(branching(*by_sum(limit)), branching(*by_sum(limit)))
    assert report.judgement.verdict is Verdict.INCONCLUSIVE
    assert report.judgement.reasons == (f"choice: none of the inputs takes its {branch} branch",)


def test_branches_that_are_both_taken_are_compared() -> None:
    for limit in (0.0, -1.0):
        report = compare(branching(*by_sum(limit)), branching(*by_sum(limit)), sizes=(1,) * 12)
        assert report.passed
        wrong = compare(branching(*by_sum(limit)), branching(*by_sum(limit), shift=1.01), sizes=(1,) * 12)
        assert wrong.judgement.verdict is Verdict.FAILED


def test_a_branch_that_sizes_decide_is_passed_over() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["size"]),
        helper.make_node("Equal", ["size", "four"], ["c"]),
    ]
    constants = {"axis": np.int64(1), "four": np.int64(4)}
    assert compare(branching(nodes, constants), branching(nodes, constants)).passed
