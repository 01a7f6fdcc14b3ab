"""What is not in eight bits, in a half type: which tensors have it, what stays float32, and that it computes so."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from normexport.dtypes import HALVES
from normexport.errors import UsageError
from normexport.graphs.shapes import Shapes
from normexport.precision import Fp8, Half, Int8, Judged, reduce_precision
from normexport.precision.half.search import KeptModule
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.remainder import Remainder, as_written, plan_remainder, with_remainder
from normexport.precision.int8.storage import Storage
from normexport.runtime import OnnxRuntime
from normexport.verdicts import Verdict
from tests.narrow import present
from tests.precision import nets
from tests.precision.int8.test_int8 import branches, samples

pytestmark = pytest.mark.slow

PAIR = ("QuantizeLinear", "DequantizeLinear")
TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
agraph (float[N, 4] x) => (float[N, 4] y)
<float[4, 4] w = {W}, float[4, 4] v = {W}, float[4, 4] u = {W}>
{
    a = MatMul(x, w)
    s = Softmax<axis = -1>(a)
    b = MatMul(a, v)
    c = Add(s, b)
    y = MatMul(c, u)
}
"""


def network(scale: float = 1.0, opset: int = 20) -> ir.Model:
    """x W -> a; (softmax(a) + a W) W: a pair with a reader that computes in float32 and one that does not."""
    weight = np.random.default_rng(0).normal(0, 0.7, 16) * scale
    text = TEXT.replace("{W}", "{" + ", ".join(f"{number:.6f}" for number in weight) + "}")
    model = ir.from_onnx_text(text.replace(": 20]", f": {opset}]"))
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model


def made(model: ir.Model, x: np.ndarray, rest: Remainder, dtype: str = "int8") -> ir.Model:
    storage = Storage(dtype, rest.dtype)
    ranges = calibrate(model, [{str(model.graph.inputs[0].name): x}], "minmax", symmetric=True, storage=storage).ranges
    return rest.store(quantize(model, ranges, symmetric=True, storage=storage).model)


def rows(count: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)


def snr(exact: np.ndarray, found: np.ndarray) -> float:
    exact = exact.astype(np.float64)
    return float(20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact - found)))


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
@pytest.mark.parametrize("half", HALVES)
def test_pairs_have_the_type_of_their_neighbours_and_no_casts(half: str, dtype: str) -> None:
    found = made(network(), rows(), Remainder(half), dtype)
    onnx.checker.check_model(ir.to_proto(found), full_check=True)
    shapes = Shapes(found)
    by_op: dict[str, list[ir.Node]] = {}
    for node in found.graph:
        by_op.setdefault(node.op_type, []).append(node)
    kind = HALVES[half].ir
    assert all(shapes.dtype(node.outputs[0]) == kind for node in (*by_op["MatMul"], *by_op["Add"]))
    (softmax,) = by_op["Softmax"]
    assert shapes.dtype(present(softmax.inputs[0])) == shapes.dtype(softmax.outputs[0]) == ir.DataType.FLOAT
    (first,) = [node for node in by_op["QuantizeLinear"] if node.inputs[0] in found.graph.inputs]
    assert present(first.inputs[1]).dtype == ir.DataType.FLOAT  # the input is
    casts = {present(node.inputs[0]).name for node in by_op["Cast"]}
    assert all(present(node.inputs[0]).producer() not in by_op["DequantizeLinear"] for node in by_op["Cast"]), casts
    assert {value.dtype for value in (*found.graph.inputs, *found.graph.outputs)} == {ir.DataType.FLOAT}


def test_a_value_that_both_types_read_is_dequantised_twice_and_quantised_once() -> None:
    found = made(network(), rows(), Remainder("float16"))
    shared = [node for node in found.graph if node.op_type == "QuantizeLinear" and len(node.outputs[0].uses()) == 2]
    (quantize_once,) = shared
    readers = [use.node for use in quantize_once.outputs[0].uses()]
    assert {node.op_type for node in readers} == {"DequantizeLinear"}
    assert {node.outputs[0].dtype for node in readers} == {ir.DataType.FLOAT, ir.DataType.FLOAT16}


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
def test_the_file_computes_what_the_reference_of_onnx_computes(dtype: str) -> None:
    x = rows()
    found = made(network(), x, Remainder("float16"), dtype)
    (result,) = cast("list[np.ndarray]", ReferenceEvaluator(ir.to_proto(found)).run(None, {"x": x}))
    ours = OnnxRuntime(as_written(found)).run({"x": x})["y"]
    assert snr(result, ours) > 40  # a number next to the middle of two rounds to either
    (wide,) = OnnxRuntime(network()).run({"x": x}).values()
    assert 15 < snr(wide, ours) < 60


@pytest.mark.parametrize("dtype", HALVES)
def test_inputs_and_outputs_have_the_type_of_the_remainder_where_asked(dtype: str) -> None:
    found = made(network(), rows(), Remainder(dtype, half_io=True))
    onnx.checker.check_model(ir.to_proto(found), full_check=True)
    assert {value.dtype for value in (*found.graph.inputs, *found.graph.outputs)} == {HALVES[dtype].ir}
    assert [value.name for value in (*found.graph.inputs, *found.graph.outputs)] == ["x", "y"]


def test_an_old_operator_set_gets_casts_around_float32_pairs() -> None:
    x = rows()
    found = made(network(opset=13), x, Remainder("float16"))
    onnx.checker.check_model(ir.to_proto(found), full_check=True)
    assert all(node.outputs[0].dtype != ir.DataType.FLOAT16 for node in found.graph if node.op_type in PAIR)
    assert all(node.outputs[0].dtype == ir.DataType.FLOAT16 for node in found.graph if node.op_type == "MatMul")
    assert snr(OnnxRuntime(network()).run({"x": x})["y"], OnnxRuntime(as_written(found)).run({"x": x})["y"]) > 25


def test_what_overflows_stays_in_float32_with_its_pairs() -> None:
    x, model = rows(), network(scale=300.0)  # x W W reaches a million
    config = Int8(remainder="float16")
    source, rest = plan_remainder(model, config, [{"x": x}], None)
    assert rest.kept
    found = made(source, x, rest)
    values = OnnxRuntime(as_written(found)).run({"x": x})["y"]
    assert np.isfinite(values).all()
    assert snr(OnnxRuntime(model).run({"x": x})["y"], values) > 25
    careless = OnnxRuntime(as_written(made(model, x, Remainder("float16")))).run({"x": x})["y"]
    assert not np.isfinite(careless).all()  # it would have


def test_modules_kept_are_float32_throughout() -> None:
    model, _ = nets.folded(branches)
    rest = Remainder("float16", kept=(KeptModule("mixed", ""),))
    found = made(model, samples(), rest)
    (conv,) = [node for node in found.graph if node.op_type == "Conv" and node.name == "mixed"]
    assert {present(value).dtype for value in (*conv.inputs, *conv.outputs)} == {ir.DataType.FLOAT}
    others = [node for node in found.graph if node.op_type == "Conv" and node.name != "mixed"]
    assert {node.outputs[0].dtype for node in others} == {ir.DataType.FLOAT16}


def test_integer_norms_keep_float32_parameters_and_the_network_its_level() -> None:
    model, spec = nets.folded(branches)
    data = Judged({"input": samples(48)})
    results = {}
    for remainder in ("float32", *HALVES):
        config = Int8(list(samples(32)), min_snr=20, symmetric=True, effort="none", remainder=remainder)
        results[remainder] = reduce_precision(model, config, [nets.SPEC], judged=data).precision
    levels = {name: present(present(each.accuracy).snr_db) for name, each in results.items()}
    assert all(each.passed for each in results.values()), results
    assert levels["float16"] > levels["float32"] - 1.0
    assert levels["bfloat16"] > levels["float32"] - 4.0  # what DequantizeLinear gives has 8 bits there, as it reads
    assert [each.remainder for each in results.values()] == list(results)
    assert any("does not open the file itself" in note for note in results["bfloat16"].notes)
    assert spec


def test_a_half_type_that_is_too_coarse_for_a_module_leaves_it_in_float32() -> None:
    def accepts(half: ir.Model) -> bool:
        seen.append(half)
        return all(node.outputs[0].dtype == ir.DataType.FLOAT for node in half.graph if node.name == "head")

    seen: list[ir.Model] = []
    model, _ = nets.folded(branches)
    _, rest = plan_remainder(model, Int8(remainder="bfloat16"), [{"input": samples(4)}], accepts)
    assert "head" in {module.path for module in rest.kept}
    assert len(seen) > 1


def test_the_default_is_float32_for_a_file_and_float16_for_an_engine() -> None:
    model = network()
    assert with_remainder(Int8(), model, False)[0].remainder == "float32"
    assert with_remainder(Fp8(), model, True)[0].remainder == "float16"
    assert with_remainder(Int8(remainder="bfloat16"), model, True)[0].remainder == "bfloat16"
    branch = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]> agraph (bool c, float[N] x) => (float[N] y) {
        y = If (c) <then_branch = t () => (float[N] a) { a = Identity(x) },
                    else_branch = e () => (float[N] b) { b = Neg(x) }> }"""
    )
    config, notes = with_remainder(Int8(), branch, True)
    assert config.remainder == "float32"
    assert "holds a subgraph" in notes[0]


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"remainder": "float64"}, "--remainder float64"),
        ({"remainder": "float16", "io_dtype": "bfloat16"}, "--io-dtype bfloat16"),
        ({"remainder": "float32", "io_dtype": "float16"}, "--io-dtype float16"),
    ],
)
def test_types_that_do_not_go_together_are_refused(how: dict[str, Any], word: str) -> None:
    for config in (Int8, Fp8):
        with pytest.raises(UsageError, match=word):
            config(**how)


def test_a_file_that_onnx_runtime_computes_otherwise_fails_unless_it_is_for_an_engine() -> None:
    """1.32 rewrites biases in units that vanish in float16; scales of float8 are small enough for that."""
    model, _ = nets.folded(branches)
    data, config = (
        Judged({"input": samples(48)}),
        Fp8(list(samples(32)), min_snr=15, effort="none", remainder="float16"),
    )
    alone = reduce_precision(model, config, [nets.SPEC], judged=data).precision
    engine = reduce_precision(model, config, [nets.SPEC], judged=data, for_engine=True).precision
    assert engine.passed
    told = [note for note in engine.notes if "an engine does not rewrite it so" in note]
    assert (alone.judgement.verdict is Verdict.FAILED) == bool(told)


def test_half_precision_itself_is_as_before() -> None:
    model, _ = nets.folded(branches)
    found = reduce_precision(model, Half(), [nets.SPEC])
    assert found.precision.remainder == "float32"
    assert found.precision.widened == ()
