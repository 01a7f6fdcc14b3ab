"""Which precision a file is judged by: that of what its outputs follow from."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from normexport import parity
from normexport.errors import FoldError
from normexport.precision.file_precision import (
    input_ranges,
    precision_of,
    refuse_quantized,
    require_float32,
    stored_as,
)
from normexport.verdicts import Verdict

WEIGHT = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
BFLOAT16 = ("h = Cast <to = 16> (x)",)
FLOAT16 = ("h = Cast <to = 10> (x)",)
BOTH = "a = Cast <to = 10> (x)", "b = Cast <to = 16> (a)", "f = Cast <to = 1> (b)"
INT8 = (
    "s = Constant <value = float {0.1}> ()",
    "o = Constant <value = int8 {0}> ()",
    "h = QuantizeLinear(x, s, o)",
    "k = DequantizeLinear(h, s, o)",
)
FLOAT8 = (
    "t = Constant <value = float {0.5}> ()",
    "e = QuantizeLinear <output_dtype = 17> (x, t)",
    "g = DequantizeLinear(e, t)",
)


def model(*nodes: str, weight: np.ndarray = WEIGHT, **stored: np.ndarray) -> onnx.ModelProto:
    made = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 19, "other" : 1]> g (float[N,8] x) => (float[N,8] y) {'
        f" {' '.join(nodes)} y = MatMul(x, w) }}"
    )
    for name, array in {"w": weight, **stored}.items():
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


@pytest.mark.parametrize("beside", [BFLOAT16, FLOAT16, INT8], ids=["bfloat16", "float16", "int8"])
def test_what_no_output_follows_from_does_not_loosen_the_verdict(beside: tuple[str, ...]) -> None:
    off = WEIGHT.copy()
    off[:, 3] *= 1.003
    assert precision_of(ir.from_proto(model(*beside))) == "float32"
    assert parity(model(), model(*beside, weight=off)).judgement.verdict is Verdict.FAILED
    assert parity(model(), model(*beside)).judgement.verdict is Verdict.PASSED


def test_a_weight_in_half_that_nothing_reads_does_not_either() -> None:
    assert precision_of(ir.from_proto(model(unread=np.zeros(9, np.float16)))) == "float32"


READ = (
    (("b = Cast <to = 16> (x)", "f = Cast <to = 1> (b)", "z = Add(f, x)"), "bfloat16"),
    (("b = Cast <to = 10> (x)", "f = Cast <to = 1> (b)", "z = Add(f, x)"), "float16"),
    ((*BOTH, "z = Add(f, x)"), "bfloat16"),
    ((*INT8, "z = Add(k, x)"), "int8"),
    ((*INT8, *FLOAT8, "u = Add(k, g)", "z = Add(u, x)"), "float8_e4m3fn"),
    (("z = Neg(x)",), "float32"),
    (("h = Constant <value = float16[2] {1, 1}> ()", "b = Cast <to = 1> (h)", "z = Add(b, x)"), "float32"),
    (("z = normexport.QL1BatchNorm(x, x, x)",), "int8"),
    (("z = other.Quick(x)",), "float32"),
)


@pytest.mark.parametrize(
    ("read", "precision"),
    READ,
)
def test_what_an_output_follows_from_counts(read: tuple[str, ...], precision: str) -> None:
    sets = '"" : 21, "normexport" : 1, "other" : 1'
    made = parser.parse_model(
        f"<ir_version: 10, opset_import: [{sets}]> g (float[N,8] x) => (float[N,8] z) {{ {' '.join(read)} }}"
    )
    assert precision_of(ir.from_proto(made)) == precision


def test_weights_in_half_that_an_output_follows_from_count() -> None:
    made = model("v = Cast <to = 1> (h)", "u = MatMul(x, v)", h=np.ones((8, 8), np.float16))
    made.graph.output[0].name = "u"
    assert precision_of(ir.from_proto(made)) == "float16"


def test_a_float8_zero_point_says_what_its_pair_holds() -> None:
    made = model("e = QuantizeLinear(x, s, o)", "y = DequantizeLinear(e, s, o)")
    del made.graph.node[-1], made.graph.initializer[:]
    made.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "s"))
    made.graph.initializer.append(onnx.helper.make_tensor("o", onnx.TensorProto.FLOAT8E4M3FN, [], [0.0]))
    assert precision_of(ir.from_proto(made)) == "float8_e4m3fn"
    assert input_ranges(ir.from_proto(made)) == {"x": (-224.0, 224.0)}


def test_a_model_that_is_asked_stays_as_it_is() -> None:
    asked = ir.from_proto(model(*INT8))
    assert precision_of(asked) == "float32"
    assert ir.to_proto(asked) == ir.to_proto(ir.from_proto(model(*INT8)))


def first(made: onnx.ModelProto) -> onnx.ModelProto:
    """With its weights in the other order."""
    weights = list(made.graph.initializer)[::-1]
    del made.graph.initializer[:]
    made.graph.initializer.extend(weights)
    return made


def without_weight(made: onnx.ModelProto) -> onnx.ModelProto:
    """Without the product, and the weight that it alone reads."""
    del made.graph.node[-1], made.graph.initializer[0]
    return made


def handed_out(made: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """With this value among the outputs."""
    made.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, (9, 8)))
    return made


CONSTANT = f"Constant <value = float16[80] {{{', '.join(['1'] * 80)}}}> ()"
HALF = np.ones((8, 8), np.float16)
MORE = np.ones((9, 8), np.float16)
ALLOWED = {
    "float32": model(),
    "half weights that are read as float32": model("v = Cast <to = 1> (h)", "u = MatMul(x, v)", h=MORE.T),
    "a half scalar": model(h=np.ones((), np.float16), weight=WEIGHT),
    "a few half numbers beside": model("u = Neg(h)", h=HALF[:4]),
    "as many": model("u = Neg(h)", h=HALF),
    "as many that come first": first(model("u = Neg(h)", h=HALF)),
    "no weights but a half scalar": without_weight(model("y = Neg(h)", h=np.ones((), np.float16))),
}
REFUSED = {
    "more half weights than float32 ones": (model("u = Neg(h)", h=MORE), "computes in float16"),
    "half weights that something else reads too": (
        model("v = Cast <to = 1> (h)", "u = Neg(h)", h=MORE),
        "computes in float16, not in float32; give the float32 model, or leave --precision out",
    ),
    "double weights": (model("u = Neg(h)", h=np.ones((9, 8))), "computes in float64, not in float32; give the float32"),
    "half weights in a node": (
        model(f"h = {CONSTANT}", "u = Neg(h)"),
        "computes in float16",
    ),
    "half weights that are an output too": (handed_out(model("v = Cast <to = 1> (h)", h=MORE), "h"), "in float16"),
    "half weights that something unknown reads": (model("v = other.Read <to = 1> (h)", h=MORE), "in float16"),
    "half weights that nothing reads": (model(h=MORE), "in float16"),
    "half weights in a branch": (
        model(
            "c = Constant <value = bool {1}> ()",
            f"u = If (c) <then_branch = a () => (float16[80] p) {{ p = {CONSTANT} }}, "
            f"else_branch = b () => (float16[80] q) {{ q = {CONSTANT} }}>",
        ),
        "computes in float16",
    ),
    "quantised": (model(*INT8), "is quantisation that the model brings along"),
}


@pytest.mark.parametrize("made", ALLOWED.values(), ids=ALLOWED)
def test_a_float32_file_is_one_by_most_of_its_weights(made: onnx.ModelProto) -> None:
    require_float32(ir.from_proto(made))


@pytest.mark.parametrize(("made", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_float32_file_is_refused_by_what_it_computes_in(made: onnx.ModelProto, words: str) -> None:
    with pytest.raises(FoldError) as refused:
        require_float32(ir.from_proto(made))
    assert words in str(refused.value)
    assert ("leave --precision out" in str(refused.value)) == ("float16" in words)


def test_quantisation_in_a_branch_is_seen_too() -> None:
    inner = "then_branch = a () => (float[N,8] p) { " + " ".join(INT8) + " p = Identity(k) }"
    other = "else_branch = b () => (float[N,8] q) { q = Identity(x) }"
    made = ir.from_proto(model("c = Constant <value = bool {1}> ()", f"u = If (c) <{inner}, {other}>"))
    with pytest.raises(FoldError, match="brings along"):
        refuse_quantized(made)
    refuse_quantized(ir.from_proto(model()))
    made.graph.outputs[0] = next(node for node in made.graph if node.op_type == "If").outputs[0]
    assert precision_of(made) == "int8"


@pytest.mark.parametrize(
    ("zero", "limits"), [("int8 {0}", (-12.8, 12.7)), ("uint8 {28}", (-2.8, 22.7)), ("int8 {-128}", (0.0, 25.5))]
)
def test_an_input_reaches_as_far_as_its_quantiser(zero: str, limits: tuple[float, float]) -> None:
    pair = INT8[0], f"o = Constant <value = {zero}> ()", *INT8[2:]
    assert input_ranges(ir.from_proto(model(*pair)))["x"] == pytest.approx(limits, rel=1e-6)
    behind = "n = Neg(x)", *pair[:2], "h = QuantizeLinear(n, s, o)"
    assert input_ranges(ir.from_proto(model(*behind))) == {}
    assert input_ranges(ir.from_proto(model(INT8[0], "h = QuantizeLinear(x, s)"))) == {}


def test_an_input_of_a_float8_quantiser_reaches_as_far_on_both_sides() -> None:
    assert input_ranges(ir.from_proto(model(*FLOAT8))) == {"x": (-224.0, 224.0)}  # 448 times the scale
    by_zero = FLOAT8[0], "o = Constant <value = int8 {0}> ()", FLOAT8[1].replace("t)", "t, o)")
    assert input_ranges(ir.from_proto(model(*by_zero))) == {"x": (-224.0, 224.0)}


def test_of_a_quantiser_with_a_scale_for_each_channel_nothing_is_said() -> None:
    scales = f"s = Constant <value = float[8] {{{', '.join(['0.1'] * 8)}}}> ()"
    assert input_ranges(ir.from_proto(model(scales, *INT8[1:]))) == {}


def test_what_a_pair_stores_is_what_the_file_means_by_a_value() -> None:
    assert stored_as(ir.from_proto(model(*INT8))) == {"x": "k"}
    assert stored_as(ir.from_proto(model(*INT8[:3]))) == stored_as(ir.from_proto(model())) == {}
    beside = model(*INT8[:3], "k = Identity(h)")
    assert stored_as(ir.from_proto(beside)) == {}
    cast = model(*INT8[:2], "h = Cast <to = 3> (x)", INT8[3])
    assert stored_as(ir.from_proto(cast)) == {}
