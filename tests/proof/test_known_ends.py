"""Known ends: no number lies beyond them, whatever the input; and they are told where functions have some."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from normexport.proof.known_ends import known_ends

STEPS = (
    *(f"{{y}} = {kind}({{x}})" for kind in ("Sigmoid", "Tanh", "Relu", "Abs", "Neg", "Erf", "Sqrt", "Exp", "Softplus")),
    *(f"{{y}} = {kind}({{x}})" for kind in ("Floor", "Round", "HardSigmoid", "Softsign", "Sin", "Identity", "Sign")),
    *(f"{{y}} = {kind}({{x}}, c)" for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    *(f"{{y}} = {kind}(c, {{x}})" for kind in ("Sub", "Mul", "Div", "Add")),
    "{y} = Clip({x}, c, d)",
    "{y} = Mul({x}, {x})",
    "{y} = Softmax({x})",
    "{y} = Concat <axis = 1> ({x}, {x})",
)


def ends_of(body: str) -> tuple[tuple[float, float], onnxruntime.InferenceSession]:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[N,M] x) => (float[N,K] y) {{ {body} }}'
    made = parser.parse_model(text)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return known_ends(ir.from_proto(made).graph.outputs[0]), session


@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=4),
    c=st.sampled_from([-2.0, -0.5, 0.25, 3.0]),
    seed=st.integers(0, 99),
)
def test_no_number_lies_beyond(steps: list[str], c: float, seed: int) -> None:
    names = ["x", *(f"v{number}" for number in range(len(steps) - 1)), "y"]
    body = f"c = Constant <value = float {{{c}}}> () d = Constant <value = float {{4.0}}> () "
    body += " ".join(step.format(x=x, y=y) for step, x, y in zip(steps, names, names[1:], strict=False))
    (low, high), session = ends_of(body)
    numbers = np.random.default_rng(seed).normal(size=(64, 8)).astype(np.float32) * 4
    (found,) = session.run(None, {"x": numbers})
    finite = found[np.isfinite(found)]
    assert np.all(finite >= low - 1e-5 * max(1, abs(low) if math.isfinite(low) else 1))
    assert np.all(finite <= high + 1e-5 * max(1, abs(high) if math.isfinite(high) else 1))


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        ("y = Sigmoid(x)", (0, 1)),
        ("y = Relu(x)", (0, math.inf)),
        ("t = Tanh(x) n = Neg(t) y = Relu(n)", (0, 1)),
        ("t = Tanh(x) c = Constant <value = float {3.0}> () m = Mul(t, c) y = Add(m, c)", (0, 6)),
        ("y = Mul(x, x)", (0, math.inf)),
        ("y = Identity(x)", (-math.inf, math.inf)),
        ("s = Sigmoid(x) c = Constant <value = float {0.5}> () d = Sub(s, c) y = Floor(d)", (-1, 1)),
        ("s = Sigmoid(x) y = Div(x, s)", (-math.inf, math.inf)),
        ("r = Relu(x) c = Constant <value = float {6.0}> () y = Min(r, c)", (0, 6)),
    ],
)
def test_ends_of_functions(body: str, ends: tuple[float, float]) -> None:
    assert ends_of(body)[0] == ends


def test_what_is_read_twice_is_looked_at_once() -> None:
    """Each step reads the one before twice: 2^60 ways lead back to the input."""
    steps = " ".join(f"v{index + 1} = Max(v{index}, v{index})" for index in range(60))
    ends, _ = ends_of(f"v0 = Sigmoid(x) {steps} y = Add(v60, v60)")
    assert ends == (0, 2)
