"""A body for known calls computes the operator, and is taken only where every call is certain to be one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from normexport import norms
from normexport.errors import FoldError
from normexport.norms import Scope
from normexport.norms.bodies import attach_bodies
from normexport.norms.calls import Calls, calls_in
from normexport.norms.fitted_function import RANKS, fitted_function
from normexport.norms.own_bodies import require_own_bodies
from tests.norms.test_norms import attributes_of, live_model, session

CASES = [(op, rank) for op in norms.live_ops() for rank in RANKS[Scope.of_op(op)]]


def fitted_model(op: str, rank: int, corrected: bool, **attributes: Any) -> onnx.ModelProto:
    model = live_model(op, rank, TensorProto.FLOAT, **attributes)
    del model.functions[:]
    model.functions.append(fitted_function(norms.live_ops()[op], Scope.of_op(op), Calls(rank, corrected)))
    return model


@pytest.mark.parametrize(("op", "rank"), CASES)
@pytest.mark.parametrize("correction", [0.0, 1.7])
def test_it_computes_the_formula(op: str, rank: int, correction: float) -> None:
    scope, attributes = Scope.of_op(op), attributes_of(op)
    model = fitted_model(op, rank, correction != 0, epsilon=1e-3, correction=correction, **attributes)
    norms.register_schemas()
    onnx.checker.check_model(model, full_check=True)
    rng = np.random.default_rng(rank)
    scale, bias = np.array([1.0, 2.0, -0.5]), np.array([0.5, 0.0, 1.0])
    for batch in (6, 0):
        x = (rng.standard_normal((batch, 3, 4, 5, 3)[:rank]) + 3).astype(np.float32)
        want = norms.reference(
            norms.live_ops()[op],
            x.astype(np.float64),
            scale,
            bias,
            epsilon=1e-3,
            scope=scope,
            correction=correction,
            **attributes,
        )
        (got,) = session(model).run(None, {"X": x})
        assert isinstance(got, np.ndarray)
        assert got.shape == x.shape
        # float32: the division and the mean of at most 360 values of size about 5
        np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("op", "rank"), CASES)
def test_a_model_gets_the_body_for_its_calls_and_nothing_views_x(op: str, rank: int) -> None:
    model = ir.from_proto(live_model(op, rank, TensorProto.FLOAT))
    attach_bodies(model)
    assert calls_in(model) == {op: Calls(rank, False)}
    require_own_bodies(model)
    body = model.functions[norms.DOMAIN, op, ""]
    assert len(body) < len(norms.functions()[op].node)
    x = body.inputs[0]
    assert not [use.node for use in x.uses() if use.node.op_type == "Reshape"]


def plain(*nodes: onnx.NodeProto, shape: Any, noted: Any = None) -> onnx.ModelProto:
    """Nodes from x to y; `noted` is what the file says of the shape of v between them."""
    vectors = [helper.make_tensor(name, TensorProto.FLOAT, [3], [1.0] * 3) for name in ("scale", "bias")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, of) for name, of in (("x", shape), ("y", None))]
    between = [helper.make_tensor_value_info("v", TensorProto.FLOAT, noted)] if noted else []
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], vectors, value_info=between)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(norms.DOMAIN, 1), helper.make_opsetid("other", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def norm(read: str, made: str, op: str = "LinfBatchNorm", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, [read, "scale", "bias"], [made], domain=norms.DOMAIN, **attributes)


def foreign() -> onnx.NodeProto:
    return helper.make_node("Odd", ["x"], ["v"], domain="other")


def calls(rank: int, corrected: bool = False) -> Callable[[onnx.ModelProto], None]:
    def give(model: onnx.ModelProto) -> None:
        kind = norms.kind("linf")
        model.functions.append(fitted_function(kind, Scope.BATCH, Calls(rank, corrected)))

    return give


UNCERTAIN = {
    "another rank": (plain(norm("x", "y"), shape=["N", 3, 4, 4, 4]), calls(4)),
    "no declared rank": (plain(norm("x", "y"), shape=None), calls(4)),
    "a rank that the file notes where none follows": (
        plain(foreign(), norm("v", "y"), shape=["N", 3, 4, 4, 4], noted=["N", 3, 4, 4]),
        calls(4),
    ),
    "a rank noted otherwise than it follows": (
        plain(helper.make_node("Relu", ["x"], ["v"]), norm("v", "y"), shape=["N", 3, 4, 4, 4], noted=["N", 3, 4, 4]),
        calls(4),
    ),
    "two calls of other ranks": (
        plain(
            helper.make_node("GlobalAveragePool", ["x"], ["p"]),
            helper.make_node("Flatten", ["p"], ["v"]),
            norm("v", "z"),
            norm("x", "y"),
            shape=["N", 3, 4, 4],
        ),
        calls(4),
    ),
    "a constant that the call does not say": (plain(norm("x", "y"), shape=["N", 3, 4, 4]), calls(4, True)),
    "a constant that one of two calls does not say": (
        plain(norm("x", "v", correction=2.0), norm("v", "y"), shape=["N", 3, 4, 4]),
        calls(4, True),
    ),
}


@pytest.mark.parametrize("case", UNCERTAIN)
def test_a_body_for_other_calls_is_refused_and_never_written(case: str) -> None:
    proto, give = UNCERTAIN[case]
    honest = ir.from_proto(proto)
    give(proto)
    with pytest.raises(FoldError, match=r"LinfBatchNorm: has a body for 4 axes, and is called where it is not certain"):
        require_own_bodies(ir.from_proto(proto))
    attach_bodies(honest)
    require_own_bodies(honest)


def test_calls_within_branches_and_functions_have_the_body_for_every_rank() -> None:
    proto = plain(norm("x", "y"), shape=["N", 3, 4, 4])
    inner = onnx.FunctionProto(name="Odd", domain="other", input=["x", "scale", "bias"], output=["y"])
    inner.node.append(norm("x", "y"))
    inner.opset_import.extend(proto.opset_import)
    proto.functions.append(inner)
    model = ir.from_proto(proto)
    assert calls_in(model) == {"LinfBatchNorm": None}
    attach_bodies(model)
    require_own_bodies(model)
    assert len(model.functions[norms.DOMAIN, "LinfBatchNorm", ""]) == len(norms.functions()["LinfBatchNorm"].node)


# ONNX infers nothing of BoundedWeightNorm; test_norms runs it.
@pytest.mark.parametrize("op", sorted(norms.functions().keys() - {"BoundedWeightNorm"}))
def test_every_operator_makes_what_has_the_shape_of_what_it_reads_first(op: str) -> None:
    """What the ranks behind an operator of ours are taken from: checked on its own body, by ONNX's inference."""
    function = norms.functions()[op]
    quantised = op in norms.quantized_ops()
    first = TensorProto.INT8 if quantised else TensorProto.FLOAT
    types = {"x_zero_point": TensorProto.INT8, "y_zero_point": TensorProto.INT8}
    x = helper.make_tensor_value_info(function.input[0], first, [2, 3, 4, 4])
    others = [
        helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), [3] if "scale" not in name else None)
        for name in function.input[1:]
    ]
    node = helper.make_node(op, function.input, function.output, domain=norms.DOMAIN)
    y = helper.make_tensor_value_info(function.output[0], first, None)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(norms.DOMAIN, 1)]
    graph = helper.make_graph([node], "g", [x, *others], [y])
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output[0].type.tensor_type
    assert inferred.HasField("shape"), "no shape"
    assert len(inferred.shape.dim) == 4
