"""Pairs of QuantizeLinear and DequantizeLinear in graphs as anybody may write them: valid files, near the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.errors import FoldError
from normexport.folding.constants import Constants
from normexport.precision.int8.activations import Activations
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.insert import insert_pairs
from normexport.precision.int8.quantise import is_candidate, quantize
from normexport.precision.int8.ranges import int8_range
from normexport.runtime import OnnxRuntime
from tests.narrow import present

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 6)).astype(np.float32)
IMAGE = RNG.standard_normal((2, 3, 5, 5)).astype(np.float32)

Node = tuple[str, Sequence[str], Sequence[str], dict[str, Any]]


def normal(*shape: int) -> np.ndarray:
    return np.asarray(RNG.standard_normal(shape), np.float32)


def graph_of(
    nodes: Sequence[Node], constants: dict[str, np.ndarray], x: np.ndarray, outputs: Sequence[str], opset: int = 17
) -> onnx.ModelProto:
    """A model with one input "x" of the shape of `x`; nodes have no names."""
    graph = helper.make_graph(
        [helper.make_node(op, reads, makes, **attributes) for op, reads, makes, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape if name == "x" else None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def quantized(proto: onnx.ModelProto, x: np.ndarray, *, symmetric: bool = False) -> ir.Model:
    """Quantised on the very sample, checked, and every output within 1/30 (30 dB) of float32's."""
    model = ir.from_proto(proto)
    ranges = calibrate(model, [{"x": x}], "minmax", symmetric=symmetric).ranges
    result = quantize(model, ranges, symmetric=symmetric).model
    onnx.checker.check_model(ir.to_proto(result), full_check=True)
    exact, got = OnnxRuntime(proto).run({"x": x}), OnnxRuntime(result).run({"x": x})
    for name in exact:
        assert got[name].shape == exact[name].shape
        assert np.linalg.norm(got[name] - exact[name]) <= np.linalg.norm(exact[name]) / 30, name
    return result


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (2, 1), (2, 4)])
@pytest.mark.parametrize("scales", [{}, {"alpha": 0.5}, {"beta": -2.0}])
def test_a_gemm_with_a_bias_of_any_shape_is_quantised(
    shape: tuple[int, ...], scales: dict[str, float], symmetric: bool
) -> None:
    constants: dict[str, Any] = {"w": normal(6, 4), "c": normal(*shape)}
    result = quantized(
        graph_of([("Gemm", ["x", "w", "c"], ["y"], scales)], constants, X, ["y"]), X, symmetric=symmetric
    )
    assert operators(result)[:2] == ["QuantizeLinear", "DequantizeLinear"]


def test_a_vector_bias_is_whole_numbers_in_units_of_the_accumulator() -> None:
    constants: dict[str, Any] = {"w": normal(6, 4), "c": normal(4)}
    result = quantized(graph_of([("Gemm", ["x", "w", "c"], ["y"], {})], constants, X, ["y"]), X)
    (gemm,) = [node for node in result.graph if node.op_type == "Gemm"]
    (s_x,), s_w, (q, s_b) = (
        [value.const_value.numpy() for value in gemm.inputs[i].producer().inputs[part]]
        for i, part in ((0, slice(1, 2)), (1, slice(1, 2)), (2, slice(0, 2)))
    )
    np.testing.assert_allclose(s_b, s_x * s_w[0], rtol=1e-6)
    np.testing.assert_allclose(q * s_b.astype(np.float64), constants["c"], atol=0.51 * s_b.max())


def test_a_bias_beside_weights_that_are_all_but_zero_still_fits_into_32_bits() -> None:
    weight = normal(6, 4)
    weight[:, 2] = 1e-30
    constants: dict[str, Any] = {"w": weight, "c": np.array([1, 2, 3, 4], np.float32)}
    quantized(graph_of([("Gemm", ["x", "w", "c"], ["y"], {})], constants, X, ["y"]), X)


@pytest.mark.parametrize("symmetric", [False, True])
def test_nodes_without_names_are_quantised_one_by_one(symmetric: bool) -> None:
    nodes: list[Any] = [
        ("MatMul", ["x", "w"], ["a"], {}),
        ("Relu", ["a"], ["b"], {}),
        ("MatMul", ["b", "v"], ["y"], {}),
        ("Softmax", ["y"], ["z"], {}),
    ]
    proto = graph_of(nodes, {"w": normal(6, 4), "v": normal(4, 3)}, X, ["z"])
    model = ir.from_proto(proto)
    last = next(node for node in model.graph if node.outputs[0].name == "y")
    assert quantized(proto, X, symmetric=symmetric).graph.outputs[0].name == "z"
    ranges = calibrate(model, [{"x": X}], "minmax").ranges
    part = quantize(model, ranges, symmetric=symmetric, exclude=["a"]).model
    (first, second) = [node for node in part.graph if node.op_type == "MatMul"]
    assert first.inputs[1].is_initializer()
    assert second.inputs[1].producer().op_type == "DequantizeLinear"
    assert is_candidate(last, Constants(model.graph))


@pytest.mark.parametrize("symmetric", [False, True])
def test_names_that_the_pairs_would_take_stay_with_their_owners(symmetric: bool) -> None:
    names = {
        "a": "x_QuantizeLinear_Output",
        "w": "x_scale",
        "v": "x_zero_point",
        "b": "x_scale_quantized",
        "y": "x_DequantizeLinear",
    }
    nodes: list[Any] = [
        ("MatMul", ["x", names["w"]], [names["a"]], {}),
        ("MatMul", [names["a"], names["v"]], [names["b"]], {}),
        ("Add", [names["a"], names["b"]], [names["y"]], {}),
    ]
    constants = {names["w"]: normal(6, 4), names["v"]: normal(4, 4)}
    quantized(graph_of(nodes, constants, X, [names["y"], names["a"]]), X, symmetric=symmetric)


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (-2.0, -0.5), (-0.5, 0.5), (None, 0.25), (0.0, 6.0)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_clip_clips_as_before(low: float | None, high: float, symmetric: bool) -> None:
    ends = {name: np.float32(end) for name, end in (("low", low), ("high", high)) if end is not None}
    reads = ["low" if low is not None else "", "high" if high is not None else ""]
    nodes: list[Any] = [
        ("MatMul", ["x", "w"], ["a"], {}),
        ("Clip", ["a", *reads], ["b"], {}),
        ("MatMul", ["b", "v"], ["y"], {}),
    ]
    constants: dict[str, Any] = {"w": normal(6, 4), "v": np.eye(4, dtype=np.float32), **ends}
    quantized(graph_of(nodes, constants, X, ["y"]), X, symmetric=symmetric)


def test_one_weight_read_along_two_axes_has_two_scales() -> None:
    w = normal(6, 6) * np.array([1, 2, 4, 1, 1, 1], np.float32)
    nodes: list[Any] = [("Gemm", ["x", "w"], ["a"], {}), ("Gemm", ["a", "w"], ["y"], {"transB": 1})]
    result = quantized(graph_of(nodes, {"w": w}, X, ["y"]), X)
    axes = [node.attributes.get_int("axis", 1) for node in result.graph if "w_" in present(node.outputs[0].name)]
    assert sorted(axes) == [0, 1]


@pytest.mark.parametrize("opset", [11, 12])
def test_operator_sets_without_scales_per_channel_get_one_per_tensor(opset: int) -> None:
    nodes: list[Any] = [
        ("Conv", ["x", "w", "b"], ["a"], {}),
        ("Relu", ["a"], ["r"], {}),
        ("MaxPool", ["r"], ["m"], {"kernel_shape": [2, 2]}),
        ("Conv", ["m", "v"], ["y"], {}),
    ]
    constants: dict[str, Any] = {"w": normal(4, 3, 2, 2), "b": normal(4), "v": normal(2, 4, 1, 1)}
    result = quantized(graph_of(nodes, constants, IMAGE, ["y"], opset), IMAGE)
    scales = [node.inputs[1].const_value for node in result.graph if node.op_type == "DequantizeLinear"]
    assert all(scale.size == 1 for scale in scales)


def test_older_operator_sets_are_refused_in_words() -> None:
    model = ir.from_proto(graph_of([("MatMul", ["x", "w"], ["y"], {})], {"w": normal(6, 4)}, X, ["y"], 9))
    with pytest.raises(FoldError, match=r"operator set 9.*export it with operator set 13"):
        quantize(model, {"x": (-1.0, 1.0), "y": (-1.0, 1.0)})


def test_an_input_that_is_an_output_too_stays_what_it_was() -> None:
    proto = graph_of([("MatMul", ["x", "w"], ["y"], {})], {"w": normal(6, 4)}, X, ["y", "x"])
    got = OnnxRuntime(quantized(proto, X)).run({"x": X})
    np.testing.assert_array_equal(got["x"], X)


def test_a_weight_that_a_caller_may_override_or_that_is_not_finite_leaves_its_layer_in_float32() -> None:
    nodes: list[Any] = [("MatMul", ["x", "w"], ["y"], {})]
    proto = graph_of(nodes, {"w": normal(6, 4)}, X, ["y"])
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (6, 4)))
    assert operators(quantized(proto, X)) == ["MatMul"]
    model = ir.from_proto(graph_of(nodes, {"w": np.full((6, 4), np.inf, np.float32)}, X, ["y"]))
    limits = {name: int8_range((-1.0, 1.0), False) for name in ("x", "y")}
    assert operators(insert_pairs(model, list(model.graph), limits, Activations())) == ["MatMul"]


def test_values_that_are_zero_throughout_have_a_scale_that_computes() -> None:
    nodes: list[Any] = [("Mul", ["x", "zero"], ["a"], {}), ("MatMul", ["a", "w"], ["b"], {}), ("Exp", ["b"], ["y"], {})]
    quantized(graph_of(nodes, {"zero": np.array(0, np.float32), "w": normal(6, 4)}, X, ["y"]), X)


def test_a_model_that_is_quantised_already_is_refused_by_the_node() -> None:
    nodes: list[Any] = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["d"], {}),
        ("MatMul", ["d", "w"], ["y"], {}),
    ]
    constants: dict[str, Any] = {"w": normal(6, 4), "s": np.float32(0.1), "z": np.uint8(128)}
    with pytest.raises(FoldError, match=r"QuantizeLinear 'q': is quantisation .* give the float32 model"):
        quantize(ir.from_proto(graph_of(nodes, constants, X, ["y"])), {})


MOVES = {
    "MaxPool": ([], {"kernel_shape": [2, 2]}),
    "Reshape": (["shape"], {}),
    "Slice": (["start", "end", "axis"], {}),
    "Transpose": ([], {"perm": [0, 1, 3, 2]}),
    "Unsqueeze": (["axis"], {}),
    "Flatten": ([], {}),
}


@pytest.mark.parametrize("operator", MOVES)
@pytest.mark.parametrize("opset", [20, 21, 23])
@pytest.mark.parametrize("behind", [(), ("Transpose",), ("Conv",)])
def test_int8_pairs_before_what_moves_numbers_load_in_every_operator_set(
    operator: str, opset: int, behind: tuple[str, ...]
) -> None:
    reads, attributes = MOVES[operator]
    nodes: list[Node] = [("Conv", ["x", "w"], ["c"], {}), (operator, ["c", *reads], ["m"], attributes)]
    if behind == ("Conv",) and operator in ("MaxPool", "Slice", "Transpose"):
        nodes.append(("Conv", ["m", "v"], ["y"], {}))
    else:
        nodes.append(("Transpose" if behind else "Sigmoid", ["m"], ["y"], {}))
    constants: dict[str, Any] = {"w": normal(4, 3, 1, 1), "v": normal(2, 4, 1, 1)}
    constants |= {
        "shape": np.array([0, 0, -1], np.int64),
        "start": np.array([0], np.int64),
        "end": np.array([3], np.int64),
        "axis": np.array([2], np.int64),
    }
    quantized(graph_of(nodes, constants, IMAGE, ["y"], opset), IMAGE, symmetric=True)


@pytest.mark.parametrize("opset", [20, 21, 23])
@pytest.mark.parametrize("exclude", [[], ["m"], ["a"]])
def test_int8_pairs_beside_a_matrix_product_that_stays_in_float32_load_in_every_operator_set(
    opset: int, exclude: list[str]
) -> None:
    x = normal(2, 3, 4)
    nodes: list[Any] = [
        ("MatMul", ["x", "w"], ["a"], {}),
        ("MatMul", ["a", "v"], ["m"], {}),
        ("Add", ["m", "b"], ["y"], {}),
    ]
    constants: dict[str, Any] = {"w": normal(4, 4), "v": normal(4, 5), "b": normal(5)}
    proto = graph_of(nodes, constants, x, ["y"], opset)
    model = ir.from_proto(proto)
    ranges = calibrate(model, [{"x": x}], "minmax", symmetric=True).ranges
    result = quantize(model, ranges, symmetric=True, exclude=exclude).model
    onnx.checker.check_model(ir.to_proto(result), full_check=True)
    exact, got = OnnxRuntime(proto).run({"x": x})["y"], OnnxRuntime(result).run({"x": x})["y"]
    assert np.linalg.norm(got - exact) <= np.linalg.norm(exact) / 30


@pytest.mark.parametrize("behind", [(), ("Transpose",), ("Reshape", "Slice")])
@pytest.mark.parametrize("opset", [13, 20, 21])
@pytest.mark.parametrize("symmetric", [False, True])
def test_pairs_before_what_the_body_of_a_branch_reads_load_in_every_operator_set(
    symmetric: bool, opset: int, behind: tuple[str, ...]
) -> None:
    nodes: list[Node] = [("Conv", ["x", "w"], ["c"], {})]
    for index, operator in enumerate(("Slice", *behind)):
        reads, attributes = MOVES[operator]
        nodes.append((operator, [nodes[-1][2][0], *reads], [f"m{index}"], attributes))
    last = nodes[-1][2][0]
    nodes.append(("Conv", ["c", "v"], ["other"], {}))  # what gives `c` its pair
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, [last], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "Relu"), ("else", "Sigmoid"))
    }
    nodes += [("ReduceMax", [last], ["most"], {"keepdims": 0}), ("Greater", ["most", "zero"], ["more"], {})]
    nodes.append(("If", ["more"], ["y"], branches))
    constants: dict[str, Any] = {"w": normal(4, 3, 1, 1), "v": normal(2, 4, 1, 1), "zero": np.float32(0)}
    constants |= {
        "shape": np.array([0, 0, -1], np.int64),
        "start": np.array([0], np.int64),
        "end": np.array([3], np.int64),
        "axis": np.array([2], np.int64),
    }
    proto = graph_of(nodes, constants, IMAGE, ["y", "other"], opset)
    result = quantized(proto, IMAGE, symmetric=symmetric)
    exact, got = OnnxRuntime(proto).run({"x": IMAGE}), OnnxRuntime(result).run({"x": IMAGE})
    for name in exact:
        assert np.linalg.norm(got[name] - exact[name]) <= np.linalg.norm(exact[name]) / 30


@pytest.mark.parametrize("spelling", ["Constant", "Mul"])
@pytest.mark.parametrize("opset", [13, 20, 21, 23])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_bias_however_it_is_stored_is_added_in_float32(symmetric: bool, opset: int, spelling: str) -> None:
    x, bias = normal(2, 3, 4), normal(5)
    nodes: list[Node] = [("MatMul", ["x", "w"], ["m"], {})]
    if spelling == "Constant":
        nodes.append(("Constant", [], ["b"], {"value": numpy_helper.from_array(bias)}))
    else:
        nodes.append(("Mul", ["stored", "two"], ["b"], {}))
    nodes += [("Add", ["m", "b"], ["a"], {}), ("Sigmoid", ["a"], ["y"], {})]
    constants: dict[str, Any] = {"w": normal(4, 5), "stored": bias / 2, "two": np.float32(2)}
    constants = {name: array for name, array in constants.items() if any(name in node[1] for node in nodes)}
    proto = graph_of(nodes, constants, x, ["y"], opset)
    result = quantized(proto, x, symmetric=symmetric)
    add = next(node for node in result.graph if node.op_type == "Add")
    assert add.inputs[1].producer() is None or add.inputs[1].producer().op_type == "Mul"


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_weight_in_a_constant_node_is_quantised_like_an_initializer(symmetric: bool) -> None:
    weight = normal(4, 3, 3, 3)
    stored = [("Constant", [], ["w"], {"value": numpy_helper.from_array(weight)}), ("Conv", ["x", "w"], ["y"], {})]
    result = quantized(graph_of(stored, {}, IMAGE, ["y"]), IMAGE, symmetric=symmetric)
    same = quantized(graph_of(stored[1:], {"w": weight}, IMAGE, ["y"]), IMAGE, symmetric=symmetric)
    assert operators(result) == operators(same)
    assert operators(result).count("DequantizeLinear") == 2


@pytest.mark.parametrize("opset", [20, 21, 23])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_computed_vector_added_to_a_matrix_product_loads_in_every_operator_set(symmetric: bool, opset: int) -> None:
    x = normal(2, 3, 4)
    nodes: list[Any] = [
        ("MatMul", ["x", "v"], ["other"], {}),
        ("ReduceMax", ["other", "axes"], ["vector"], {"keepdims": 0}),
        ("MatMul", ["x", "w"], ["m"], {}),
        ("Add", ["m", "vector"], ["a"], {}),
        ("MatMul", ["a", "u"], ["y"], {}),
    ]
    constants: dict[str, Any] = {
        "v": normal(4, 5),
        "w": normal(4, 5),
        "u": normal(5, 5),
        "axes": np.array([0, 1], np.int64),
    }
    quantized(graph_of(nodes, constants, x, ["y"], opset), x, symmetric=symmetric)
