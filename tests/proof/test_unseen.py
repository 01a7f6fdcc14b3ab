"""What acts on numbers that no input gives: steps, bends, gates, limits of channels, and all of them in bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport import parity
from normexport.proof.exercised import Sort, Unexercised, doubts_of_one_side, unexercised
from normexport.proof.inputs.batches import Batch
from normexport.verdicts import Verdict
from tests.proof.test_exercised import FLOATS, HIDDEN, POWER, X, model, scalar, told

#: What acts above 6, behind numbers below 1; each may be added to a file and shows in no result.
SIX = " ".join(
    f"{name} = Constant <value = float {{{number}}}> ()" for name, number in (("six", 6), ("sixty", 60), ("zero", 0))
)
BODY = "body = b (int64 i, bool on, float[N,8] a) => (bool on2, float[N,8] o)"
UNSEEN = {
    "floor": "d = Div(h, six) f = Floor(d) y = Add(h, f)",
    "round and a layer": "d = Div(h, six) f = Round(d) k = Mul(f, sixty) y = Sub(h, k)",
    "cast": "d = Div(h, six) k = Cast <to = 6> (d) f = Cast <to = 1> (k) y = Add(h, f)",
    "remainder": "y = Mod <fmod = 1> (h, six)",
    "soft limit": "d = Sub(h, six) m = Mul(d, sixty) q = Softplus(m) r = Div(q, sixty) y = Sub(h, r)",
    "gate": "d = Sub(six, h) m = Mul(d, sixty) q = Sigmoid(m) y = Mul(h, q)",
    "power": "d = Div(h, six) q = Pow(d, sixty) y = Add(h, q)",
    "divisor": "d = Sub(h, six) m = Mul(d, sixty) q = Exp(m) l = Cos(zero) k = Add(l, q) y = Div(h, k)",
    "straight": "c = Mul(six, sixty) e = Mul(c, sixty) d = Div(h, e) q = Tanh(d) y = Mul(q, e)",
    "computed limit": "l = Add(six, six) y = Min(h, l)",
    "limit that varies": "m = Mul(x, zero) l = Add(m, six) y = Min(h, l)",
    "limits of channels": "y = Min(h, each)",
    "stacked": "u = Unsqueeze(h, two) m = Mul(u, zero) l = Add(m, six) c = Concat <axis = 2> (u, l) "
    "y = ReduceMin <keepdims = 0> (c, two)",
    "place": "u = Unsqueeze(h, two) m = Mul(u, zero) l = Add(m, six) c = Concat <axis = 2> (l, u) "
    "k = ArgMax <axis = 2, keepdims = 0> (c) f = Cast <to = 1> (k) y = Add(h, f)",
    "loop": f"y = Loop(once, always, h) <{BODY} {{ on2 = Identity(on) o = Min(a, six) }}>",
    "scan": "y = Scan <num_scan_inputs = 1, body = b (float[8] a) => (float[8] o) { o = Min(a, six) }> (h)",
    "branch": "y = If(always) <then_branch = s (  ) => (float[N,8] o) { o = Min(h, six) }, "
    "else_branch = t () => (float[N,8] q) { q = Identity(h) }>",
    "branch in a loop": f"y = Loop(once, always, h) <{BODY} {{ on2 = Identity(on) m = ReduceMax <keepdims = 0> (a) "
    "g = Greater(m, six) o = If(g) <then_branch = s () => (float[N,8] v) { v = Neg(a) }, "
    "else_branch = t () => (float[N,8] w) { w = Identity(a) }> }>",
    "loop that never runs": f"m = ReduceMax <keepdims = 0> (h) g = Greater(m, six) y = Loop(once, g, h) <{BODY} "
    "{ on2 = Identity(on) o = Neg(a) }>",
}


CONSTANTS: dict[str, Any] = {
    "each": np.arange(5, 13, dtype=np.float32),
    "two": np.array([2]),
    "once": np.array(1),
    "always": np.array(True),
}
#: That it never runs is told where branches are.
MEASURED = tuple(sorted(set(UNSEEN) - {"loop that never runs"}))


def unseen(what: str) -> onnx.ModelProto:
    return model(FLOATS, *HIDDEN, SIX, UNSEEN[what], p=POWER, **CONSTANTS)


@pytest.mark.parametrize("what", UNSEEN)
def test_what_acts_on_numbers_that_no_input_gives_is_a_doubt(what: str) -> None:
    report = parity(model(FLOATS, *HIDDEN, "y = Identity(h)", p=POWER), unseen(what))
    assert report.judgement.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("what", MEASURED)
def test_where_both_have_it_that_is_told_and_no_doubt(what: str) -> None:
    report = parity(unseen(what), unseen(what))
    assert report.judgement.verdict is Verdict.PASSED
    assert any("no input reaches" in note for note in report.notes)


ROUNDS, STRAIGHT, NOTHING = (
    "it rounds to one number",
    "it does not bend (its numbers are",
    "one of its addends is nothing",
)
NEVER, LIMIT = "one of its values is never the one", "the limit 6 (its numbers are 0.0"
WORDS = {
    "floor": (f"Floor: {ROUNDS}", f"Add: {NOTHING}"),
    "round and a layer": (f"Round: {ROUNDS}", f"Sub: {NOTHING}"),
    "cast": (f"Cast: {ROUNDS}", f"Add: {NOTHING}"),
    "remainder": (f"Mod: {ROUNDS}",),
    "soft limit": (f"Softplus: {STRAIGHT} -360 to -", f"Sub: {NOTHING}"),
    "gate": (f"Sigmoid: {STRAIGHT} ", "Mul: one of its factors is 1 throughout"),
    "power": (f"Add: {NOTHING}",),
    "divisor": (f"Exp: {STRAIGHT} ", f"Add: {NOTHING}", "Div: one of its factors is 1 throughout"),
    "straight": (f"Tanh: {STRAIGHT} ",),
    "computed limit": (f"Min: {NEVER}",),
    "limit that varies": (f"Min: {NEVER}",),
    "limits of channels": ("Min: limits of its channels, as 5",),
    "stacked": (f"ReduceMin: {NEVER}",),
    "place": (f"ArgMax: {ROUNDS}", f"Add: {NOTHING}"),
    "loop": (f"Min: {LIMIT}",),
    "scan": (f"Min: {LIMIT}",),
    "branch": (f"Min: {LIMIT}",),
    "branch in a loop": ("If: its condition is the same throughout",),
}


@pytest.mark.parametrize("what", MEASURED)
def test_one_run_shows_what_no_input_reaches(what: str) -> None:
    said = told(unseen(what), X)
    assert [words for words in WORDS[what] if words not in said] == []


@pytest.mark.parametrize("what", sorted(set(UNSEEN) - {"straight", "limits of channels"}))
def test_what_acts_and_is_seen_is_nothing_to_tell(what: str) -> None:
    """The same functions, of numbers from -20 to 20, some of them near 0."""
    widened = "w = Constant <value = float {20}> () h = Mul(x, w)"
    made = model(FLOATS, widened, SIX.replace("60", "3"), UNSEEN[what], **CONSTANTS)
    assert told(made, X, -X, 0.2 * X) == ""


@pytest.mark.parametrize("share", [3e-6, 3e-5, 3e-4])
def test_what_is_nearly_nothing_is_counted_and_not_told(share: float) -> None:
    """In another file it may be nothing: that one more is then nothing there is no doubt."""
    nodes = "a = Softplus(x)", "b = Mul(a, s)", "y = Add(x, b)"
    made = ir.from_proto(model(FLOATS, *nodes, s=scalar(share)))
    (found,) = unexercised(made, [Batch("", 2, {"x": X})]) or (None,)
    assert (found is None) is (share > 1e-4)
    assert found is None or found.nearly is (share > 1e-5)
    nothing = Unexercised(Sort("addend"), "")
    assert bool(doubts_of_one_side(made, made, [], [nothing])) is True
    assert found is None or doubts_of_one_side(made, made, [found], [nothing]) == ()
    assert found is None or bool(doubts_of_one_side(made, made, [], [found])) is not found.nearly
    assert found is None or bool(doubts_of_one_side(made, made, [nothing], [found, nothing])) is not found.nearly


def test_a_node_that_nothing_can_measure_hides_no_other() -> None:
    """ONNX Runtime finds the largest uint32, and subtracts none."""
    many = [f"r{number} = Relu(x)" for number in range(9)]
    names = ", ".join(f"r{number}" for number in range(9))
    small = (
        "a = Cast <to = 12> (x)",
        "b = Cast <to = 12> (m)",
        "e = Max(a, b)",
        "f = Cast <to = 1> (e)",
        "y = Add(m, f)",
    )
    made = model(FLOATS, *many, f"s = Sum({names})", "m = Min(s, l)", *small, l=scalar(20))
    assert "Min: the limit 20 " in told(made, 2 * np.abs(X))
    assert "Max" not in told(made, 2 * np.abs(X))


def test_a_branch_that_is_never_run_has_nothing_to_tell() -> None:
    nodes = "y = If(t) <then_branch = s () => (float[N,8] o) { o = Neg(x) }, else_branch = "
    made = model(FLOATS, nodes + "u () => (float[N,8] q) { q = Min(x, l) }>", t=np.array(True), l=scalar(6))
    assert told(made, X) == ""


SOFTPLUS = (
    (20, "x", "x", False),
    (15, "x", "x", False),
    (9, "x", "x", True),
    (20, "n", "x", True),
    (20, "x", "n", True),
)


@pytest.mark.parametrize(("limit", "large", "soft", "is_told"), SOFTPLUS)
def test_softplus_may_be_straight_where_it_is(limit: float, large: str, soft: str, is_told: bool) -> None:
    """As an exporter writes it: beyond 15 it is x, and which of the two is taken makes no difference."""
    nodes = "n = Neg(x)", f"s = Softplus({soft})", "q = Greater(x, l)", f"y = Where(q, {large}, s)"
    assert ("condition" in told(model(FLOATS, *nodes, l=scalar(limit)), X)) is is_told


def test_what_follows_from_a_type_is_no_number() -> None:
    """A factor that is cast to the type of an input, as in the body of an operator that a runtime lacks."""
    made = model(FLOATS, "k = CastLike(l, x)", "a = Mul(x, k)", "b = Exp(k)", "y = Add(a, b)", l=scalar(0.5))
    assert told(made, X) == ""
