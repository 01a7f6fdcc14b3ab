"""ONNX Runtime and the float64 interpreter behind the one protocol."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport import norms
from normexport.errors import ExitCode, FoldError, MissingComponent, UsageError
from normexport.norms import Scope
from normexport.runtime import Float64Runtime, OnnxRuntime, OpenVinoRuntime, Runtime
from tests.foreign import needs_openvino

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((40, 30)).astype(np.float32)  # 4.8 kB: handed over outside the proto
BIAS = RNG.standard_normal(40).astype(np.float32)  # 160 B: stays inside


def model(**changes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """relu(x @ WEIGHT.T + BIAS) with the integer input `shift` added, and an argmax."""
    nodes = [
        helper.make_node("Gemm", ["x", "weight", "bias"], ["linear"], transB=1),
        helper.make_node("Relu", ["linear"], ["relu"]),
        helper.make_node("Cast", ["shift"], ["shift_float"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["relu", "shift_float"], ["y"]),
        helper.make_node("ArgMax", ["relu"], ["best"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        changes.get("nodes", nodes),
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 30]),
            helper.make_tensor_value_info("shift", TensorProto.INT64, ["n", 1]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 40]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["n"]),
        ],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def feeds(n: int = 3) -> dict[str, np.ndarray]:
    return {"x": RNG.standard_normal((n, 30)), "shift": RNG.integers(0, 5, (n, 1))}


@pytest.fixture(
    params=[OnnxRuntime, Float64Runtime, pytest.param(OpenVinoRuntime, marks=needs_openvino)],
    ids=["onnxruntime", "float64", "openvino"],
)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return request.param(model())


def test_outputs_and_captured_values_are_right_and_named(runtime: Runtime) -> None:
    given = feeds()
    linear = given["x"].astype(np.float32) @ WEIGHT.T + BIAS
    values = runtime.run(given, ["linear", "relu", "gone"])
    assert set(values) == {"y", "best", "linear", "relu"}
    np.testing.assert_allclose(values["linear"], linear, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values["relu"], np.maximum(linear, 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(values["y"], np.maximum(linear, 0) + given["shift"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(values["best"], np.maximum(linear, 0).argmax(1))
    assert runtime.dropped == {"gone": "is not in the file"}
    assert runtime.input_names == ("x", "shift")
    assert runtime.output_names == ("y", "best")


def test_streaming_gives_captured_values_and_keeps_only_outputs(runtime: Runtime) -> None:
    seen = {}
    result = runtime.run(feeds(), ["linear", "y"], lambda name, value: seen.update({name: value.copy()}))
    assert set(seen) == {"linear", "y"}
    assert set(result) == {"y", "best"}
    np.testing.assert_array_equal(seen["y"], result["y"])


def test_capturing_changes_neither_the_model_nor_later_runs(runtime: Runtime) -> None:
    given = feeds()
    before = runtime.run(given)
    runtime.run(given, ["linear"])
    after = runtime.run(given)
    assert set(after) == {"y", "best"}
    np.testing.assert_array_equal(before["y"], after["y"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("shift"), "input shift is missing; feed all of x, shift"),
        (lambda f: f.update(z=f["x"]), "has no input z; its inputs are x, shift"),
        (lambda f: f.update(x=f["x"][0]), r"input x: has shape \(30,\), expected \(batch, 30\)"),
        (lambda f: f.update(x=f["x"][:, :20]), r"input x: has shape \(3, 20\), expected \(batch, 30\)"),
        (lambda f: f.update(shift=f["shift"].astype(np.int32)), "input shift: has dtype int32, expected int64"),
        (lambda f: f.update(shift=f["shift"] * 0.5), "input shift: has dtype float64, expected int64"),
        (lambda f: f.update(x=f["x"].astype(int)), "input x: has dtype int64, expected float(32|64)"),
    ],
    ids=["missing", "extra", "rank", "shape", "narrow_int", "float_for_int", "int_for_float"],
)
def test_wrong_feeds_name_the_input_and_what_was_expected(
    runtime: Runtime, change: Callable[..., Any], message: str
) -> None:
    given = feeds()
    change(given)
    with pytest.raises(UsageError, match=message):
        runtime.run(given)


def test_onnx_runtime_takes_ir_models_protos_and_paths_alike(tmp_path: Path) -> None:
    given = feeds()
    path = tmp_path / "model.onnx"
    onnx.save(model(), path)
    results = [OnnxRuntime(source, threads=1).run(given)["y"] for source in (model(), ir.from_proto(model()), path)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_onnx_runtime_reads_weights_from_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model(), path, save_as_external_data=True, size_threshold=0)
    given = feeds()
    np.testing.assert_array_equal(OnnxRuntime(path).run(given)["y"], OnnxRuntime(model()).run(given)["y"])
    np.testing.assert_allclose(Float64Runtime(path).run(given)["y"], OnnxRuntime(path).run(given)["y"], rtol=1e-4)


def test_a_model_onnx_runtime_refuses_is_one_line_and_exit_code_4() -> None:
    broken = model(nodes=[helper.make_node("NoSuchOp", ["x", "shift"], ["y", "best"])])
    with pytest.raises(FoldError, match="ONNX Runtime can't load it") as caught:
        OnnxRuntime(broken)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(caught.value)


def test_without_onnxruntime_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingComponent, match=r"pip install 'normexport\[cpu\]'"):
        OnnxRuntime(model())


def test_jitter_moves_outputs_by_roundoff_only() -> None:
    given = feeds()
    plain, moved = OnnxRuntime(model()).run(given)["y"], OnnxRuntime(model(), jitter=1).run(given)["y"]
    assert not np.array_equal(plain, moved)
    np.testing.assert_allclose(plain, moved, rtol=1e-5, atol=1e-5)


def test_the_graph_itself_is_computed_in_float64() -> None:
    given = feeds()
    values = Float64Runtime(model()).run(given, ["linear"])
    expected = given["x"] @ WEIGHT.astype(np.float64).T + BIAS.astype(np.float64)
    assert values["linear"].dtype == np.float64
    np.testing.assert_allclose(values["linear"], expected, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(values["y"], np.maximum(expected, 0) + given["shift"], rtol=1e-14, atol=1e-14)
    assert values["best"].dtype == np.int64


def test_constants_defaults_and_subgraphs_are_widened() -> None:
    """if(true) x + 0.1 (a float constant) + zeros (ConstantOfShape's float default), inside a branch."""
    branch = helper.make_graph(
        [
            helper.make_node("Constant", [], ["tenth"], value_float=0.1),
            helper.make_node("Constant", [], ["size"], value_ints=[2]),
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("Add", ["x", "tenth"], ["a"]),
            helper.make_node("Add", ["a", "zeros"], ["b"]),
        ],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    y = Float64Runtime(proto).run({"x": np.array([1 / 3, 2 / 3])})["y"]
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, np.array([1 / 3, 2 / 3]) + np.float64(np.float32(0.1)), rtol=1e-15)


def test_function_bodies_are_computed_in_float64() -> None:
    kind = norms.kind("l1")
    node = helper.make_node(
        "L1BatchNorm", ["x", "scale", "bias"], ["y"], domain=norms.DOMAIN, epsilon=0.0, correction=0.0, k=1, chunks=1
    )
    scale, bias = RNG.standard_normal(3).astype(np.float32), RNG.standard_normal(3).astype(np.float32)
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 4])],
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(bias, "bias")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(norms.DOMAIN, norms.VERSION)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=[norms.functions()["L1BatchNorm"]])
    x = RNG.standard_normal((5, 3, 4))
    affine = scale.astype(np.float64), bias.astype(np.float64)
    expected = norms.reference(kind, x, *affine, epsilon=0.0, scope=Scope.BATCH, k=1, chunks=1, correction=0.0)
    actual = Float64Runtime(proto).run({"x": x})["y"]
    # sqrt(pi/2) is a float32 attribute or constant in the body: 3e-8 off
    np.testing.assert_allclose(actual, expected, rtol=2e-7, atol=1e-9)
    assert actual.dtype == np.float64


def test_an_operator_without_a_float64_meaning_is_one_line() -> None:
    broken = model(nodes=[helper.make_node("NoSuchOp", ["x", "shift"], ["y", "best"], domain="elsewhere")])
    broken.opset_import.append(helper.make_opsetid("elsewhere", 1))
    with pytest.raises(FoldError, match=r"no float64 reference: operator elsewhere\.NoSuchOp"):
        Float64Runtime(broken)


@pytest.mark.parametrize("is_input", [False, True])
def test_a_large_weight_that_nothing_reads_is_no_hindrance(is_input: bool) -> None:
    """Exporters leave such weights behind, and ONNX Runtime drops them while it loads."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 40]) for name in "xy")
    spare = numpy_helper.from_array(np.ones((40, 40), np.float32), "spare")
    inputs = [x, helper.make_tensor_value_info("spare", TensorProto.FLOAT, [40, 40])][: 1 + is_input]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", inputs, [y], [spare])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = np.linspace(-1, 1, 40, dtype=np.float32)[None]
    np.testing.assert_array_equal(OnnxRuntime(proto).run({"x": given})["y"], np.maximum(given, 0))


def test_a_file_around_a_plan_is_told_as_one() -> None:
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in "xy")
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=0, ep_cache_context="m.plan")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=9)
    with pytest.raises(FoldError, match=r"holds a plan of TensorRT \(EPContext\).*; give the plan, or the ONNX file"):
        OnnxRuntime(model).run({"x": np.zeros((1, 4), np.float32)})
