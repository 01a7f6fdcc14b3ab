"""What is left out of int8 is float32 where it runs: ONNX Runtime with its optimisations on, as without."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from normexport.graphs.node_metadata import FOLDED, module_path
from normexport.onnx_export.layers import Layer
from normexport.onnx_export.sidecar import sidecar_text
from normexport.precision.int8.float_layers import shield_float_layers
from normexport.precision.int8.quantise import quantize

RNG = np.random.default_rng(0)
SPREAD = np.exp(RNG.uniform(-4, 4, 8)).astype(np.float32)  # channels of very different size: one scale serves none
ARRAYS: dict[str, np.ndarray] = {
    "k": RNG.normal(size=(8, 8, 3, 3)).astype(np.float32) * SPREAD[:, None, None, None],
    "depth": RNG.normal(size=(8, 1, 3, 3)).astype(np.float32) * SPREAD[:, None, None, None],
    "m": RNG.normal(size=(8, 8)).astype(np.float32) * SPREAD,
    "b": np.zeros(8, np.float32),
    "s": np.asarray(np.float32(0.02)),
    "wide": np.asarray(np.float32(0.5)),
    "z": np.asarray(np.uint8(128)),
    "six": np.asarray(np.float32(6)),
    "none": np.asarray(np.float32(-6)),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
}
IMAGE, ROWS = "N,8,9,9", "N,8"


def between(body: str, shape: str) -> onnx.ModelProto:
    """A body from `v` to `w` with a pair of QuantizeLinear and DequantizeLinear on either side."""
    before = "q = QuantizeLinear(x, s, z)\n v = DequantizeLinear(q, s, z)"
    after = "p = QuantizeLinear(w, wide, z)\n y = DequantizeLinear(p, wide, z)"
    text = (
        f'<ir_version: 10, opset_import: ["": 20]> g (float[{shape}] x) => (float y) {{ {before}\n {body}\n {after} }}'
    )
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in ARRAYS.items() if name in read
    )
    return model


def run(model: onnx.ModelProto, x: np.ndarray, optimised: bool) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


BODIES: dict[str, tuple[str, str]] = {
    "conv": ("w = Conv(v, k)", IMAGE),
    "depthwise": ("w = Conv<group = 8>(v, depth)", IMAGE),
    "conv, bias, relu": ("c = Conv(v, k, b)\n w = Relu(c)", IMAGE),
    "conv, clip": ("c = Conv(v, k)\n w = Clip(c, none, six)", IMAGE),
    "pool, conv": ("a = MaxPool<kernel_shape = [2, 2]>(v)\n w = Conv(a, k)", IMAGE),
    "pad, conv": ("a = Pad(v, pads)\n w = Conv(a, k)", IMAGE),
    "conv, pool": ("c = Conv(v, k)\n w = MaxPool<kernel_shape = [2, 2]>(c)", IMAGE),
    "transposed": ("w = ConvTranspose(v, k)", IMAGE),
    "gemm": ("w = Gemm(v, m, b)", ROWS),
    "matmul, bias": ("c = MatMul(v, m)\n w = Add(c, b)", ROWS),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_float_layer_between_pairs_is_computed_in_float(name: str) -> None:
    body, shape = BODIES[name]
    model = between(body, shape)
    x = RNG.normal(size=[3, *map(int, shape.split(",")[1:])]).astype(np.float32)
    exact = run(model, x, optimised=False)
    assert np.abs(run(model, x, optimised=True) - exact).max() > 0.4, "ONNX Runtime leaves such layers alone now"
    shielded = ir.from_proto(model)
    shield_float_layers(shielded)
    # Sums of another order may fall to the other side of a step
    off = run(ir.to_proto(shielded), x, optimised=True) != exact
    assert off.mean() < 0.002


def test_what_is_int8_has_no_shield() -> None:
    model = ir.from_proto(_two_layers())
    ranges = dict.fromkeys(("x", "c", "r", "w", "y"), (-3.0, 3.0))
    whole = quantize(model, ranges).model
    assert not [node for node in whole.graph if node.op_type == "Max"]
    (part,) = (quantize(model, ranges, exclude=("second",)).model,)
    shields = [node for node in part.graph if node.op_type == "Max"]
    assert [use.node.op_type for each in shields for use in each.outputs[0].uses()] == ["Conv"]


def test_a_shield_is_of_its_layer_and_holds_no_norm_itself() -> None:
    """Else whoever counts what was folded into which module counts it twice."""
    model = ir.from_proto(_two_layers())
    for node in model.graph:
        if node.op_type == "Conv":
            node.metadata_props[FOLDED] = f"{module_path(node)}.bn"
    part = quantize(model, dict.fromkeys(("x", "c", "r", "w", "y"), (-3.0, 3.0)), exclude=("second",)).model
    (shield,) = (node for node in part.graph if node.op_type == "Max")
    assert module_path(shield) == "second"
    layers = [Layer(name, 0, "Conv2d", name[0]) for name in ("first", "second", "third")]
    rows = json.loads(sidecar_text(layers, part, "model.onnx"))["layers"]
    assert [row["holds"] for row in rows] == [["first.bn"], ["second.bn"], ["third.bn"]]


UNSHIELDED = ("a = Sigmoid(v)\n w = Conv(a, k)", "w = Mul(v, six)", "a = Neg(v)\n c = Conv(a, k)\n w = Conv(c, k)")


@pytest.mark.parametrize("body", UNSHIELDED)
def test_what_computes_needs_no_shield_and_is_none(body: str) -> None:
    """Between a DequantizeLinear and a layer, and in place of a layer."""
    model = ir.from_proto(between(body, IMAGE))
    shield_float_layers(model)
    assert not [node for node in model.graph if node.op_type == "Max"]


def test_a_shield_says_what_it_hands_on() -> None:
    """Its type and shape: a custom operator behind it has no shape inference to ask."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(between("w = Conv(v, k)", IMAGE)))
    shield_float_layers(model)
    (made,) = (node.outputs[0] for node in model.graph if node.op_type == "Max")
    assert made.dtype == ir.DataType.FLOAT
    assert made.shape is not None
    assert list(made.shape) == ["N", 8, 9, 9]
    names = [value.name for node in model.graph for value in node.outputs] + [node.name for node in model.graph]
    assert len(set(filter(None, names))) == len(list(filter(None, names)))


def _two_layers() -> Any:
    body = "c = Conv(x, k)\n r = Relu(c)\n w = Conv(r, k)\n t = Relu(w)\n y = Conv(t, k)"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> g (float[{IMAGE}] x) => (float[N,8,3,3] y) {{ {body} }}'
    )
    model.graph.initializer.append(numpy_helper.from_array(ARRAYS["k"], "k"))
    for node, module in zip(model.graph.node, ("first", "first", "second", "second", "third"), strict=True):
        node.name = f"{module}/{node.op_type}"
        entry = node.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.name_scopes", f"['', '{module}', '{node.name}']"
    return model
