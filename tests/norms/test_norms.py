"""Each kind's formula against values worked out by hand, and its ONNX body against the formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from normexport import norms
from normexport.errors import UsageError
from normexport.norms import Scope
from normexport.norms.constants import chunk_layout, extreme_constant

pytestmark = pytest.mark.slow

X = np.array([[[1.0, 2.0, 3.0, 10.0]]])  # one channel: mean 4, d = -3 -2 -1 6
ONE, ZERO = np.ones(1), np.zeros(1)
C4 = (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(8 * math.log(4))
C2 = (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(8 * math.log(2))


@pytest.mark.parametrize(
    ("kind", "parameters", "statistic"),
    [
        ("l1", {}, math.sqrt(math.pi / 2) * 3.0),
        ("l2", {}, math.sqrt(12.5)),
        ("linf", {}, C4 * 6.0),
        ("topk", {"k": 2}, C4 * 4.5),
        ("range", {"chunks": 2}, 0.35 * C2 * ((-2 + 6) / 2 - (-3 - 1) / 2)),
        ("range", {"chunks": 1}, 0.35 * C4 * 9.0),
        ("linf", {"correction": 2.0}, 12.0),
    ],
)
def test_statistic_is_the_value_worked_out_by_hand(kind: str, parameters: dict[str, Any], statistic: float) -> None:
    y = norms.reference(norms.kind(kind), X, ONE, ZERO, epsilon=0.5, **parameters)
    np.testing.assert_allclose(y[0, 0], np.array([-3, -2, -1, 6]) / (statistic + 0.5), rtol=1e-14)


def test_extreme_constant_matches_the_published_ratio_on_gaussians() -> None:
    x = np.random.default_rng(0).standard_normal((1, 64, 20_000))
    for kind, low, high in (
        ("linf", 1.41, 1.47),
        ("topk", 1.20, 1.35),
        ("range", 0.92, 0.99),
        ("l1", 0.99, 1.01),
    ):
        y = norms.reference(norms.kind(kind), x, np.ones(64), np.zeros(64), epsilon=0.0)
        assert low < np.mean(x.std(2) / y.std(2)) < high, kind


@pytest.mark.parametrize(
    ("n", "chunks", "layout"), [(32, 16, (2, 16)), (17, 16, (2, 9)), (1, 16, (2, 1)), (100, 3, (34, 3))]
)
def test_chunk_layout(n: int, chunks: int, layout: tuple[int, ...]) -> None:
    assert chunk_layout(n, chunks) == layout


@pytest.mark.parametrize("kind", norms.KINDS)
@pytest.mark.parametrize("instance", [False, True])
def test_single_element_and_constant_channel_give_bias_and_nan_stays_in_its_channel(kind: str, instance: bool) -> None:
    scale, bias = np.array([2.0, 3.0]), np.array([0.5, -1.0])

    def run(x: np.ndarray) -> np.ndarray:
        return norms.reference(norms.kind(kind), x, scale, bias, scope=Scope.of(instance), k=1)

    np.testing.assert_array_equal(run(np.full((1, 2, 1), 7.0))[0, :, 0], bias)
    np.testing.assert_array_equal(run(np.full((3, 2, 4), 7.0)), np.broadcast_to(bias[:, None], (3, 2, 4)))
    x = np.random.default_rng(0).standard_normal((1, 2, 8))
    x[0, 0, 3] = np.nan
    y = run(x)
    assert np.isnan(y[0, 0]).all()
    assert np.isfinite(y[0, 1]).all()
    assert run(np.zeros((0, 2, 4))).shape == (0, 2, 4)


def test_k_larger_than_the_channel_is_an_error_that_says_so() -> None:
    with pytest.raises(UsageError, match="k = 10 of only 4 elements"):
        norms.reference(norms.kind("topk"), X, ONE, ZERO, k=10)


def test_unknown_kind_lists_the_kinds_there_are() -> None:
    with pytest.raises(UsageError, match="l1, linf, topk, range, l2"):
        norms.kind("l3")


def live_model(op: str, rank: int, dtype: int, **attributes: Any) -> onnx.ModelProto:
    """One node of `op` with its body; X and Y of `dtype`, scale and bias float32 (double for double)."""
    parameter = np.float64 if dtype == onnx.TensorProto.DOUBLE else np.float32
    full: list[str | int] = ["N", 3, "D", "H", "W"]
    shape = full[:rank]
    inputs = [oh.make_tensor_value_info("X", dtype, shape)]
    outputs = [oh.make_tensor_value_info("Y", dtype, shape)]
    weights = [
        onnx.numpy_helper.from_array(np.array(v, parameter), name)
        for name, v in (("scale", [1.0, 2.0, -0.5]), ("bias", [0.5, 0.0, 1.0]))
    ]
    node = oh.make_node(op, ["X", "scale", "bias"], ["Y"], domain=norms.DOMAIN, **attributes)
    return oh.make_model(
        oh.make_graph([node], "g", inputs, outputs, weights),
        opset_imports=[oh.make_opsetid("", norms.OPSET), oh.make_opsetid(norms.DOMAIN, norms.VERSION)],
        functions=[norms.functions()[op]],
        ir_version=norms.IR_VERSION,
    )


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def attributes_of(op: str) -> dict[str, int]:
    names = {*norms.live_ops()[op].parameters, *Scope.of_op(op).parameters}
    return {name: {"k": 4, "chunks": 5, "num_groups": 1}[name] for name in sorted(names)}


@pytest.mark.parametrize("op", norms.live_ops())
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_body_computes_the_formula_at_every_rank(op: str, rank: int) -> None:
    kind = norms.live_ops()[op]
    scope, attributes = Scope.of_op(op), attributes_of(op)
    if "k" in attributes and rank == 2:
        attributes["k"] = {Scope.BATCH: 4, Scope.INSTANCE: 1, Scope.GROUP: 3}[scope]
    model = live_model(op, rank, onnx.TensorProto.FLOAT, epsilon=1e-3, correction=0.0, **attributes)
    norms.register_schemas()
    onnx.checker.check_model(model, full_check=True)
    rng = np.random.default_rng(rank)
    for batch in (1, 6, 0):
        x = (rng.standard_normal((batch, 3, 4, 5, 3)[:rank]) + 3).astype(np.float32)
        if scope is Scope.BATCH and rank == 2 and batch == 1 and "k" in attributes:
            continue  # k = 4 of 1 element: an error, tested below
        want = norms.reference(
            kind,
            x.astype(np.float64),
            np.array([1.0, 2.0, -0.5]),
            np.array([0.5, 0.0, 1.0]),
            epsilon=1e-3,
            scope=scope,
            **attributes,
        )
        for evaluator in (session(model), ReferenceEvaluator(model)):
            outputs: Any = evaluator.run(None, {"X": x})
            got = outputs[0]
            assert got.shape == x.shape
            # float32: the division and the mean of at most 360 values of size about 5
            np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("op", norms.live_ops())
def test_body_in_double_is_exact_and_in_half_keeps_float32_statistics(op: str) -> None:
    kind = norms.live_ops()[op]
    own = attributes_of(op)
    arguments: dict[str, Any] = {"scope": Scope.of_op(op), **own}
    scale, bias = np.array([1.0, 2.0, -0.5]), np.array([0.5, 0.0, 1.0])
    x = np.random.default_rng(1).standard_normal((4, 3, 6, 7)) + 3
    double = live_model(op, 4, onnx.TensorProto.DOUBLE, epsilon=0.5, **own)
    np.testing.assert_allclose(
        session(double).run(None, {"X": x})[0],
        norms.reference(kind, x, scale, bias, epsilon=0.5, **arguments),
        rtol=1e-12,
    )
    # 70,000 values of mean 3 sum to 210,000: beyond float16's 65,504, and no trouble in float32.
    big = (np.random.default_rng(2).standard_normal((1, 3, 250, 280)) + 3).astype(np.float16)
    half = live_model(op, 4, onnx.TensorProto.FLOAT16, epsilon=1e-5, **own)
    want = norms.reference(kind, big.astype(np.float64), scale, bias, epsilon=1e-5, **arguments)
    got = session(half).run(None, {"X": big})[0]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, want, atol=2e-3, rtol=2e-3)  # one rounding to float16: 2^-11 relative


def test_body_refuses_k_larger_than_the_channel() -> None:
    model = live_model("TopKBatchNorm", 4, onnx.TensorProto.FLOAT, k=10)
    with pytest.raises(Exception, match="TopK"):
        session(model).run(None, {"X": np.zeros((1, 3, 2, 2), np.float32)})


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
def test_bounded_weight_norm_body(axis: int, p: float) -> None:
    v = np.random.default_rng(0).standard_normal((4, 3, 2, 2))
    axes = tuple(i for i in range(4) if i != axis)
    size = np.abs(v).max(axes, keepdims=True) if p == math.inf else (np.abs(v) ** p).sum(axes, keepdims=True) ** (1 / p)
    graph = oh.make_graph(
        [oh.make_node("BoundedWeightNorm", ["V", "rho"], ["W"], domain=norms.DOMAIN, axis=axis, p=p)],
        "g",
        [oh.make_tensor_value_info("V", onnx.TensorProto.DOUBLE, v.shape)],
        [oh.make_tensor_value_info("W", onnx.TensorProto.DOUBLE, v.shape)],
        [onnx.numpy_helper.from_array(np.array([2.5]), "rho")],
    )
    model = oh.make_model(
        graph,
        opset_imports=[oh.make_opsetid("", norms.OPSET), oh.make_opsetid(norms.DOMAIN, norms.VERSION)],
        functions=[norms.functions()["BoundedWeightNorm"]],
        ir_version=norms.IR_VERSION,
    )
    norms.register_schemas()
    onnx.checker.check_model(model, full_check=True)
    for evaluator in (session(model), ReferenceEvaluator(model)):
        outputs: Any = evaluator.run(None, {"V": v})
        np.testing.assert_allclose(outputs[0], 2.5 * v / size, rtol=1e-6)


@settings(max_examples=60, derandomize=True)
@given(
    kind=st.sampled_from(list(norms.KINDS)),
    n=st.integers(1, 40),
    offset=st.floats(-100, 100),
    factor=st.floats(0.01, 100),
    k=st.integers(1, 5),
    chunks=st.integers(1, 20),
)
def test_statistics_ignore_offsets_and_scale_with_the_data(
    kind: str, n: int, offset: float, factor: float, k: int, chunks: int
) -> None:
    x = np.random.default_rng(n).standard_normal((1, 1, n))
    arguments: dict[str, Any] = {"epsilon": 0.0, "k": min(k, n), "chunks": chunks}
    if n == 1:
        return
    plain = norms.reference(norms.kind(kind), x, ONE, ZERO, **arguments)
    moved = norms.reference(norms.kind(kind), x * factor + offset, ONE, ZERO, **arguments)
    np.testing.assert_allclose(moved, plain, atol=1e-9 * (1 + abs(offset) / factor))


def test_extreme_constant_is_finite_for_one_element() -> None:
    assert extreme_constant(1) == extreme_constant(2) == pytest.approx(C2)
