"""What the interpreter does around its operators: names and scopes, memory, refusals."""

from __future__ import annotations

import tracemalloc
import weakref
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.errors import ExitCode, FoldError, UsageError
from normexport.runtime import Float64Runtime
from normexport.runtime.float64.operators import control_flow
from normexport.runtime.float64.reference_ops import CHECKED
from normexport.runtime.float64.registry import kernel_of
from tests.folding import backend_models
from tests.runtime.float64.agreement import by_onnx_runtime, interpreted, same

INTS = np.array([1, 2], dtype=np.int64)


def parsed(body: str, head: str = 'ir_version: 10, opset_import: ["" : 20, "own" : 1]') -> onnx.ModelProto:
    return onnx.parser.parse_model(f"<{head}> {body}")


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    return Float64Runtime(model).run(feeds)["y"]


def test_functions_see_their_attributes_and_defaults_and_not_their_callers_values() -> None:
    model = parsed("""
        g (float[2] x) => (float[2] y)
            { h = own.scaled <by = 3.0> (x)  i = own.scaled (h)  y = own.twice <k = 5.0> (i) }
        <opset_import: ["" : 20], domain: "own"> scaled <by: float = 10.0> (a) => (h)
            { c = Constant <value_float: float = @by> () h = Mul (a, c) }
        <opset_import: ["" : 20, "own" : 1], domain: "own"> twice <k> (a) => (b)
            { h = own.scaled <by: float = @k> (a) b = Add (h, h) }
    """)
    np.testing.assert_array_equal(run(model, x=np.array([1.0, 2.0])), np.array([1.0, 2.0]) * 3 * 10 * 5 * 2)


def test_a_function_without_its_attribute_uses_the_operators_default() -> None:
    model = parsed("""
        g (float[2] x) => (float[2] y) { y = own.leaky (x) }
        <opset_import: ["" : 20], domain: "own"> leaky <slope> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }
    """)
    np.testing.assert_allclose(run(model, x=np.array([-1.0, 2.0])), [-float(np.float32(0.01)), 2.0], rtol=1e-15)


def loop_model() -> onnx.ModelProto:
    """y = x * 2^3 by a loop whose body reads `two` of the outer graph and shadows nothing; s stacks what it carried."""
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["carried", "two"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, [2]),
        ],
        [onnx.ValueInfoProto(name=name) for name in ("still", "next", "seen")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["one", "one"], ["two"]),
            helper.make_node("Loop", ["three", "", "x"], ["y", "s"], body=body),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="s")],
        [
            numpy_helper.from_array(np.array([1], np.float32), "one"),
            numpy_helper.from_array(np.array(3, np.int64), "three"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_subgraphs_read_the_values_around_them_each_time_they_run() -> None:
    x = np.array([1.0, -0.5])
    values = Float64Runtime(loop_model()).run({"x": x})
    np.testing.assert_array_equal(values["y"], x * 8)
    np.testing.assert_array_equal(values["s"], [x * 2, x * 4, x * 8])


def test_a_loop_without_end_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_flow, "MOST_TRIPS", 50)
    model = loop_model()
    loop = next(node for node in model.graph.node if node.op_type == "Loop")
    trips = next(each for each in model.graph.initializer if each.name == "three")
    trips.CopyFrom(numpy_helper.from_array(np.array(50, np.int64), "three"))
    x = np.array([1.0, -0.5])
    assert np.isfinite(Float64Runtime(model).run({"x": x})["y"]).all()
    for without_limit in ("", "three"):
        loop.input[0] = without_limit
        trips.CopyFrom(numpy_helper.from_array(np.array(2**63 - 1, np.int64), "three"))
        with pytest.raises(FoldError, match=r"Loop .*has not ended after 50 trips; check its condition"):
            Float64Runtime(model).run({"x": x})


def chain(length: int, sides: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Abs", ["x" if i == 0 else f"v{i}"], [f"v{i + 1}"]) for i in range(length)]
    nodes.append(helper.make_node("Identity", [f"v{length}"], ["y"]))
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [sides, sides]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_values_are_freed_after_their_last_use() -> None:
    side = 500
    runtime, x = Float64Runtime(chain(30, side)), np.ones((side, side))
    runtime.run({"x": x})
    tracemalloc.start()
    runtime.run({"x": x})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3.5 * x.nbytes  # what a node reads, what it writes, and the output; thirty are computed


def test_captured_values_arrive_in_order_and_are_not_kept() -> None:
    kept: list[Any] = []
    order: list[str] = []

    def sink(name: str, value: np.ndarray) -> None:
        order.append(name)
        assert sum(reference() is not None for reference in kept) <= 2
        kept.append(weakref.ref(value))

    names = [f"v{i}" for i in range(12, 0, -1)]
    Float64Runtime(chain(12, 4)).run({"x": np.ones((4, 4))}, names, sink)
    assert order == names[::-1]


def test_weights_are_widened_while_they_are_used_and_no_longer() -> None:
    side, count = 300, 12
    weights = [numpy_helper.from_array(np.ones((side, side), np.float32), f"w{i}") for i in range(count)]
    nodes = [helper.make_node("Add", ["x" if i == 0 else f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(count)]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in ("x", f"v{count}")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    runtime, x = Float64Runtime(model), np.zeros((side, side))
    tracemalloc.start()
    (y,) = runtime.run({"x": x}).values()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (y == count).all()
    assert peak < 4.5 * x.nbytes


def one(operator: str, *constants: np.ndarray, opset: int = 20, **attributes: Any) -> onnx.ModelProto:
    """y = operator(x, constants...) with x of [2, 2], or of [1, 1, 2, 2] for operators over space."""
    shape = [1, 1, 2, 2] if operator in ("Conv", "ConvTranspose", "MaxPool", "LRN") else [2, 2]
    names = [f"c{i}" for i in range(len(constants))]
    reads = names if operator in ("ConstantOfShape", "Range") else ["x", *names]
    graph = helper.make_graph(
        [helper.make_node(operator, reads, ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(c), name) for c, name in zip(constants, names, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


MANY = 10**6
HUGE = {
    "Expand": one("Expand", np.array([MANY, MANY, 1, 1])),
    "Tile": one("Tile", np.array([MANY, MANY])),
    "ConstantOfShape": one("ConstantOfShape", np.array([MANY, MANY])),
    "Range": one("Range", np.array(0), np.array(10**12), np.array(1)),
    "Pad": one("Pad", np.array([MANY] * 4)),
    "Pad edge": one("Pad", np.array([MANY] * 4), mode="edge"),
    "Resize": one("Resize", np.zeros(0, np.float32), np.array([1e6, 1e6], np.float32)),
    "Conv": one("Conv", np.ones((1, 1, 1, 1), np.float32), pads=[MANY] * 4),
    "ConvTranspose": one("ConvTranspose", np.ones((1, 1, 1, 1), np.float32), strides=[10**9] * 2),
    "MaxPool": one("MaxPool", kernel_shape=[MANY, MANY], auto_pad="SAME_UPPER"),
}


@pytest.mark.parametrize("name", list(HUGE))
def test_sizes_that_no_machine_has_are_refused_before_anything_is_made(name: str) -> None:
    runtime = Float64Runtime(HUGE[name])
    feeds = {"x": np.ones([size or 1 for size in runtime.inputs[0].shape or ()])}
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"takes .* GB to compute with, .* are free") as caught:
        runtime.run(feeds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 1 << 24


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        (one("Reshape", np.array([-7, 4])), "-7 is no size"),
        (one("Reshape", np.array([3, 3])), "can't compute this"),
        (one("Gather", np.array([7])), "an index is outside of 2 elements"),
        (one("Div", np.ones(2, np.float32)), None),
        (one("Transpose", perm=[0, 0]), "repeated axis"),
        (one("Flatten", axis=9), "axis 9 of 2 axes"),
        (one("Conv", np.ones((3, 2, 1, 1), np.float32)), "do not fit an input"),
        (one("MaxPool", kernel_shape=[0, 0]), "do not fit"),
        (one("MaxPool", kernel_shape=[9, 9]), "larger than the padded input"),
        (one("MatMul", np.ones((3, 3), np.float32)), "can't compute this"),
        (one("TopK", np.array([5]), opset=11), "k = 5 of 2 elements"),
        (one("Resize", np.zeros(0, np.float32), np.array([np.nan, 1], np.float32)), "can't compute this"),
        (one("Dropout", np.array(0.5, np.float32), np.array(True)), "draws random numbers"),
    ],
)
def test_what_can_not_be_computed_names_the_node_and_the_reason(model: onnx.ModelProto, cause: str | None) -> None:
    runtime = Float64Runtime(model)
    feeds = {"x": np.ones([size or 1 for size in runtime.inputs[0].shape or ()])}
    if cause is None:
        runtime.run(feeds)
        return
    with pytest.raises(UsageError, match=cause) as caught:
        runtime.run(feeds)
    assert "\n" not in str(caught.value)
    assert model.graph.node[0].op_type in caught.value.place


@pytest.mark.parametrize(
    ("operator", "domain", "cause"),
    [
        ("NoSuchOp", "", "no float64 reference: operator NoSuchOp"),
        ("NoSuchOp", "elsewhere", r"no float64 reference: operator elsewhere\.NoSuchOp"),
        ("RandomNormalLike", "", "RandomNormalLike draws random numbers"),
        ("Swish", "", "operator Swish is not in opset 20"),
    ],
)
def test_operators_without_a_meaning_are_refused_when_the_model_is_opened(
    operator: str, domain: str, cause: str
) -> None:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], domain=domain)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [onnx.ValueInfoProto(name="y")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("elsewhere", 1)]
    with pytest.raises(FoldError, match=cause) as caught:
        Float64Runtime(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    assert caught.value.exit_code == ExitCode.REFUSED


def test_an_unknown_operator_inside_a_function_or_branch_is_found_when_the_model_is_opened() -> None:
    model = parsed("""
        g (float[2] x) => (float[2] y) { y = own.f (x) }
        <opset_import: ["" : 20, "own" : 1], domain: "own"> f (a) => (b) { b = own.missing (a) }
    """)
    with pytest.raises(FoldError, match=r"operator own\.missing"):
        Float64Runtime(model)


def test_batch_norm_of_opset_9_to_13_uses_its_running_statistics() -> None:
    rng = np.random.default_rng(0)
    x, stats = rng.standard_normal((4, 3, 5)) * 3 + 2, [rng.standard_normal(3) for _ in range(3)]
    var = rng.uniform(0.5, 2, 3)
    for opset in (7, 9, 13, 14, 15):
        graph = helper.make_graph(
            [helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [4, 3, 5])],
            [onnx.ValueInfoProto(name="y")],
            [numpy_helper.from_array(a, name) for a, name in zip([*stats, var], "sbmv", strict=True)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        s, b, m, v = (a[:, None] for a in (*stats, var))
        expected = s * (x - m) / np.sqrt(v + np.float32(1e-5)) + b
        np.testing.assert_allclose(run(model, x=x), expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_integers_wrap_around_as_their_type(dtype: type[np.integer]) -> None:
    info = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [2])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "g", [info], [onnx.ValueInfoProto(name="y")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = np.array([np.iinfo(dtype).max, np.iinfo(dtype).max - 3], dtype)
    got = interpreted(model, [x])[0]
    assert got.dtype == dtype
    theirs = by_onnx_runtime(model, [x])
    np.testing.assert_array_equal(
        got, [(2 * int(v)) % 2 ** (8 * x.itemsize) for v in x] if theirs is None else theirs[0]
    )


@pytest.mark.slow
def test_what_comes_from_onnx_reference_is_not_written_here_and_agrees_with_onnx_runtime() -> None:
    compared = set()
    for shipped in backend_models.node_models():
        node = shipped.model.graph.node[0]
        if node.op_type not in CHECKED.get(node.domain, ()) or len(shipped.model.graph.node) > 1:
            continue
        assert kernel_of(node.domain, node.op_type, 99) is None
        for inputs, _ in shipped.data_sets:
            theirs = by_onnx_runtime(shipped.model, inputs)
            if theirs is not None and shipped.name != "test_maxunpool_export_with_output_shape":  # theirs is wrong
                ours = interpreted(shipped.model, inputs)
                assert all(
                    same(g, e, 1e-4, 1e-6 * np.abs(e).max() if e.dtype.kind == "f" and e.size else 0)
                    for g, e in zip(ours, theirs, strict=True)
                ), shipped.name
                compared.add(node.op_type)
    # ONNX Runtime runs no shipped model of it: test_versions has a node of it
    assert {name for names in CHECKED.values() for name in names} - compared == {"MelWeightMatrix"}
