"""Which numbers graphs ask their inputs for, and the batches that have them, by themselves."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normexport.onnx_export import InputSpec
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.compared import (
    asked_batches,
    batch_of_equals,
    batches_with,
    inputs_compared,
    numbers_asked,
)
from normexport.proof.inputs.following import uses_of
from normexport.proof.inputs.integer_bounds import Bounds, integer_bounds
from tests.proof.inputs.test_compared import FLOATS, PAD, TABLE, TOKENS, constant, model


def read(made: onnx.ModelProto) -> ir.Model:
    return ir.from_proto(made)


@given(c=st.integers(-300, 300), a=st.sampled_from([-3, -1, 1, 2, 7]), b=st.integers(-9, 9))
def test_of_whole_numbers_the_one_asked_for_and_its_neighbours(c: int, a: int, b: int) -> None:
    signature = "int64[N,4] i) => (bool[N,4] y"
    constants = (constant(name, "int64", str(value)) for name, value in (("a", a), ("b", b), ("c", c)))
    asking = model(signature, *constants, "p = Mul(i, a)", "t = Add(p, b)", "y = Equal(t, c)")
    found = numbers_asked([read(asking)], InputSpec("i", (4,), "int64"))
    exact = Fraction(c - b, a)
    assert {math.floor(exact), math.floor(exact) - 1, math.floor(exact) + 1} == set(found)


@pytest.mark.parametrize("kind", ["Less", "GreaterOrEqual", "Equal"])
def test_a_limit_of_whole_numbers_is_asked_for_itself(kind: str) -> None:
    asking = model("int64[N,4] i) => (bool[N,4] y", constant("c", "int64", "7"), f"y = {kind}(i, c)")
    assert numbers_asked([read(asking)], InputSpec("i", (4,), "int64")) == (6, 7, 8)


UNSAID_LIMITS = {
    "a ReLU asks for zero": ((constant("c", "float", "20"), "d = Sub(x, c)", "y = Relu(d)"), (19.5, 20.5)),
    "as does a sign": ((constant("c", "float", "20"), "d = Sub(c, x)", "y = Sign(d)"), (19.5, 20.5)),
    "and a truth value": (("q = Cast <to = 9> (x)", "y = Cast <to = 1> (q)"), (-0.5, 0.5)),
    "an alpha is a limit": (("y = ThresholdedRelu <alpha = 30.0> (x)",), (15.0, 45.0)),
    "a lambda too": (("y = Shrink <lambd = 8.0> (x)",), (4.0, 12.0)),
}


@pytest.mark.parametrize(("asks", "numbers"), UNSAID_LIMITS.values(), ids=UNSAID_LIMITS)
def test_limits_that_are_not_said_are_asked_for(asks: tuple[str, ...], numbers: tuple[float, ...]) -> None:
    assert numbers_asked([read(model(FLOATS, *asks))], InputSpec("x", (8,))) == numbers


def test_a_token_at_which_a_difference_is_zero_is_asked_for() -> None:
    asking = read(model("int64[N,4] i) => (bool[N,4] y", PAD, "d = Sub(i, p)", "y = Cast <to = 9> (d)"))
    spec = InputSpec("i", (4,), "int64")
    assert numbers_asked([asking], spec) == (56, 57, 58)
    assert numbers_asked([asking], spec, Bounds(57, None, "")) == (57, 58)
    assert numbers_asked([asking], spec, Bounds(None, 57, "")) == (56, 57)


def test_rows_in_which_two_tables_differ_are_asked_for_those_most_that_do() -> None:
    other = TABLE.copy()
    places = np.arange(40) * 7 + 3
    other[places, 1] += np.linspace(0.1, 4, 40, dtype=np.float32)
    both = [read(model(TOKENS, "y = Gather(w, i)", w=table)) for table in (TABLE, other)]
    assert numbers_asked(both, InputSpec("i", (4,), "int64")) == tuple(places[-16:])
    assert numbers_asked(both[:1], InputSpec("i", (4,), "int64")) == ()


def test_what_is_no_number_is_fed_alone() -> None:
    asking = model(FLOATS, constant("c", "float", "30"), "p = Min(x, c)", "q = IsNaN(p)", "y = Cast <to = 1> (q)")
    spec = InputSpec("x", (8,))
    pattern = Batch("random", 1, {"x": np.zeros((1, 8), np.float32)})
    batches, words = asked_batches(pattern, [read(asking), read(model(FLOATS, "y = IsNaN(x)"))], [spec], {}, 0)
    assert not words
    held = [set(batch.feeds["x"].ravel()[np.isfinite(batch.feeds["x"].ravel())]) for batch in batches]
    nans = [bool(np.isnan(batch.feeds["x"]).any()) for batch in batches]
    assert sorted(zip(nans, held, strict=True)) == [(False, {0.0, 15.0, 45.0}), (True, {0.0})]


@given(c=st.floats(-1e5, 1e5, width=32), a=st.sampled_from([-4.0, -1.0, 0.25, 3.0]))
def test_of_floats_numbers_on_both_sides(c: float, a: float) -> None:
    asking = model(
        FLOATS, constant("a", "float", str(a)), constant("c", "float", repr(c)), "t = Mul(x, a)", "y = Min(t, c)"
    )
    found = [a * number - c for number in numbers_asked([read(asking)], InputSpec("x", (8,)))]
    assert len(found) == 2
    assert min(found) <= -0.4 * max(1, abs(c))
    assert max(found) >= 0.4 * max(1, abs(c))


def test_numbers_lie_within_type_bounds_and_what_was_declared() -> None:
    ids = model("uint8[N,4] i) => (bool[N,4] y", constant("c", "uint8", "255"), "y = Equal(i, c)")
    assert numbers_asked([read(ids)], InputSpec("i", (4,), "uint8")) == (254, 255)
    assert numbers_asked([read(ids)], InputSpec("i", (4,), "uint8"), Bounds(0, 254, "")) == (254,)
    assert numbers_asked([read(ids)], InputSpec("i", (4,), "uint8", bounds=(0, 9))) == ()


def test_many_numbers_are_thinned_out_and_the_ends_stay() -> None:
    wide = model(
        "int64[N,500] i) => (bool[N,500] y",
        "y = Less(i, w)",
        w=np.arange(500, dtype=np.int64),
    )
    found = numbers_asked([read(wide)], InputSpec("i", (500,), "int64"))
    assert len(found) <= 64
    assert (min(found), max(found)) == (-1, 500)


def test_limits_of_types_are_no_numbers_to_try() -> None:
    clipped = model(FLOATS, constant("c", "float", "3e38"), "y = Min(x, c)")
    assert numbers_asked([read(clipped)], InputSpec("x", (8,))) == ()


@given(count=st.integers(1, 40), size=st.integers(1, 30), seed=st.integers(0, 99))
def test_each_number_stands_in_a_batch_and_others_stay(count: int, size: int, seed: int) -> None:
    pattern = Batch("random", 1, {"i": np.full((1, size), -1), "j": np.zeros(3)})
    made = list(batches_with(pattern, InputSpec("i", (size,), "int64"), range(count), seed))
    assert len(made) <= 8
    seen = {int(number) for batch in made for number in batch.feeds["i"].flat} - {-1}
    assert seen == set(range(min(count, 8 * max(1, min(size, count)))))
    if size >= 4 * count:
        assert all((batch.feeds["i"] == -1).sum() == size - size // 4 for batch in made)
    assert all(batch.feeds["j"] is pattern.feeds["j"] for batch in made)


def test_equal_inputs_are_equal_in_places_alone() -> None:
    pattern = Batch("random", 1, {"a": np.arange(100), "b": -np.arange(100) - 1})
    made = batch_of_equals(pattern, "a", "b", 0)
    equal = made.feeds["a"] == made.feeds["b"]
    assert 20 < equal.sum() < 80
    assert (made.feeds["b"][~equal] == pattern.feeds["b"][~equal]).all()


def test_inputs_of_other_shapes_or_types_are_not_made_equal() -> None:
    asking = read(model("int64[N,4] i, int64[N,1] j) => (bool[N,4] y", "y = Equal(i, j)"))
    assert inputs_compared([asking], [InputSpec("i", (4,), "int64"), InputSpec("j", (1,), "int64")]) == []
    assert inputs_compared([asking], [InputSpec("i", (4,), "int64"), InputSpec("j", (4,), "int64")]) == [("i", "j")]


def test_a_size_is_told_from_other_bounds() -> None:
    loop = model("int64 n) => (int64[M] y", "a = Constant <value = int64 {0}> ()", "y = Range(a, n, n)")
    assert integer_bounds(read(loop))["n"].is_size


def test_uses_end_where_they_are_told_to() -> None:
    graph = read(model(FLOATS, "a = Identity(x)", "b = Neg(a)", "y = Identity(b)")).graph
    every = [node.op_type for node, _, _ in uses_of(graph.inputs[0])]
    assert every == ["Identity", "Neg", "Identity"]
    ended = [node.op_type for node, _, _ in uses_of(graph.inputs[0], lambda node, _: node.op_type == "Neg")]
    assert ended == ["Identity", "Neg"]


@pytest.mark.parametrize(("times", "asked"), [(1, [-5e37, 5e37, 3e38]), (9, [])])
def test_numbers_that_no_float_holds_are_not_asked_for(times: int, asked: list[float]) -> None:
    """A limit of 6 behind a factor of 1e-38 is at 6e38, and behind nine of them at what is no float64 either."""
    scaled = [f"s{each} = Mul({'x' if each == 0 else f's{each - 1}'}, tiny)" for each in range(times)]
    limits = constant("tiny", "float", "1e-38"), constant("low", "float", "0"), constant("high", "float", "6")
    graph = ir.from_proto(model(FLOATS, *limits, *scaled, f"y = Clip(s{times - 1}, low, high)"))
    assert numbers_asked([graph], InputSpec("x", (8,))) == pytest.approx(asked, rel=1e-6)


@pytest.mark.parametrize(("dtype", "held"), [("float32", True), ("bfloat16", True), ("float16", False)])
def test_numbers_beyond_a_half_type_are_not_asked_of_an_input_of_it(dtype: str, held: bool) -> None:
    kind = "float" if dtype == "float32" else dtype
    nodes = "w = Cast <to = 1> (x)", constant("c", "float", "100000"), "q = Greater(w, c)", "y = Cast <to = 1> (q)"
    graph = ir.from_proto(model(f"{kind}[N,8] x) => (float[N,8] y", *nodes))
    asked = numbers_asked([graph], InputSpec("x", (8,), dtype))
    assert (any(number > 1e5 for number in asked), 5e4 in asked) == (held, True)
