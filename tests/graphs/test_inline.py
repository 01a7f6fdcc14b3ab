"""Models without functions: what is left of a body in the place of a call, and that it computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.parser
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.errors import FoldError
from normexport.graphs.inline import inline_functions
from normexport.graphs.shapes import Shapes
from normexport.norms import Scope
from normexport.runtime import Float64Runtime, OnnxRuntime, OpenVinoRuntime
from tests.foreign import needs_iree, needs_onnxslim, needs_openvino
from tests.norms.test_group_norms import model_of

pytestmark = pytest.mark.slow

SHAPES: list[list[int | str]] = [["N", 6, 8, 5], [3, 6, 8, 5], ["N", 6, "H", "W"], ["N", 6, 40], ["N", 6]]
X = np.random.default_rng(0).standard_normal((3, 6, 8, 5)).astype(np.float32)
FLOAT, INT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT8


def live(name: str, scope: Scope, shape: list[int | str], *, integers: bool = False) -> ir.Model:
    """One live norm, its scale and bias in the file."""
    kind = norms.KINDS[name]
    own = {"k": 3 if len(shape) > 2 else 1, "chunks": 4, "num_groups": 3}
    given = {key: own[key] for key in (*kind.parameters, *scope.parameters)}
    op = kind.quantized_op(scope) if integers else kind.op(scope)
    proto = model_of(op, shape, INT8 if integers else FLOAT, **given)
    for name_, value in (("scale", np.linspace(20, 60, 6)), ("bias", np.linspace(-9, 9, 6))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name_))
    del proto.graph.input[1:]
    return ir.from_proto(proto)


def sample(shape: list[int | str], *, integers: bool = False) -> np.ndarray[Any, Any]:
    x = X.reshape(3, 6, 40) if len(shape) == 3 else X.reshape(120, 6) if len(shape) == 2 else X
    return np.clip(np.rint(x * 40), -128, 127).astype(np.int8) if integers else x


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("name", norms.KINDS)
def test_live_norms_compute_the_same_and_say_types_and_ranks(name: str, scope: Scope, shape: list[int | str]) -> None:
    model = live(name, scope, shape)
    inlined = inline_functions(model)
    _check_form(inlined)
    x = sample(shape)
    (wanted,) = Float64Runtime(model).run({"X": x.astype(np.float64)}).values()
    (found,) = OnnxRuntime(inlined).run({"X": x}).values()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=2e-6 * float(np.abs(wanted).max()))
    if shape[0] == "N" and name != "topk":
        assert OnnxRuntime(inlined).run({"X": x[:0]})["Y"].shape == x[:0].shape


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]], ids=str)
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("name", norms.KINDS)
def test_integer_norms_give_the_same_bytes(name: str, scope: Scope, shape: list[int | str]) -> None:
    model = live(name, scope, shape, integers=True)
    inlined = inline_functions(model)
    _check_form(inlined)
    x = sample(shape, integers=True)
    kind = norms.KINDS[name]
    own = {"k": 3, "chunks": 4, "num_groups": 3}
    given = {key: own[key] for key in (*kind.parameters, *scope.parameters)}
    scale, bias = (model.graph.initializers[each].const_value.numpy() for each in ("scale", "bias"))
    wanted = norms.quantized_reference(kind, x, scale, bias, scope=scope, **given)
    np.testing.assert_array_equal(OnnxRuntime(inlined).run({"X": x})["Y"], wanted)


@needs_openvino
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("name", norms.KINDS)
def test_integer_norms_give_openvino_the_same_bytes(name: str, scope: Scope) -> None:
    model, x = live(name, scope, SHAPES[0], integers=True), sample(SHAPES[0], integers=True)
    wanted = OnnxRuntime(model, native=False).run({"X": x})["Y"]
    np.testing.assert_array_equal(OpenVinoRuntime(model).run({"X": x})["Y"], wanted)


@needs_onnxslim
@pytest.mark.parametrize("integers", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("scope", [Scope.INSTANCE, Scope.GROUP])
@pytest.mark.parametrize("name", norms.KINDS)
def test_onnxslim_leaves_them_right(name: str, scope: Scope, integers: bool) -> None:
    import onnxslim

    model, x = live(name, scope, SHAPES[0], integers=integers), sample(SHAPES[0], integers=integers)
    slim = onnxslim.slim(ir.to_proto(inline_functions(model)))
    wanted = OnnxRuntime(model, native=False).run({"X": x})["Y"]
    np.testing.assert_allclose(OnnxRuntime(slim).run({"X": x})["Y"], wanted, rtol=1e-5, atol=0 if integers else 1e-4)


@needs_iree
@pytest.mark.parametrize(
    ("name", "scope", "shape", "integers"),
    [
        ("l1", Scope.BATCH, SHAPES[0], False),
        ("linf", Scope.INSTANCE, SHAPES[0], False),
        ("range", Scope.GROUP, SHAPES[0], False),
        ("l2", Scope.BATCH, SHAPES[1], False),
        ("range", Scope.BATCH, SHAPES[1], False),
        ("l1", Scope.INSTANCE, SHAPES[0], True),
        ("range", Scope.GROUP, SHAPES[0], True),
    ],
)
def test_iree_computes_them(name: str, scope: Scope, shape: list[int | str], integers: bool, tmp_path: Path) -> None:
    from tests.graphs.iree import run_in_iree

    model, x = live(name, scope, shape, integers=integers), sample(shape, integers=integers)
    found = run_in_iree(inline_functions(model), x, tmp_path)
    if integers:
        np.testing.assert_array_equal(found, OnnxRuntime(model, native=False).run({"X": x})["Y"])
    else:
        (wanted,) = Float64Runtime(model).run({"X": x.astype(np.float64)}).values()
        assert np.linalg.norm(found - wanted) <= 1e-6 * np.linalg.norm(wanted)


def test_names_that_the_model_gave_stay_and_so_do_its_own_nodes() -> None:
    proto = ir.to_proto(live("l1", Scope.BATCH, SHAPES[0]))
    first, second = proto.graph.node[0], proto.graph.node.add()
    second.CopyFrom(first)
    first.output[0], second.input[0], second.name = "between", "between", "second"
    relu = onnx.helper.make_node("CastLike", ["X", "scale"], ["own"], name="own_node")
    proto.graph.node.append(relu)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("own", FLOAT, SHAPES[0]))
    model = ir.from_proto(proto)
    inlined = inline_functions(model)
    values = {value.name for node in inlined.graph for value in node.outputs}
    assert {"between", "Y", "own"} <= values
    assert [node.op_type for node in inlined.graph if node.name == "own_node"] == ["CastLike"]
    assert model.functions, "the model that was given has changed"
    captured = OnnxRuntime(inlined).run({"X": X}, ["between"])
    wanted = OnnxRuntime(model, native=False).run({"X": X}, ["between"])
    for key in ("between", "Y"):
        np.testing.assert_allclose(captured[key], wanted[key], rtol=1e-5, atol=1e-4)


def test_a_model_without_functions_is_itself() -> None:
    model = ir.from_proto(onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 20]> g (float x) => (float y) '
                                                  "{ y = Neg(x) }"))  # fmt: skip
    assert inline_functions(model) is model


FOREIGN = """
<ir_version: 10, opset_import: ["" : 20, "other" : 1]>
g (float[N,4] x, bool c) => (float[N,4] y) {
    a = other.Twice <times: float = 3.0> (x)
    y = If (c) <
        then_branch = t () => (float[N,4] p) { p = other.Twice(a) },
        else_branch = e () => (float[N,4] q) { q = Neg(a) }
    >
}
<domain: "other", opset_import: ["" : OPSET, "other" : 1]> Twice <times: float = 2.0> (v) => (w) {
    factor = Constant <value_float: float = @times> ()
    like = CastLike(factor, v)
    w = INNER
}
<domain: "other", opset_import: ["" : 20]> Product (u, v) => (w) { w = Mul(u, v) }
"""


def foreign(inner: str = "other.Product(v, like)", opset: int = 20) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(FOREIGN.replace("INNER", inner).replace("OPSET", str(opset))))


@pytest.mark.parametrize("taken", [True, False])
def test_functions_of_others_are_put_in_place_too_in_branches_and_in_one_another(taken: bool) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    inlined = inline_functions(foreign())
    assert not inlined.functions
    assert set(inlined.graph.opset_imports) == {""}
    onnx.checker.check_model(ir.to_proto(inlined), full_check=True)
    found = OnnxRuntime(inlined).run({"x": x, "c": np.array(taken)})["y"]
    np.testing.assert_array_equal(found, x * (6 if taken else -3))


@pytest.mark.parametrize(
    ("model", "words"),
    [(lambda: foreign("other.Twice(v)"), "Cyclic"), (lambda: foreign(opset=18), "Opset mismatch")],
    ids=["circle", "operator_set"],
)
def test_functions_that_have_no_place_are_refused_in_one_line(model: Any, words: str) -> None:
    with pytest.raises(FoldError, match=rf"can't be put in the place of their calls \({words}") as caught:
        inline_functions(model())
    assert "\n" not in str(caught.value)


def _check_form(inlined: ir.Model) -> None:
    assert not inlined.functions
    onnx.checker.check_model(ir.to_proto(inlined), full_check=True)
    assert {node.domain for node in inlined.graph} == {""}
    assert "CastLike" not in {node.op_type for node in inlined.graph}
    shapes = Shapes(inlined)
    unknown = [node.op_type for node in inlined.graph for value in node.outputs if shapes.of(value) is None]
    assert not unknown
