"""What parity once passed and nothing had proven: outputs without a counterpart, inputs that are exactly zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.parser
import onnx_ir as ir
import pytest
import torch

import normexport
from normexport import UsageError, Verdict

X = "float[N,4]"


def model(outputs: str, body: str, declared: str = "") -> onnx.ModelProto:
    """An ONNX model of x (N, 4)."""
    text = f'<ir_version: 10, opset_import: ["": 20]> g ({X} x) => ({outputs}) {declared} {{ {body} }}'
    made = onnx.parser.parse_model(text)
    onnx.checker.check_model(made, full_check=True)
    return made


ONE = model(f"{X} y", "y = Relu(x)")
TWO = model(f"{X} y, {X} z", "y = Relu(x)\n z = Neg(x)")


def test_an_output_that_only_the_candidate_has_is_not_passed(tmp_path: Path) -> None:
    found = normexport.parity(ONE, TWO).judgement
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reasons == ("output z: only the candidate has it, so nothing says what is right",)
    assert normexport.parity(TWO, ONE).judgement.verdict is Verdict.FAILED
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32))
    judged = normexport.evaluate(TWO, tmp_path / "x.npz", ONE)
    assert judged.judgement is not None
    assert judged.judgement.verdict is Verdict.INCONCLUSIVE
    assert [each.judgement.verdict for each in judged.outputs] == [Verdict.PASSED, Verdict.INCONCLUSIVE]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("y = Sign(x)", "a = Abs(x)\n y = Div(x, a)"),
        ("a = Equal(x, o)\n b = Cast<to = 1>(a)\n y = Add(x, b)", "y = Identity(x)"),
    ],
    ids=["zero over zero", "a mask of zeros"],
)
def test_numbers_that_are_exactly_zero_are_tried(right: str, wrong: str) -> None:
    declared = "<float o = {0.0}>"
    exact, other = model(f"{X} y", right, declared), model(f"{X} y", wrong, declared)
    assert normexport.parity(exact, other).judgement.verdict is Verdict.FAILED
    assert normexport.parity(exact, exact).judgement.verdict is Verdict.PASSED


SEQUENCE = "seq(float[N,4])"


def test_a_sequence_is_refused_as_an_output_and_passed_over_inside() -> None:
    outside = model(f"{X} y, {SEQUENCE} s", "y = Relu(x)\n s = SequenceConstruct(x, y)")
    for judge in (normexport.parity, normexport.bisect):
        with pytest.raises(UsageError, match="output s: is a sequence or sparse in the file"):
            judge(outside, outside)
    inside = model("float[M,4] y", "s = SequenceConstruct(x, x)\n y = ConcatFromSequence<axis = 0>(s)")
    assert normexport.parity(inside, inside, layers=True).judgement.verdict is Verdict.PASSED


def test_an_output_that_numpy_has_no_type_for_is_refused_with_a_way_out() -> None:
    half = model("bfloat16[N,4] y", "y = Cast<to = 16>(x)")
    with pytest.raises(UsageError, match="cast that output to float32"):
        normexport.parity(half, half)


@pytest.mark.parametrize("hand", [lambda proto: proto, ir.serde.deserialize_model], ids=["proto", "ir"])
def test_every_verb_takes_models_in_memory_and_leaves_them(hand: Callable[[onnx.ModelProto], Any]) -> None:
    given = hand(TWO)
    before = TWO.SerializeToString()
    assert normexport.parity(given, given).judgement.verdict is Verdict.PASSED
    assert normexport.bisect(given, given).judgement.verdict is Verdict.PASSED
    assert normexport.inspect(given).source == "onnx"
    quick = normexport.BenchConfig(duration=0.05, openings=1, warm_up=1.0)
    assert len(normexport.bench([given], config=quick).timings) == 1
    after = given if isinstance(given, onnx.ModelProto) else ir.serde.serialize_model(given)
    assert [node.op_type for node in after.graph.node] == ["Relu", "Neg"]
    assert TWO.SerializeToString() == before


def typed(inputs: str, output: str, body: str, declared: str = "") -> onnx.ModelProto:
    """An ONNX model of inputs of its own."""
    text = f'<ir_version: 10, opset_import: ["": 20]> g ({inputs}) => ({output} y) {declared} {{ {body} }}'
    made = onnx.parser.parse_model(text)
    onnx.checker.check_model(made, full_check=True)
    return made


def required(condition: str, inputs: str, declared: str = "") -> onnx.ModelProto:
    """x where the condition v holds, else -x."""
    return typed(f"{X} x, {inputs}", X, f"{condition}\n z = Neg(x)\n y = Where(v, x, z)", declared)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (required("v = And(f, f)", "bool f"), required("n = Not(f)\n v = Or(f, n)", "bool f")),
        (required("v = And(f, f)", "bool f"), required("n = Not(f)\n v = And(f, n)", "bool f")),
        (required("v = Or(f, h)", "bool f, bool h"), required("v = Xor(f, h)", "bool f, bool h")),
        (required("v = Or(f, h)", "bool f, bool h"), required("v = And(f, f)", "bool f, bool h")),
        (
            required("v = Cast<to = 9>(k)", "int64 k"),
            required("a = Sub(k, k)\n b = Cast<to = 9>(a)\n v = Not(b)", "int64 k"),
        ),
        (
            required("v = Cast<to = 9>(k)", "int64[1] k"),
            required("v = Greater(k, o)", "int64[1] k", "<int64 o = {0}>"),
        ),
    ],
    ids=["always true", "always false", "or for xor", "one of two", "a number as a flag", "negative numbers"],
)
def test_flags_are_tried_at_each_of_their_values(right: onnx.ModelProto, wrong: onnx.ModelProto) -> None:
    assert normexport.parity(right, wrong).judgement.verdict is Verdict.FAILED
    assert normexport.parity(right, right).judgement.verdict is Verdict.PASSED


@pytest.mark.parametrize("place", [0, 15])
@pytest.mark.parametrize("row", [0, 49])
def test_a_token_that_is_taken_for_a_constant_fails(place: int, row: int) -> None:
    table = "float[50,2] w = {" + ", ".join(str(number / 7) for number in range(100)) + "}"
    tokens, output = "int64[1,16] t", "float[1,16,2]"
    right = typed(tokens, output, "y = Gather(w, t)", f"<{table}>")
    body = "r = ScatterElements<axis = 1>(t, place, row)\n y = Gather(w, r)"
    wrong = typed(tokens, output, body, f"<{table}, int64[1,1] place = {{{place}}}, int64[1,1] row = {{{row}}}>")
    assert normexport.parity(right, wrong).judgement.verdict is Verdict.FAILED
    assert normexport.parity(right, right).judgement.verdict is Verdict.PASSED


def test_a_setting_at_which_the_reference_breaks_is_left_out_and_told() -> None:
    """k is a length, and of 0 no part of it is left to divide by."""
    body = "s = Concat<axis = 0>(k, e)\n a = Expand(x, s)\n b = Div(e, k)\n c = Cast<to = 1>(b)\n y = Mul(a, c)"
    parts = typed("float[1,8] x, int64[1] k", "float[K,8]", body, "<int64[1] e = {8}>")
    found = normexport.parity(parts, parts, ["k=1:int64[0..6]"])
    assert found.judgement.verdict is Verdict.PASSED, found.judgement.reasons
    assert any("left out, as the reference breaks there" in note for note in found.notes), found.notes


def test_a_small_channel_of_open_sizes_is_judged_by_itself() -> None:
    """Batches of several sizes have their channels in common all the same."""
    shape = "float[N,2,S]"
    right, wrong = (
        typed(f"{shape} x", shape, "y = Mul(x, w)", f"<float[1,2,1] w = {{1000000, {small}}}>")
        for small in (1e-4, 2e-4)
    )
    assert normexport.parity(right, wrong, ["x=2xS"]).judgement.verdict is Verdict.FAILED
    assert normexport.parity(right, right, ["x=2xS"]).judgement.verdict is Verdict.PASSED


def test_an_output_that_is_the_same_at_each_size_proves_nothing() -> None:
    body = "s = Shape(x)\n e = Expand(one, s)\n y = CumSum(e, axis)"
    places = typed("float[N,S] x", "int64[N,S]", body, "<int64[1] one = {1}, int64 axis = {1}>")
    found = normexport.parity(places, places, ["x=S"]).judgement
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the same for every input" in found.reasons[0]


def test_inputs_in_another_order_are_the_same_inputs() -> None:
    right = typed(f"{X} a, {X} b", X, "y = Sub(a, b)")
    assert normexport.parity(right, typed(f"{X} b, {X} a", X, "y = Sub(a, b)")).judgement.verdict is Verdict.PASSED
    assert normexport.parity(right, typed(f"{X} b, {X} a", X, "y = Sub(b, a)")).judgement.verdict is Verdict.FAILED


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_a_function_that_is_called_as_an_operator_has_two_readings(domain: str) -> None:
    hidden = model(f"{X} y", "y = Relu(x)")
    leaky = onnx.helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.5)
    hidden.functions.append(onnx.helper.make_function(domain, "Relu", ["a"], ["b"], [leaky], hidden.opset_import))
    with pytest.raises(normexport.FoldError, match="'Relu' is called as an operator of ONNX"):
        normexport.parity(hidden, hidden)
    hidden.functions[0].name = "Relu6OfMine"
    assert normexport.parity(hidden, ONE).judgement.verdict is Verdict.PASSED


def test_a_sigmoid_errs_by_a_rounding_of_a_half_and_no_more() -> None:
    """The seventh channel is 1e-4 beside one of 1/2; ONNX Runtime's sigmoid is 2e-8 off there, PyTorch's 1e-12."""

    class Scores(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(0.1 * x - torch.linspace(0, 9, 7))

    shape = "float[N,7]"
    bias = ", ".join(str(float(number)) for number in torch.linspace(0, 9, 7))
    declared = f"<float t = {{0.1}}, float[7] b = {{{bias}}}, float[7] e = {{0, 0, 0, 0, 0, 0, %s}}>"
    body = "a = Mul(x, t)\n c = Sub(a, b)\n s = Sigmoid(c)\n y = Add(s, e)"
    program = torch.export.export(Scores(), (torch.zeros(2, 7),), dynamic_shapes=({0: torch.export.Dim("n")},))
    right = typed(f"{shape} x", shape, body, declared % "0")
    wrong = typed(f"{shape} x", shape, body, declared % "0.000005")
    assert normexport.parity(program, right).judgement.verdict is Verdict.PASSED
    assert normexport.parity(program, wrong).judgement.verdict is Verdict.FAILED
