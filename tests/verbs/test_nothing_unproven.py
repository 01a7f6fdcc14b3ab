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
