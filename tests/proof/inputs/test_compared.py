"""What graphs compare their inputs with is among the inputs: a candidate that takes it otherwise does not pass."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from normexport import parity
from normexport.onnx_export import InputSpec
from normexport.proof.inputs.compared import (
    numbers_asked,
)
from normexport.verdicts import Verdict

TABLE = np.random.default_rng(0).standard_normal((2000, 4)).astype(np.float32)


def model(signature: str, *nodes: str, w: np.ndarray | None = None, opset: int = 18) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({signature}) {{ {" ".join(nodes)} }}'
    made = parser.parse_model(text)
    if w is not None:
        made.graph.initializer.append(numpy_helper.from_array(w, "w"))
    return made


def constant(name: str, kind: str, value: str) -> str:
    return f"{name} = Constant <value = {kind} {{{value}}}> ()"


def verdict(reference: onnx.ModelProto, candidate: onnx.ModelProto) -> Verdict:
    return parity(reference, candidate).judgement.verdict


# One graph asks, and the other doesn't.

FLOATS = "float[N,8] x) => (float[N,8] y"
TOKENS = "int64[N,4] i) => (float[N,4,4] y"
SAME = model(FLOATS, "y = Identity(x)")
FIVE = constant("five", "float", "5")
OF_FLOATS = {
    "a number that stands for what is missing": (constant("c", "float", "-999"), "q = Equal(x, c)"),
    "NaN": ("q = IsNaN(x)",),
    "NaN as x != x": ("p = Equal(x, x)", "q = Not(p)"),
    "infinities": ("q = IsInf(x)",),
    "a limit from below": (constant("c", "float", "30"), "q = Greater(x, c)"),
    "a limit from above": (constant("c", "float", "-30"), "q = LessOrEqual(x, c)"),
    "a limit on what was scaled": (
        constant("a", "float", "0.229"),
        constant("b", "float", "0.485"),
        constant("c", "float", "100"),
        "s = Sub(x, b)",
        "t = Div(s, a)",
        "q = Less(c, t)",
    ),
}


@pytest.mark.parametrize("asks", OF_FLOATS.values(), ids=OF_FLOATS)
def test_floats_that_one_of_the_graphs_asks_for(asks: tuple[str, ...]) -> None:
    asking = model(FLOATS, *asks, FIVE, "y = Where(q, five, x)")
    assert verdict(asking, SAME) is Verdict.FAILED
    assert verdict(asking, asking) is Verdict.PASSED
    other_way = parity(SAME, asking)  # what is NaN or infinite already in the reference is not held against it
    left_out = any("left out" in note for note in other_way.notes)
    assert (other_way.judgement.verdict is Verdict.FAILED) is not left_out
    assert left_out is any(word in str(asks) for word in ("IsNaN", "IsInf", "Equal(x, x)"))


@pytest.mark.parametrize(
    "ceiling",
    [
        (constant("l", "float", "-20"), constant("h", "float", "20"), "y = Clip(x, l, h)"),
        (constant("h", "float", "20"), "y = Min(x, h)"),
        (constant("l", "float", "-20"), "y = Max(l, x)"),
    ],
)
def test_a_ceiling_that_no_random_number_reaches(ceiling: tuple[str, ...]) -> None:
    clipped = model(FLOATS, *ceiling)
    assert verdict(SAME, clipped) is verdict(clipped, SAME) is Verdict.FAILED
    assert verdict(clipped, clipped) is Verdict.PASSED


def test_the_attributes_of_an_old_clip_are_limits_too() -> None:
    clipped = model(FLOATS, "y = Clip <min = -20.0, max = 20.0> (x)", opset=6)
    assert verdict(model(FLOATS, "y = Identity(x)", opset=6), clipped) is Verdict.FAILED


@pytest.mark.parametrize("pad", [1, 57, 1998])
def test_a_token_that_stands_for_padding(pad: int) -> None:
    masked = model(
        TOKENS,
        constant("p", "int64", str(pad)),
        constant("zero", "float", "0"),
        constant("axis", "int64[1]", "2"),
        "e = Gather(w, i)",
        "q = Equal(i, p)",
        "m = Unsqueeze(q, axis)",
        "y = Where(m, zero, e)",
        w=TABLE,
    )
    plain = model(TOKENS, "y = Gather(w, i)", w=TABLE)
    assert verdict(masked, plain) is verdict(plain, masked) is Verdict.FAILED
    assert verdict(masked, masked) is Verdict.PASSED


PAD = constant("p", "int64", "57")
ENDS = constant("zero", "float", "0"), constant("axis", "int64[1]", "2")
UNSAID = {
    "difference": ("d = Sub(i, p)", "q = Cast <to = 9> (d)"),
    "distance": ("d = Sub(i, p)", "b = Abs(d)", "c = Sign(b)", "q = Cast <to = 9> (c)"),
    "none of several": (
        constant("ids", "int64[3]", "11, 57, 1777"),
        constant("last", "int64[1]", "2"),
        "j = Unsqueeze(i, last)",
        "d = Equal(j, ids)",
        "f = Cast <to = 6> (d)",
        "m = ReduceMax <keepdims = 0> (f, last)",
        "n = Cast <to = 9> (m)",
        "q = Not(n)",
    ),
}


@pytest.mark.parametrize("asks", UNSAID.values(), ids=UNSAID)
def test_a_token_that_is_asked_for_in_other_words(asks: tuple[str, ...]) -> None:
    nodes = PAD, *asks, *ENDS, "e = Gather(w, i)", "m3 = Unsqueeze(q, axis)", "y = Where(m3, e, zero)"
    masked, plain = model(TOKENS, *nodes, w=TABLE), model(TOKENS, "y = Gather(w, i)", w=TABLE)
    assert verdict(masked, plain) is verdict(plain, masked) is Verdict.FAILED
    assert verdict(masked, masked) is Verdict.PASSED


@pytest.mark.parametrize(
    "cut",
    [
        (constant("c", "float", "20"), "d = Sub(x, c)", "r = Relu(d)", "y = Sub(x, r)"),
        (
            constant("c", "float", "20"),
            constant("h", "float", "0.5"),
            "d = Sub(x, c)",
            "a = Abs(d)",
            "s = Add(x, c)",
            "t = Sub(s, a)",
            "y = Mul(t, h)",
        ),
    ],
    ids=["x - relu(x - 20)", "(x + 20 - |x - 20|) / 2"],
)
def test_a_ceiling_that_is_spelled_otherwise(cut: tuple[str, ...]) -> None:
    assert verdict(SAME, model(FLOATS, *cut)) is Verdict.FAILED


def test_what_a_function_of_the_file_asks_for() -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18, "mine" : 1]> g ({FLOATS}) {{ y = mine.cut(x) }}
        <domain: "mine", opset_import: ["" : 18]> cut (a) => (b) {{ {constant("h", "float", "20")} b = Min(a, h) }}"""
    assert verdict(SAME, parser.parse_model(text)) is Verdict.FAILED


def test_one_row_of_a_table_that_is_another() -> None:
    other = TABLE.copy()
    other[1234, 2] += 1e-2
    plain = model(TOKENS, "y = Gather(w, i)", w=TABLE)
    assert verdict(plain, model(TOKENS, "y = Gather(w, i)", w=other)) is Verdict.FAILED


def test_inputs_that_are_asked_whether_they_are_equal() -> None:
    both = "int64[N,4] i, int64[N,4] j) => (float[N,4,4] y"
    sums = "a = Gather(w, i)", "b = Gather(w, j)", "s = Add(a, b)"
    ends = constant("zero", "float", "0"), constant("axis", "int64[1]", "2"), "m = Unsqueeze(q, axis)"
    asking = model(both, *sums, "q = Equal(i, j)", *ends, "y = Where(m, zero, s)", w=TABLE)
    assert verdict(asking, model(both, *sums, "y = Identity(s)", w=TABLE)) is Verdict.FAILED
    assert verdict(asking, asking) is Verdict.PASSED


@pytest.mark.parametrize("most", [1, 2, 8])
def test_a_loop_that_ends_too_early(most: int) -> None:
    signature = "float[N,8] x, int64 n) => (float[N,8] y"
    body = "<body = b (int64 i, bool k, float[N,8] v) => (bool l, float[N,8] u) { l = Identity(k) u = Add(v, v) }>"
    yes = constant("yes", "bool", "1")
    plain = model(signature, yes, f"y = Loop(n, yes, x) {body}")
    short = model(signature, yes, constant("c", "int64", str(most)), "m = Min(n, c)", f"y = Loop(m, yes, x) {body}")
    assert verdict(plain, short) is Verdict.FAILED
    assert verdict(plain, plain) is Verdict.PASSED


def test_what_the_reference_does_not_bear_is_left_out_and_named() -> None:
    """A logarithm beside the question: NaN in, NaN out."""
    asking = model(FLOATS, "q = IsNaN(x)", FIVE, "z = Where(q, five, x)", "y = Mul(z, x)")
    report = parity(asking, asking)
    assert report.judgement.verdict is Verdict.PASSED
    assert any("x with nan" in note and "left out" in note for note in report.notes)


def test_floats_are_not_asked_to_be_equal_after_arithmetic() -> None:
    """0.1 * x = 0.3 holds in float32 for an x for which it does not in float64."""
    scaled = model(
        FLOATS,
        constant("a", "float", "0.1"),
        constant("c", "float", "0.3"),
        "t = Mul(x, a)",
        "q = Equal(t, c)",
        FIVE,
        "y = Where(q, five, x)",
    )
    assert numbers_asked([ir.from_proto(scaled)], InputSpec("x", (8,))) == ()
    assert verdict(scaled, scaled) is Verdict.PASSED


# Many inputs.


def columns(count: int, *nodes: str) -> onnx.ModelProto:
    """As many inputs of one number a sample; the sum of them."""
    names = [f"x{number}" for number in range(count)]
    given = ", ".join(f"float[N,1] {name}" for name in names)
    return model(f"{given}) => (float[N,1] y", FIVE, constant("c", "float", "-999"), *nodes)


def test_a_column_of_many_that_knows_a_number_for_what_is_missing() -> None:
    replaced = [
        node
        for number in range(40)
        for node in (f"q{number} = Equal(x{number}, c)", f"v{number} = Where(q{number}, five, x{number})")
    ]
    total = f"y = Sum({', '.join(f'v{number}' for number in range(40))})"
    asking = columns(40, *replaced, total)
    other = columns(40, *replaced[:-1], "v39 = Identity(x39)", total)
    report = parity(asking, other)
    assert report.judgement.verdict is Verdict.FAILED
    assert len(report.batches) == 4  # all 40 in one
    assert "numbers asked for in 40 inputs" in report.batches[-1].name
    assert verdict(asking, asking) is Verdict.PASSED


def test_where_the_reference_does_not_bear_all_at_once_each_is_tried_alone() -> None:
    """NaN is replaced in one column, and goes through in the other."""
    nodes = "q = IsNaN(x0)", "v = Where(q, five, x0)", "r = IsNaN(x1)", "w = Where(r, x1, x1)", "y = Sum(v, w)"
    asking, other = columns(2, *nodes), columns(2, "y = Sum(x0, x1)")
    report = parity(asking, other)
    assert report.judgement.verdict is Verdict.FAILED
    assert any("x0 with nan" in batch.name for batch in report.batches)
    assert any("left out" in note and "x1 with nan" in note for note in report.notes)


def test_a_file_that_compares_thousands_of_inputs_is_tried_at_few_and_says_so() -> None:
    count = 60
    nodes = [
        f"e{first}_{second} = Equal(x{first}, x{second})"
        for first in range(count)
        for second in range(first + 1, count)
    ]
    asking = columns(count, *nodes, f"y = Sum({', '.join(f'x{number}' for number in range(count))})")
    report = parity(asking, asking)
    assert len(report.batches) <= 3 + 16
    assert any("pairs of inputs that a file compares were not made equal" in note for note in report.notes)
