"""What maps pass unchanged: Identity, Dropout at inference, padding that repeats the tensor."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import array, folded, int64, only, operators, refusal, running, scaling


def conv(b: GraphBuilder) -> str:
    return b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(3, 2, 3, 3))])


def test_identity_and_inference_dropout_are_passed() -> None:
    b = GraphBuilder()
    y = b.node("Dropout", [b.node("Identity", [conv(b)])])
    result = folded(b, running(b, y, 3))
    assert operators(result) == ["Conv"]
    assert only(result).rule == "producer"


def test_identity_before_another_layout_is_passed() -> None:
    b = GraphBuilder()
    y = b.node("Transpose", [b.node("Identity", [conv(b)])], perm=[0, 2, 3, 1])
    result = folded(b, b.node("Mul", [y, b.const(array(3))]))
    assert operators(result) == ["Conv", "Identity", "Transpose"]
    assert only(result).rule == "layout"


def test_dropout_in_training_mode_refuses() -> None:
    b = GraphBuilder()
    training = b.const(np.array(True), keep_type=True)
    y = b.node("Dropout", [conv(b), b.const(np.array(0.0)), training])
    assert "Dropout 'node_dropout_5' is in training mode" in refusal(b, running(b, y, 3))


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_padding_that_repeats_the_tensor_is_passed(mode: str) -> None:
    b = GraphBuilder()
    y = b.node("Pad", [conv(b), int64(b, 0, 0, 1, 0, 0, 0, 1, 2)], mode=mode)
    assert operators(folded(b, running(b, y, 3))) == ["Conv", "Pad"]


def test_padding_with_a_constant_refuses_a_shift_and_passes_a_scale() -> None:
    b = GraphBuilder()
    y = b.node("Pad", [conv(b), int64(b, 0, 0, 1, 1, 0, 0, 1, 1)])
    assert "the border that Pad 'node_pad_4' fills with 0" in refusal(b, running(b, y, 3))
    b = GraphBuilder()
    y = b.node("Pad", [conv(b), int64(b, 0, 0, 1, 1, 0, 0, 1, 1)])
    assert operators(folded(b, scaling(b, y, 3))) == ["Conv", "Pad"]


def test_padding_with_a_value_the_norm_keeps_is_passed() -> None:
    b = GraphBuilder()
    y = b.node("Pad", [conv(b), int64(b, 0, 0, 1, 1, 0, 0, 1, 1), b.const(np.array(2.0))])
    y = b.node("Mul", [y, b.const(np.array([3.0, -1.0, 0.5]).reshape(3, 1, 1))])
    y = b.node("Add", [y, b.const(np.array([-4.0, 4.0, 1.0]).reshape(3, 1, 1))])
    assert operators(folded(b, y)) == ["Conv", "Pad"]


def test_cropping_is_passed_whatever_the_mode() -> None:
    b = GraphBuilder(np.float32)  # onnx.reference can't crop, and ONNX Runtime has no float64 Conv
    b.output(running(b, b.node("Pad", [conv(b), int64(b, 0, 0, -1, 0, 0, 0, -1, 0)]), 3))
    before = b.model()
    after = ir.to_proto(fold(ir.from_proto(before)).model)
    assert [node.op_type for node in after.graph.node] == ["Conv", "Pad"]
    x = array(1, 2, 6, 6).astype(np.float32)
    got, expected = (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0] for model in (after, before)
    )
    assert got.shape == (1, 3, 2, 4)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_padding_of_channels_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Pad", [conv(b), int64(b, 1, 1), "", int64(b, 1)], mode="edge")
    assert "Pad 'node_pad_5' pads the batch or the channels" in refusal(b, running(b, y, 5))


def test_padding_by_named_axes_from_the_end_is_passed() -> None:
    b = GraphBuilder()
    y = b.node("Pad", [conv(b), int64(b, 1, 0, 1, 2), "", int64(b, -1, 2)], mode="reflect")
    assert operators(folded(b, running(b, y, 3))) == ["Conv", "Pad"]
