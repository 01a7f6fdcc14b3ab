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
        '<ir_version: 10, opset_import: ["" : 19]> g (float[N,8] x) => (float[N,8] y) {'
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
)


@pytest.mark.parametrize(
    ("read", "precision"),
    READ,
)
def test_what_an_output_follows_from_counts(read: tuple[str, ...], precision: str) -> None:
    text = " ".join(read)
    made = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[N,8] x) => (float[N,8] z) {{ {text} }}'
    )
    assert precision_of(ir.from_proto(made)) == precision


HALF = np.ones((8, 8), np.float16)
ALLOWED = {
    "float32": model(),
    "half weights that are read as float32": model("v = Cast <to = 1> (h)", "u = MatMul(x, v)", h=HALF),
    "a half scalar": model(h=np.ones((), np.float16), weight=WEIGHT),
    "a few half numbers beside": model("u = Neg(h)", h=HALF[:4]),
    "as many": model("u = Neg(h)", h=HALF),
}
REFUSED = {
    "more half weights than float32 ones": (model("u = Neg(h)", h=np.ones((9, 8), np.float16)), "computes in float16"),
    "half weights that something else reads too": (
        model("v = Cast <to = 1> (h)", "u = Neg(h)", h=np.ones((9, 8), np.float16)),
        "computes in float16, not in float32; give the float32 model, or leave --precision out",
    ),
    "double weights": (model("u = Neg(h)", h=np.ones((9, 8))), "computes in float64, not in float32; give the float32"),
    "half weights in a node": (
        model(f"h = Constant <value = float16[80] {{{', '.join(['1'] * 80)}}}> ()", "u = Neg(h)"),
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


def test_quantisation_in_a_branch_is_seen_too() -> None:
    inner = "then_branch = a () => (float[N,8] p) { " + " ".join(INT8) + " p = Identity(k) }"
    other = "else_branch = b () => (float[N,8] q) { q = Identity(x) }"
    made = ir.from_proto(model("c = Constant <value = bool {1}> ()", f"u = If (c) <{inner}, {other}>"))
    with pytest.raises(FoldError, match="brings along"):
        refuse_quantized(made)
    refuse_quantized(ir.from_proto(model()))


@pytest.mark.parametrize(
    ("zero", "limits"), [("int8 {0}", (-12.8, 12.7)), ("uint8 {28}", (-2.8, 22.7)), ("int8 {-128}", (0.0, 25.5))]
)
def test_an_input_reaches_as_far_as_its_quantiser(zero: str, limits: tuple[float, float]) -> None:
    pair = INT8[0], f"o = Constant <value = {zero}> ()", *INT8[2:]
    assert input_ranges(ir.from_proto(model(*pair)))["x"] == pytest.approx(limits, rel=1e-6)
    behind = "n = Neg(x)", *pair[:2], "h = QuantizeLinear(n, s, o)"
    assert input_ranges(ir.from_proto(model(*behind))) == {}
    assert input_ranges(ir.from_proto(model(INT8[0], "h = QuantizeLinear(x, s)"))) == {}


def test_what_a_pair_stores_is_what_the_file_means_by_a_value() -> None:
    assert stored_as(ir.from_proto(model(*INT8))) == {"x": "k"}
    assert stored_as(ir.from_proto(model(*INT8[:3]))) == stored_as(ir.from_proto(model())) == {}
