"""Claims about corrected biases, which broken copies of the library must not hold."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from normexport.precision.int8.bias_by_layer import mean_errors_by_layer
from normexport.precision.int8.bias_correction import mean_errors_in_sequence
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.corrections import Corrections, pairs_of, why_no_shift
from normexport.precision.int8.quantise import quantize
from normexport.runtime import Float64Runtime, OnnxRuntime
from tests.precision.int8.linked_graphs import Graph

KINDS = ("conv", "conv without bias", "depthwise", "transposed", "gemm", "transposed gemm", "gemm of columns")


def layer(g: Graph, kind: str) -> str:
    if kind == "gemm of columns":
        constants = g.const(g.uneven(6, 5, along=0)), g.const(np.arange(5, dtype=np.float32))
        return g.node("Gemm", ["x", *constants], (12, 5), transA=1)
    if kind.endswith("gemm"):
        result = g.gemm("x", 5, transposed=kind.startswith("t"))
        g.constants[-2].dims[:] = [5]  # a bias of (5,), as most files have it
        return result
    if kind == "transposed":
        return g.transposed("x", 6)
    return g.conv("x", 6, 3, group=6 if kind == "depthwise" else 1, bias=kind != "conv without bias")


def one_layer(kind: str) -> tuple[ir.Model, np.ndarray]:
    """A layer that reads positive numbers, so that what rounding does to its weights moves its means."""
    shape = (6, 12) if kind == "gemm of columns" else (12, 6) if kind.endswith("gemm") else (12, 6, 5, 5)
    g = Graph(4, shape, np.float32)
    model = g.model(layer(g, kind))
    return model, np.random.default_rng(0).gamma(2.0, 1.0, shape).astype(np.float32)


def means(model: ir.Model, x: np.ndarray) -> np.ndarray:
    """Of each channel of the only output, by the float64 interpreter."""
    (result,) = Float64Runtime(model, torch=False).run({"x": x}).values()
    return np.asarray(result.mean(axis=tuple(axis for axis in range(result.ndim) if axis != 1)))


def check_one_layer(kind: str, symmetric: bool) -> None:
    """The mean of every channel is right again."""
    model, x = one_layer(kind)
    ranges = {name: (low, 0.8 * high) for name, (low, high) in calibrate(model, [{"x": x}], "minmax").ranges.items()}
    plain = quantize(model, ranges, symmetric=symmetric).model
    assert [why_no_shift(pair.node) for pair in pairs_of(model, plain)] == [""]
    in_sequence = mean_errors_in_sequence(model, plain, [{"x": x}])
    by_layer = mean_errors_by_layer(model, pairs_of(model, plain), [{"x": x}])
    for name, shift in by_layer.items():  # of the only layer both are the same, but that int8's bias is rounded
        np.testing.assert_allclose(in_sequence[name], shift, atol=0.01 * np.abs(shift).max())
    corrected = quantize(model, ranges, symmetric=symmetric, corrections=Corrections(shifts=by_layer)).model
    onnx.checker.check_model(ir.to_proto(corrected), full_check=True)
    exact = means(model, x)
    before, after = np.abs(means(plain, x) - exact).max(), np.abs(means(corrected, x) - exact).max()
    assert before > 1e-3
    assert after < before / 50


def check_chain(seed: int, symmetric: bool, final: str) -> None:
    """Three layers and what cuts between them: corrected each for itself, the last one would still be off."""
    g = Graph(seed, (12, 4, 5, 5), np.float32)
    hidden = g.node("Relu", [g.conv("x", 6, 3)], (12, 6, 5, 5))
    hidden = g.node(final, [g.conv(hidden, 6, 3, group=6)], (12, 6, 5, 5))
    model = g.model(g.conv(hidden, 3))
    x = np.random.default_rng(seed).standard_normal((12, 4, 5, 5)).astype(np.float32)
    found = calibrate(model, [{"x": x}], "minmax").ranges
    ranges = {name: (0.5 * low, 0.5 * high) for name, (low, high) in found.items()}
    plain = quantize(model, ranges, symmetric=symmetric).model
    shifts = mean_errors_in_sequence(model, plain, [{"x": x}])
    assert len(shifts) == 3
    corrected = quantize(model, ranges, symmetric=symmetric, corrections=Corrections(shifts=shifts)).model
    exact = means(model, x)
    before, after = np.abs(means(plain, x) - exact).max(), np.abs(means(corrected, x) - exact).max()
    # Behind a bias in whole numbers single values round the other way.
    assert after <= before / 10 + 2e-3 * np.abs(exact).max()


def every_kind() -> None:
    for kind in KINDS:
        check_one_layer(kind, symmetric=False)


def layers_in_sequence() -> None:
    for seed in range(6):
        check_chain(seed, symmetric=bool(seed % 2), final="Relu" if seed % 3 else "Sigmoid")


def batches_by_their_samples() -> None:
    g = Graph(4, (3, 6), np.float32)
    result = layer(g, "gemm")
    proto = ir.to_proto(g.model(result))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    model = ir.from_proto(proto)
    x = np.random.default_rng(0).gamma(2.0, 1.0, (12, 6)).astype(np.float32)
    plain = quantize(model, calibrate(model, [{"x": x}], "minmax").ranges).model
    (whole,) = mean_errors_in_sequence(model, plain, [{"x": x}]).values()
    (parts,) = mean_errors_in_sequence(model, plain, [{"x": x[:2]}, {"x": x[2:]}]).values()
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    (wrong,) = mean_errors_in_sequence(model, plain, [{"x": x[:2]}]).values()
    assert np.abs(wrong - whole).max() > 1e-4


def models_left_alone() -> None:
    model, x = one_layer("conv")
    plain = quantize(model, calibrate(model, [{"x": x}], "minmax").ranges).model
    texts = [ir.to_proto(each).SerializeToString() for each in (model, plain)]
    assert mean_errors_in_sequence(model, plain, [{"x": x}])
    assert texts == [ir.to_proto(each).SerializeToString() for each in (model, plain)]


def branches_and_nodes_without_names() -> None:
    """A layer's result that only the branches of an If read."""
    dice = np.random.default_rng(0)
    weights = [dice.standard_normal((4, 4, 3, 3)).astype(np.float32) for _ in range(2)]
    stored = [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(weights)]
    stored.append(numpy_helper.from_array(np.array(True), "condition"))
    shape = [6, 4, 5, 5]
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["a"], [kind])], kind, [], [helper.make_tensor_value_info(kind, 1, shape)]
        )
        for kind in ("Relu", "Neg")
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        helper.make_node("If", ["condition"], ["b"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Conv", ["b", "w1"], ["y"], pads=[1] * 4),
    ]
    read, made = (helper.make_tensor_value_info(name, 1, shape) for name in "xy")
    graph = helper.make_graph(nodes, "branches", [read], [made], stored)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    x = dice.standard_normal(shape).astype(np.float32)
    ranges = {
        name: (0.5 * low, 0.5 * high) for name, (low, high) in calibrate(model, [{"x": x}], "minmax").ranges.items()
    }
    plain = quantize(model, ranges).model
    shifts = mean_errors_in_sequence(model, plain, [{"x": x}])
    assert set(shifts) == {"a", "y"}
    corrected = quantize(model, ranges, corrections=Corrections(shifts=shifts)).model
    exact, before, after = (
        OnnxRuntime(each).run({"x": x})["y"].mean(axis=(0, 2, 3)) for each in (model, plain, corrected)
    )
    assert np.abs(after - exact).max() < np.abs(before - exact).max() / 10


CLAIMS = (branches_and_nodes_without_names, every_kind, layers_in_sequence, batches_by_their_samples, models_left_alone)
