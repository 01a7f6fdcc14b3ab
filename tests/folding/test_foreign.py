"""Files as other exporters and other years left them: old IR, and constants that nobody has evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper

import normexport
from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, int64, only, operators, refusal, running


def old_file(ir_version: int) -> onnx.ModelProto:
    """Conv and BatchNormalization of opset 9, every initializer also a graph input, as before IR 4."""
    b = GraphBuilder(np.float32)
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 3, 3), "weight")])
    y = b.node("BatchNormalization", [y, *(b.const(value) for value in (A[:3], B[:3], B[:3], np.abs(A[:3])))])
    b.output(b.node("Relu", [y]))
    model = b.model()
    model.ir_version, model.opset_import[0].version = ir_version, 9
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.checker.check_model(model)
    return model


def test_initializers_before_ir_4_are_constants_as_onnx_runtime_has_them() -> None:
    before = old_file(3)
    result = fold(ir.from_proto(before))
    after = ir.to_proto(result.model)
    onnx.checker.check_model(after, full_check=True)
    assert [node.op_type for node in after.graph.node] == ["Conv", "Relu"]
    assert [value.name for value in after.graph.input] == ["x"]
    sessions = [ort.InferenceSession(each.SerializeToString()) for each in (before, after)]
    # ONNX Runtime's own reading, on which the fold leans
    assert [[value.name for value in session.get_inputs()] for session in sessions] == [["x"], ["x"]]
    assert not sessions[0].get_overridable_initializers()
    x = np.float32(array(1, 2, 4, 4))
    want, got = (session.run(None, {"x": x})[0] for session in sessions)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_initializers_from_ir_4_on_that_a_caller_may_override_are_left() -> None:
    result = fold(ir.from_proto(old_file(4)))
    assert not result.changed
    assert "also a graph input, so a caller may override it unless --fixed-weights" in result.norms[0].reason


def test_file_before_ir_4_that_cannot_be_improved_stays_as_it_is() -> None:
    before = old_file(3)
    del before.graph.node[0], before.graph.node[1:]
    before.graph.node[0].input[0] = "x"
    del before.graph.output[:]
    before.graph.output.append(helper.make_tensor_value_info(before.graph.node[0].output[0], 1, None))
    source = ir.from_proto(before)
    result = fold(source)
    assert result.model is source
    assert (source.ir_version, len(source.graph.inputs)) == (3, 6)


def test_chain_whose_shapes_nobody_evaluated_folds() -> None:
    """As torch.onnx.export(optimize=False) leaves it: a bias of Expand(CastLike, Shape(weight)), views by Concat."""
    b = GraphBuilder()
    weight, x = b.const(array(3, 2, 3, 3), "weight"), b.input((1, 2, 4, 4))
    zero = b.node("CastLike", [b.const(np.float32(0.0), keep_type=True), x])
    bias = b.node("Expand", [zero, b.node("Expand", [b.node("Shape", [weight], start=0, end=1), int64(b, 1)])])
    y = b.node("Conv", [x, weight, bias])
    for op in ("Sub", "Mul", "Mul", "Add"):
        shape = b.node("Concat", [int64(b, 1), int64(b, -1), int64(b, 1), int64(b, 1)], axis=0)
        y = b.node(op, [y, b.node("Reshape", [b.const(array(3)), shape])])
    result = folded(b, b.node("Relu", [y]))
    assert operators(result) == ["Conv", "Relu"]
    assert len(result.after.graph.initializer) == 2


def test_who_asks_for_the_shape_of_a_weight_does_not_share_it() -> None:
    b = GraphBuilder()
    weight = b.const(array(3, 2, 3, 3), "weight")
    x = b.input((1, 2, 4, 4))
    y = running(b, b.node("Conv", [x, weight]), 3)
    b.outputs.append(b.node("Cast", [b.node("Shape", [weight])], to=onnx.TensorProto.DOUBLE))
    result = folded(b, b.node("Relu", [y]))
    assert only(result).fate == "folded"
    weights = [each for each in result.after.graph.initializer if len(each.dims) == 4]
    assert len(weights) == 1  # Shape reads the folded one


def test_weight_that_is_a_graph_output_is_refused_as_that() -> None:
    b = GraphBuilder()
    weight = b.const(array(3, 2, 1, 1), "weight")
    y = running(b, b.node("Conv", [b.input((1, 2, 4, 4)), weight]), 3)
    reason = refusal(b, b.node("Relu", [y]), weight)
    assert reason.startswith("the weight 'weight_1' of Conv 'node_conv_2' is also a graph output; Relu")


def test_weights_that_are_to_be_fixed_fold_and_are_inputs_no_more(tmp_path: Path) -> None:
    source = tmp_path / "old.onnx"
    onnx.save(old_file(4), source)
    left = normexport.fold(source)
    assert not left.changed
    assert "unless --fixed-weights" in left.outcomes[0].reason
    found = normexport.fold(source, tmp_path / "folded.onnx", fixed_weights=True)
    assert [norm.fate for norm in found.outcomes] == ["folded"]
    assert [value.name for value in onnx.load(tmp_path / "folded.onnx").graph.input] == ["x"]
    sessions = [ort.InferenceSession(path) for path in (source, tmp_path / "folded.onnx")]
    x = np.float32(array(1, 2, 4, 4))
    want, got = (session.run(None, {"x": x})[0] for session in sessions)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_file_that_fixing_alone_changes_is_written_anew(tmp_path: Path) -> None:
    model = old_file(4)
    del model.graph.node[1:]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(model.graph.node[0].output[0], 1, None))
    found = normexport.fold(model, tmp_path / "folded.onnx", fixed_weights=True)
    assert found.changed
    assert [value.name for value in onnx.load(tmp_path / "folded.onnx").graph.input] == ["x"]
    assert len(model.graph.input) > 1  # the caller's model is left as it is


@pytest.mark.parametrize("fixed", [False, True])
def test_a_server_is_told_of_no_input_that_holds_a_weight(tmp_path: Path, fixed: bool) -> None:
    config = normexport.ConvertConfig(fixed_weights=fixed, bundle="folder", bom=True)
    found = normexport.convert(old_file(4), tmp_path, config=config)
    assert found.passed
    assert [each.fate for each in found.outcomes] == ["folded" if fixed else "live"]
    session = ort.InferenceSession(tmp_path / "folder" / "model.onnx")
    assert bool(session.get_overridable_initializers()) != fixed
    bill = json.loads((tmp_path / "model.cdx.json").read_text())
    assert "weight" not in json.dumps([each["modelCard"]["modelParameters"]["inputs"] for each in _models(bill)])


def _models(bill: dict[str, Any]) -> list[dict[str, Any]]:
    found = [*bill.get("components", []), bill["metadata"]["component"]]
    return [each for each in found if "modelCard" in each]
