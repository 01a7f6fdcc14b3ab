"""What no input reaches is told: a limit, a condition, a box that goes for another."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from normexport import parity
from normexport.proof.exercised import Sort, Unexercised, doubts_of_one_side, note_on, unexercised
from normexport.proof.inputs.batches import Batch
from normexport.verdicts import Verdict

FLOATS = "float[N,8] x) => (float[N,8] y"
X = np.linspace(-1, 1, 16).reshape(2, 8)


def model(signature: str, *nodes: str, opset: int = 18, **constants: Any) -> onnx.ModelProto:
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g ({signature}) {{ {" ".join(nodes)} }}')
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return made


def told(made: onnx.ModelProto, *feeds: np.ndarray, name: str = "x") -> str:
    batches = [Batch("", len(each), {name: each}) for each in feeds]
    return " ".join(note_on(unexercised(ir.from_proto(made), batches)))


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@pytest.mark.parametrize("factor", [1, 5, 7])
def test_a_ceiling_is_told_unless_a_number_lies_beyond(factor: float) -> None:
    clipped = model(FLOATS, "y = Clip(x, l, h)", l=scalar(0), h=scalar(6))
    assert ("the limit 6 " in told(clipped, factor * X)) is (factor < 6)
    assert "the limit 0 " not in told(clipped, factor * X)


def test_numbers_of_all_batches_count() -> None:
    clipped = model(FLOATS, "y = Clip(x, l, h)", l=scalar(-6), h=scalar(6))
    assert "-6" in told(clipped, 7 * np.abs(X))
    assert told(clipped, 7 * np.abs(X), -7 * np.abs(X)) == ""


@pytest.mark.parametrize("kind", ["Relu", "LeakyRelu", "Elu", "Celu", "Selu"])
def test_a_rectifier_that_passes_everything_or_nothing(kind: str) -> None:
    rectified = model(FLOATS, f"y = {kind}(x)")
    assert told(rectified, X) == ""
    assert "(its numbers are 0.0667 to 1)" in told(rectified, np.abs(X))
    assert "(its numbers are -1 to -0.0667)" in told(rectified, -np.abs(X))


FUNCTIONS = (
    ("y = HardSwish(x)", (-3, 3)),
    ("y = HardSigmoid(x)", (-2.5, 2.5)),
    ("y = HardSigmoid <alpha = 0.5, beta = 0.25> (x)", (-0.5, 1.5)),
    ("y = ThresholdedRelu <alpha = 2.0> (x)", (2,)),
)


@pytest.mark.parametrize(("node", "limits"), FUNCTIONS)
def test_each_function_has_its_own_limits(node: str, limits: tuple[float, ...]) -> None:
    made = model(FLOATS, node)
    for limit in limits:
        words = f"the limit {limit:g} "
        beyond, within = (1.01 * abs(limit) * X, 0.99 * abs(limit) * X)
        assert words not in told(made, beyond)
        assert words in told(made, within)


def test_the_attributes_of_an_old_clip() -> None:
    clipped = model(FLOATS, "y = Clip <min = -2.0, max = 6.0> (x)", opset=6)
    assert told(clipped, 3 * X).count("the limit") == 1
    assert told(clipped, X).count("the limit") == 2


@pytest.mark.parametrize("limit", [1e-12, 3e38])
def test_limits_that_are_there_never_to_be_reached_are_not_told(limit: float) -> None:
    assert told(model(FLOATS, "a = Mul(x, x)", "b = Max(a, l)", "y = Sqrt(b)", l=scalar(limit)), 1 + np.abs(X)) == ""


def test_a_condition_that_is_the_same_throughout() -> None:
    chosen = model(FLOATS, "s = Sin(x)", "q = Greater(s, c)", "y = Where(q, c, x)", c=scalar(0.5))
    assert "condition" in told(chosen, 0.1 * X)
    assert told(chosen, X) == ""


def test_what_sizes_decide_is_not_told() -> None:
    nodes = "s = Shape(x)", "k = Cast <to = 1> (s)", "q = Greater(k, c)", "a = ReduceMin(k)", "r = Less(a, c)"
    assert told(model(FLOATS, *nodes, "y = Where(r, c, x)", c=scalar(0.5)), X) == ""


def boxes(made: onnx.ModelProto, apart: float) -> str:
    """Four boxes of size 1, `apart` from each other."""
    corners = np.arange(4)[:, None] * apart + np.array([0.0, 0.0, 1.0, 1.0])
    feeds = {"b": corners[None], "s": np.linspace(0.1, 1, 4)[None, None]}
    return " ".join(note_on(unexercised(ir.from_proto(made), [Batch("", 1, feeds)])))


def test_boxes_of_which_none_goes_for_another() -> None:
    signature = "float[1,4,4] b, float[1,1,4] s) => (int64[M,3] y"
    made = model(signature, "y = NonMaxSuppression(b, s, k, t)", k=np.array(9), t=scalar(0.3))
    assert "no box goes" in boxes(made, 2.0)
    assert boxes(made, 0.1) == ""


HIDDEN = "s = Sin(x)", "h = Pow(s, p)"  # between 0 and 1, as nothing but its numbers says
POWER = np.array([2], np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs", "doubt"),
    [
        ("y = Clip(h, l, c)", "y = Relu(h)", "first has what no input reaches: Clip: the limit 6 "),
        ("y = Relu(h)", "y = Clip(h, l, c)", "second has what no input reaches: Clip: the limit 6 "),
        ("y = Identity(h)", "q = Greater(h, c) y = Where(q, l, h)", "second has what no input reaches: Where: "),
        ("y = Identity(h)", "q = Greater(h, c) k = Cast <to = 1> (q) y = Add(h, k)", "Cast: its condition is the"),
        ("y = Identity(h)", "a = Abs(h) y = Identity(a)", "second has what no input reaches: Abs: the limit 0 "),
        ("y = Identity(h)", "d = Sub(h, c) r = Relu(d) y = Sub(h, r)", "Relu: the limit 0 (its numbers are -6 to "),
        ("y = Identity(h)", "m = Min(h, c) y = Identity(m)", "second has what no input reaches: Min: the limit 6 "),
        ("y = Clip(h, l, c)", "m = Min(h, c) y = Max(m, l)", None),  # another spelling
        (
            "n = Neg(h) k = Add(n, t) a = Clip(k, l, c) b = Mul(n, a) y = Div(b, c)",
            "n = Neg(h) y = HardSwish(n)",
            None,  # another one
        ),
        ("r = Relu(h) y = Relu(r)", "y = Relu(h)", None),  # what an optimiser takes out
        ("q = Greater(h, c) y = Where(q, l, h)", "y = Identity(h)", None),  # and so a guard
    ],
)
def test_what_one_side_alone_has_and_no_input_reaches_is_a_doubt(ours: str, theirs: str, doubt: str | None) -> None:
    first, second = (
        model(FLOATS, *HIDDEN, nodes, p=POWER, l=scalar(0), c=scalar(6), t=scalar(3)) for nodes in (ours, theirs)
    )
    report = parity(first, second)
    assert report.judgement.verdict is (Verdict.PASSED if doubt is None else Verdict.INCONCLUSIVE)
    assert doubt is None or doubt in report.judgement.reasons[0]


@pytest.mark.parametrize(
    ("steps", "limit"),
    [
        ("a = Add(x, t)", 3),
        ("a = Sub(x, t)", 9),
        ("a = Sub(t, x)", -3),
        ("a = Mul(x, t)", 2),
        ("a = Div(x, t)", 18),
        ("b = Mul(t, x) a = Add(t, b)", 1),
    ],
)
def test_a_limit_is_known_by_what_was_there_before_it_was_scaled(steps: str, limit: float) -> None:
    made = model(FLOATS, f"{steps} y = Min(a, c)", t=scalar(3), c=scalar(6))
    (found,) = unexercised(ir.from_proto(made), [Batch("", 2, {"x": 1e-3 * X})])
    assert found.sort.before == pytest.approx(limit)


def test_a_limit_that_a_half_rounds_is_the_same_limit() -> None:
    first, second = (
        model(FLOATS, *HIDDEN, "y = Min(h, c)", p=POWER, c=scalar(c)) for c in (6.1, float(np.float16(6.1)))
    )
    assert parity(first, second).judgement.verdict is Verdict.PASSED


def test_one_that_a_function_hides_is_found() -> None:
    second = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        g (float[N,8] x) => (float[N,8] y) { s = Sin(x) p = Constant <value = float {2}> () h = Pow(s, p)
            y = my.cut(h) }
        <domain: "my", opset_import: ["" : 18]>
        cut (X) => (Y) { h = Constant <value = float {5}> () Y = Min(X, h) }"""
    )
    report = parity(model(FLOATS, *HIDDEN, "y = Identity(h)", p=POWER), second)
    assert report.judgement.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("bounded", ["Sin", "Tanh", "Sigmoid", "Erf"])
def test_a_limit_that_no_number_can_reach_is_nothing_to_tell(bounded: str) -> None:
    clipped = model(FLOATS, f"s = {bounded}(x)", "y = Clip(s, l, h)", l=scalar(-2), h=scalar(6))
    report = parity(clipped, model(FLOATS, f"y = {bounded}(x)"))
    assert report.judgement.verdict is Verdict.PASSED
    assert not any("no input reaches" in note for note in report.notes)


@pytest.mark.parametrize("limit", [0.0, 6.0])
def test_a_limit_that_is_the_least_or_largest_number_was_not_crossed(limit: float) -> None:
    """Another one beyond it would have given the same."""
    clipped = model(FLOATS, "y = Clip(x, l, h)", l=scalar(0), h=scalar(6))
    assert f"the limit {limit:g} " in told(clipped, np.linspace(0, 6, 16).reshape(2, 8))
    assert told(clipped, np.linspace(-0.01, 6.01, 16).reshape(2, 8)) == ""
    assert f"the limit {limit:g} " in told(clipped, np.full((2, 8), limit))


def test_limits_of_channels_are_asked_for_one_by_one() -> None:
    each = np.linspace(0.1, 30, 8, dtype=np.float32)
    made = model(FLOATS, "y = Min(x, h)", h=each)
    assert "limits of its channels, as 0.1" in told(made, 0.01 * X)
    assert "the limit" not in told(made, 0.01 * X)
    assert "limits of its channels, as 30" in told(made, np.minimum(np.stack([each + 1, each - 1]), 29.5))
    assert told(made, np.stack([each + 1, each - 1])) == ""
    assert "the limit 20 " in told(model(FLOATS, "y = Min(x, h)", h=each[:1] * 0 + 20), X)
    assert "the limit 20 " in told(model(FLOATS, "y = Min(x, h)", h=each * 0 + 20), X)
    assert told(model(FLOATS, "y = Clip(x)"), X) == told(model(FLOATS, "y = Neg(x)"), X) == ""


def test_of_what_a_function_gives_a_limit_beyond_its_ends_is_none() -> None:
    for limit, asked in ((6.0, False), (0.75, True)):
        made = model(FLOATS, "s = Sigmoid(x)", "y = Min(s, h)", h=scalar(limit))
        assert ("the limit" in told(made, X - 1)) is asked


def test_a_limit_may_stand_on_either_side() -> None:
    assert "the limit 20 " in told(model(FLOATS, "y = Max(h, x)", h=scalar(20)), X)
    assert "the limit 20 " in told(model(FLOATS, "y = Clip(x, , h)", h=scalar(20)), X)
    assert told(model(FLOATS, "n = Neg(x)", "y = Max(n, x)"), X) == ""


def test_of_operators_that_are_not_onnx_nothing_is_told() -> None:
    """An operator of the file's own may have any name."""
    text = f"""<ir_version: 8, opset_import: ["" : 18, "mine" : 1]> g ({FLOATS}) {{ y = mine.Relu(x) }}
        <domain: "mine", opset_import: ["" : 18]> Relu (a) => (b) {{ b = Neg(a) }}"""
    assert told(parser.parse_model(text), np.abs(X)) == ""


def test_a_batch_of_nan_hides_no_other() -> None:
    clipped = model(FLOATS, "y = Clip(x, l, h)", l=scalar(-6), h=scalar(6))
    assert told(clipped, np.full((2, 8), np.nan), 7 * X) == ""


def test_long_lists_are_cut() -> None:
    nodes = [f"v{number} = Clip(x, l, h)" for number in range(9)]
    names = ", ".join(f"v{number}" for number in range(9))
    made = model(FLOATS, *nodes, f"y = Sum({names})", l=scalar(-6), h=scalar(6))
    assert told(made, X).endswith("(its numbers are -1 to 1)")  # of nine that say the same, two
    assert told(made, X).count(";") == 1


def test_names_with_braces_and_graphs_that_do_not_run() -> None:
    clipped = model(FLOATS, "y = Clip(x, l, h)", l=scalar(-6), h=scalar(6))
    clipped.graph.node[0].name = "{0} {limit}"
    assert "{0} {limit}: the limit" in told(clipped, X)
    assert told(clipped, np.zeros((2, 9))) == ""


def test_thousands_of_nodes_that_ask_the_same_are_counted_once() -> None:
    """20,000 rectifiers, none of them exercised: each against each would be minutes."""
    names = [f"v{number}" for number in range(20_000)]
    wide = ir.from_proto(model(FLOATS, *(f"{name} = Relu(x)" for name in names), "y = Identity(x)"))
    found = [Unexercised(Sort("limit"), name) for name in names]
    assert doubts_of_one_side(wide, wide, found, found) == ()
