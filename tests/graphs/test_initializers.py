"""What is done to a copy of a model leaves the model alone, and the proto that the caller holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from normexport.folding import fold
from normexport.graphs.export_config import ExportConfig
from normexport.graphs.initializers import add_initializer, fixed_tensor, rename
from normexport.graphs.inline import inline_functions
from normexport.graphs.opsets import in_opset
from normexport.graphs.port_names import name_ports
from normexport.narrowing.cut import sub_model
from normexport.precision.half.graph import to_half
from normexport.precision.int8.bias_correction import mean_errors_in_sequence
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.equalise import equalise
from normexport.precision.int8.quantise import quantize
from normexport.recognition import fold_recognised
from normexport.runtime import Float64Runtime, OnnxRuntime
from normexport.verbs.fold import FOLDING

X = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)


def network() -> onnx.ModelProto:
    """A layer, an L1 batch norm over the batch in ordinary operators, and a Clip whose end a caller may replace."""
    dice = np.random.default_rng(0)
    arrays = {
        "y": dice.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "low": np.float32(-0.5),
        "axes": np.array([0, 2, 3]),
        "scale": dice.uniform(0.5, 2, (1, 4, 1, 1)).astype(np.float32),
        "factor": np.float32(np.sqrt(np.pi / 2)),
        "eps": np.float32(1e-3),
    }
    nodes = [
        helper.make_node("Conv", ["x", "y"], ["c"], name="layer"),
        helper.make_node("ReduceMean", ["c", "axes"], ["mean"], name="mean"),
        helper.make_node("Sub", ["c", "mean"], ["d"], name="sub"),
        helper.make_node("Abs", ["d"], ["size"], name="abs"),
        helper.make_node("ReduceMean", ["size", "axes"], ["spread"], name="spread"),
        helper.make_node("Mul", ["spread", "factor"], ["deviation"], name="deviation"),
        helper.make_node("Add", ["deviation", "eps"], ["divisor"], name="divisor"),
        helper.make_node("Div", ["d", "divisor"], ["n"], name="div"),
        helper.make_node("Mul", ["n", "scale"], ["scaled"], name="scaled"),
        helper.make_node("Clip", ["scaled", "low"], ["out"], name="clip"),
    ]
    kind = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", kind, ["N", 3, 6, 6]), helper.make_tensor_value_info("low", kind, [])]
    output = helper.make_tensor_value_info("out", kind, ["N", 4, 4, 4])
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", inputs, [output], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def named(model: ir.Model) -> ir.Model:
    """Outputs are called as a weight is."""
    copy = model.clone()
    name_ports(copy, ExportConfig(output_names=("y",)), "model")
    return copy


def corrected(model: ir.Model) -> ir.Model:
    plain = quantize(model, calibrate(model, [{"x": X}], "minmax").ranges).model
    mean_errors_in_sequence(model, plain, [{"x": X}])
    return plain


CHANGES: dict[str, Callable[[ir.Model], ir.Model]] = {
    "fold": lambda model: fold(model).model,
    "norms recognised": lambda model: fold_recognised(model, FOLDING, live_operators=True).model,
    "half": to_half,
    "int8, biases corrected": corrected,
    "equalised": lambda model: equalise(model).model,
    "another operator set": lambda model: in_opset(model, 20),
    "without functions": inline_functions,
    "other names": named,
    "a part, fed at a default": lambda model: sub_model(model, {"scaled": X, "low": np.array(0, np.float32)}, "out"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_a_model_reaches_the_callers_proto(change: str) -> None:
    proto = network()
    before = proto.SerializeToString(deterministic=True)
    model = ir.from_proto(proto)
    changed = CHANGES[change](model)
    assert proto.SerializeToString(deterministic=True) == before
    OnnxRuntime(changed)
    ir.to_proto(changed)
    assert proto.SerializeToString(deterministic=True) == before
    assert ir.to_proto(model).graph == ir.to_proto(ir.from_proto(network())).graph


@pytest.mark.parametrize("array", [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(["a", "b"], object)])
def test_a_renamed_initializer_has_the_same_numbers_and_leaves_clones_their_name(array: np.ndarray) -> None:
    proto = helper.make_model(helper.make_graph([], "g", [], [], [numpy_helper.from_array(array, "w")]))
    model = ir.from_proto(proto)
    copy = model.clone()
    rename(copy.graph.initializers["w"], "v")
    found = numpy_helper.to_array(ir.to_proto(copy).graph.initializer[0])
    assert ir.to_proto(copy).graph.initializer[0].name == "v"
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert [each.name for each in (*proto.graph.initializer, *ir.to_proto(model).graph.initializer)] == ["w", "w"]


def test_what_a_caller_may_replace_is_not_fixed() -> None:
    model = ir.from_proto(network())
    fixed = {name for name, value in model.graph.initializers.items() if fixed_tensor(value) is not None}
    assert fixed == {"y", "axes", "scale", "factor", "eps"}
    assert fixed_tensor(None) is fixed_tensor(model.graph[0].outputs[0]) is None
    value = add_initializer(model.graph, "new", np.array([1], np.int64))
    assert fixed_tensor(value) is value.const_value
    exact = Float64Runtime(model, torch=False)
    assert exact.output_names == ("out",)
