"""What tells which of several int8 models is better: the worst channel, but for shares, which are on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.precision.decisions import shares_in
from normexport.precision.int8.judging import level_on
from normexport.precision.snr import CHANNEL_SLACK

CLASSES = 12
X = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
#: The last class is at exp(-30) throughout; what it has in a worse model is too little to matter, and far above that.
WEIGHT = np.random.default_rng(1).standard_normal((4, CLASSES)).astype(np.float32)
RARE = np.where(np.arange(CLASSES) == CLASSES - 1, -30.0, 0.0).astype(np.float32)
SEEN = np.where(np.arange(CLASSES) == CLASSES - 1, -7.0, 0.0).astype(np.float32)


def network(bias: np.ndarray, operators: Sequence[str], noise: float = 0.0, opset: int = 17) -> ir.Model:
    """x W + b, then these operators; the weight off by so much."""
    weight = WEIGHT + noise * np.random.default_rng(2).standard_normal(WEIGHT.shape).astype(np.float32)
    nodes, name = [helper.make_node("Gemm", ["x", "w", "b"], ["v0"], name="gemm")], "v0"
    for number, operator in enumerate(operators, 1):
        more = ["shape"] if operator == "Reshape" else []
        nodes.append(helper.make_node(operator, [name, *more], [f"v{number}"]))
        name = f"v{number}"
    held = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    if "Reshape" in operators:
        held.append(numpy_helper.from_array(np.array([-1, CLASSES]), "shape"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", CLASSES])],
        held,
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def softmax(bias: np.ndarray, noise: float = 0.0) -> np.ndarray:
    weight = WEIGHT.astype(np.float64) + noise * np.random.default_rng(2).standard_normal(WEIGHT.shape)
    logits = X.astype(np.float64) @ weight + bias
    shares: np.ndarray = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return shares


def snr(exact: np.ndarray, found: np.ndarray) -> float:
    signal, error = np.square(exact - exact.mean(axis=0)).sum(), np.square(found - exact).sum()
    return float(10 * np.log10(signal / error))


@pytest.mark.parametrize("behind", [(), ("Identity",), ("Reshape",)])
def test_a_class_that_never_comes_does_not_say_which_model_is_better(behind: tuple[str, ...]) -> None:
    """Its own SNR is below -100 dB in the better model of the two, and 0 in the worse one."""
    level = level_on(network(RARE, ("Softmax", *behind)), {"x": X})
    better, worse = network(SEEN, ("Softmax", *behind)), network(RARE, ("Softmax", *behind), noise=0.3)
    exact = softmax(RARE)
    rare = CLASSES - 1
    assert snr(exact[:, rare], softmax(SEEN)[:, rare]) + CHANNEL_SLACK < -70
    assert level(better) == pytest.approx(snr(exact, softmax(SEEN)), abs=0.01)
    assert level(worse) == pytest.approx(snr(exact, softmax(RARE, 0.3)), abs=0.05)
    assert level(better) > level(worse) + 10


def test_a_channel_of_numbers_of_any_size_still_does() -> None:
    """The last of twelve is a thousand times smaller, and lost: the sum does not see it."""
    model = network(np.zeros(CLASSES, np.float32), ())
    weight = model.graph.initializers["w"].const_value
    assert weight is not None
    small = weight.numpy() * np.where(np.arange(CLASSES) == CLASSES - 1, 1e-3, 1.0)
    lost = small * (np.arange(CLASSES) < CLASSES - 1)
    exact, candidate = model.clone(), model.clone()
    exact.graph.initializers["w"].const_value = ir.tensor(small.astype(np.float32))
    candidate.graph.initializers["w"].const_value = ir.tensor(lost.astype(np.float32))
    assert level_on(exact, {"x": X})(candidate) == pytest.approx(CHANNEL_SLACK, abs=0.5)


@pytest.mark.parametrize(
    ("operators", "shares"),
    [
        (("Softmax",), True),
        (("Sigmoid",), True),
        (("HardSigmoid", "Identity"), True),
        (("Softmax", "Neg"), False),
        (("Relu",), False),
        ((), False),
    ],
)
def test_shares_are_what_a_softmax_or_sigmoid_made_and_nothing_computed_on(
    operators: tuple[str, ...], shares: bool
) -> None:
    model = network(RARE, operators)
    assert (str(model.graph.outputs[0].name) in shares_in(model)) is shares
    assert "x" not in shares_in(model)
