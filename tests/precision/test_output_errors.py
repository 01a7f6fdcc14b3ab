"""Every output is judged: second heads, scalars, class numbers by the scores behind them, ties as ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from normexport.errors import UsageError
from normexport.precision import Labelled, Limits, collect, measure_accuracy
from normexport.precision.accuracy import Accuracy
from normexport.precision.decisions import decisions
from normexport.runtime import OnnxRuntime
from normexport.verdicts import Verdict
from tests.narrow import present
from tests.precision.judged_graphs import classes, graph, inputs, weight

LIMITS = Limits()
PASSED, FAILED, INCONCLUSIVE = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE


def judged(
    reference: ir.Model,
    candidate: ir.Model,
    data: dict[str, np.ndarray] | None = None,
    labelled: Labelled | None = None,
    limits: Limits = LIMITS,
    batch: int | None = None,
) -> Accuracy:
    data = data or inputs()
    exact = collect(OnnxRuntime(reference), data, model=reference, batch=batch)
    found = collect(OnnxRuntime(candidate), data, model=candidate, batch=exact.batch)
    return measure_accuracy(found, labelled, exact, limits)


def by_numpy(reference: np.ndarray, value: np.ndarray) -> np.float64:
    r, v = reference.astype(np.float64), value.astype(np.float64)
    return 10 * np.log10(np.square(r - r.mean(0)).sum() / np.square(v - r).sum())


def two_heads(second: np.ndarray) -> ir.Model:
    signature = "(float[N,6] x) => (float[N,4] a, float[N,3] b)"
    return graph(signature, "a = MatMul(x, w) b = MatMul(x, v)", {"w": weight(6, 4), "v": second})


def test_a_second_head_at_4_db_fails_and_is_named() -> None:
    good = weight(6, 3, seed=1)
    bad = (good + 10 ** (-4 / 20) * weight(6, 3, seed=2)).astype(np.float32)
    found = judged(two_heads(good), two_heads(bad))
    first, second = found.outputs
    x = inputs()["x"]
    assert (first.name, first.snr_db, first.judgement.verdict) == ("a", np.inf, PASSED)
    assert second.snr_db == pytest.approx(by_numpy(x @ good, x @ bad), abs=0.01)
    assert found.judgement.verdict is FAILED
    assert found.judgement.reasons[0].startswith("b: SNR ")
    assert found.snr_db == second.level


def test_labels_decide_for_their_output_alone() -> None:
    good, bad = weight(6, 3, seed=1), weight(6, 3, seed=2)
    data = inputs(256)
    labels = (data["x"] @ weight(6, 4)).argmax(1)
    found = judged(two_heads(good), two_heads(bad), data, Labelled(labels, "a"))
    assert (found.accuracy, found.drop, found.judgement.verdict) == (1.0, 0.0, FAILED)
    assert judged(two_heads(good), two_heads(good), data, Labelled(labels, "a")).judgement.verdict is PASSED


def test_labels_that_fit_several_outputs_or_none_ask_which() -> None:
    model = two_heads(weight(6, 3))
    found = collect(OnnxRuntime(model), inputs(), model=model)
    with pytest.raises(UsageError, match=r"fit several outputs: a, b; .*--labels-for"):
        measure_accuracy(found, Labelled(np.zeros(64, int)))
    with pytest.raises(UsageError, match="the outputs are a, b"):
        measure_accuracy(found, Labelled(np.zeros(64, int), "c"))
    means = classes(last="y = ReduceMean<keepdims = 0>(s)", kind="float y")
    with pytest.raises(UsageError, match="fit no output"):
        measure_accuracy(collect(OnnxRuntime(means), inputs(), model=means), Labelled(np.zeros(64, int)))


SCALAR: dict[str, Any] = {"last": "y = ReduceMean<keepdims = 0>(s)", "kind": "float y"}


def test_a_scalar_output_is_judged_over_runs() -> None:
    found = judged(classes(**SCALAR), classes(**SCALAR))
    assert (found.judgement.verdict, found.outputs[0].varies) == (PASSED, True)
    assert judged(classes(**SCALAR), classes(3.0, **SCALAR)).judgement.verdict is FAILED


def test_a_scalar_of_one_run_proves_nothing() -> None:
    found = judged(classes(**SCALAR), classes(**SCALAR), batch=64)
    assert found.judgement.verdict is INCONCLUSIVE


ARGMAX: dict[str, Any] = {"last": "y = ArgMax<axis = 1, keepdims = 0>(s)", "kind": "int64[N] y"}
KEPT = {"last": "y = ArgMax<axis = -1>(s)", "kind": "int64[N,1] y"}
RESHAPED = {"last": "i = ArgMax<axis = 1, keepdims = 0>(s) y = Cast<to = 6>(i)", "kind": "int32[N] y"}
TOP = {"last": "k = Constant<value_ints = [2]>() v, y = TopK(s, k)", "kind": "int64[N,2] y"}
LEAST = {"last": "y = ArgMin<axis = 1, keepdims = 0>(s)", "kind": "int64[N] y"}
MASK = {"last": "z = Constant<value_float = 0.5>() y = Greater(s, z)", "kind": "bool[N,5] y"}


@pytest.mark.parametrize(
    "how", [ARGMAX, KEPT, RESHAPED, TOP, LEAST, MASK], ids=["argmax", "kept", "cast", "top", "argmin", "mask"]
)
def test_class_numbers_are_judged_by_the_scores_behind_them(how: dict[str, Any]) -> None:
    found = judged(classes(**how), classes(1e-3, **how))
    (error,) = found.outputs
    x = inputs()["x"].astype(np.float64)
    moved = weight(6, 5)
    moved[:, 2] += np.float32(1e-3)
    assert error.snr_db == pytest.approx(by_numpy(x @ weight(6, 5), x @ moved), abs=0.05)
    assert found.judgement.verdict is PASSED
    worse = judged(classes(**how), classes(1.0, **how))
    assert worse.judgement.verdict is FAILED
    assert "by its scores" in worse.judgement.reasons[0]


def test_class_numbers_that_are_not_those_of_the_scores_fail() -> None:
    wrong: list[dict[str, Any]] = [
        {
            "last": "i = ArgMax<axis = 1, keepdims = 0>(s) o = Constant<value_int = 1>() y = Add(i, o)",
            "kind": ARGMAX["kind"],
        },
        {"last": "y = ArgMin<axis = 1, keepdims = 0>(s)", "kind": ARGMAX["kind"]},
        {"last": "t = Neg(s) y = ArgMax<axis = 1, keepdims = 0>(t)", "kind": ARGMAX["kind"]},
    ]
    for how in wrong:
        assert judged(classes(**ARGMAX), classes(**how)).judgement.verdict is FAILED, how
    constant: dict[str, Any] = {
        "last": "z = Constant<value_float = 0.0>() t = Mul(s, z) y = ArgMax<axis = 1, keepdims = 0>(t)",
        "kind": ARGMAX["kind"],
    }
    assert judged(classes(**ARGMAX), classes(**constant)).judgement.verdict is FAILED


def test_ties_of_the_reference_are_no_disagreement() -> None:
    weights = weight(6, 5)
    weights[:, 3] = weights[:, 1]
    nudged = weights.copy()
    nudged[:, 3] += np.float32(1e-5)
    body = "s = MatMul(x, w) y = ArgMax<axis = 1, keepdims = 0>(s)"
    models = [graph("(float[N,6] x) => (int64[N] y)", body, {"w": each}) for each in (weights, nudged)]
    a, b = (OnnxRuntime(model).run(inputs())["y"] for model in models)
    assert (a != b).mean() > 0.05
    found = judged(models[0], models[1])
    assert (found.agreement, found.judgement.verdict) == (1.0, PASSED)


def test_scores_of_tied_classes_agree_too() -> None:
    weights = weight(6, 5)
    weights[:, 3] = weights[:, 1]
    nudged = weights.copy()
    nudged[:, 3] += np.float32(1e-5)
    models = [graph("(float[N,6] x) => (float[N,5] y)", "y = MatMul(x, w)", {"w": each}) for each in (weights, nudged)]
    assert judged(models[0], models[1]).agreement == 1.0


def test_whole_numbers_without_scores_are_judged_by_the_share_that_differs() -> None:
    signature = "(float[N,6] x, int64[N] i) => (int64[N] y)"
    body = "y = Mul(i, f)"
    models = [graph(signature, body, {"f": np.array(each)}) for each in (3, 4)]
    data = {**inputs(), "i": np.arange(64)}
    assert judged(models[0], models[0], data).judgement.verdict is PASSED
    found = judged(models[0], models[1], data)
    assert (found.agreement, found.judgement.verdict) == (1 / 64, FAILED)
    assert judged(models[0], models[1], data, limits=Limits(max_drop=99)).judgement.verdict is PASSED


def test_a_size_has_no_scores_behind_it() -> None:
    model = graph("(float[N,6] x) => (float[N,6] y, int64[2] n)", "y = Neg(x) n = Shape(x)")
    assert decisions(model)["n"].scores == ()
    assert judged(model, model).judgement.verdict is PASSED


def test_outputs_that_all_stay_the_same_prove_nothing() -> None:
    dead = classes(last="z = Constant<value_float = 0.0>() y = Mul(s, z)")
    found = judged(dead, dead)
    assert found.judgement.verdict is INCONCLUSIVE
    assert "varies" in found.judgement.reasons[0]


def test_nan_on_both_sides_does_not_pass() -> None:
    nan: dict[str, Any] = {"last": "z = Constant<value_float = -1.0>() q = Abs(s) n = Mul(q, z) y = Sqrt(n)"}
    assert judged(classes(**nan), classes(**nan)).judgement.verdict is INCONCLUSIVE
    assert judged(classes(), classes(**nan)).judgement.verdict is FAILED


def test_an_output_whose_shape_follows_the_data_proves_nothing() -> None:
    how: dict[str, Any] = {"last": "y = NonZero(s)", "kind": "int64[2,M] y"}
    ragged: dict[str, Any] = {"last": "z = Relu(s) y = NonZero(z)", "kind": "int64[2,M] y"}
    assert judged(classes(**ragged), classes(**ragged), batch=10).judgement.verdict is INCONCLUSIVE
    assert judged(classes(**how), classes(**how), inputs(60), batch=10).judgement.verdict in (PASSED, INCONCLUSIVE)


def test_samples_on_axis_1_are_found() -> None:
    turned: dict[str, Any] = {"last": "t = Transpose<perm = [1, 0]>(s) y = Identity(t)", "kind": "float[5,N] y"}
    found = judged(classes(**turned), classes(0.5, **turned), inputs(70))
    plain = judged(classes(), classes(0.5), inputs(70))
    assert found.outputs[0].snr_db == pytest.approx(plain.outputs[0].snr_db)


def test_outputs_of_other_names_or_types_fail() -> None:
    other = classes(last="z = Identity(s)", kind="float[N,5] z")
    double = classes(last="y = ArgMax<axis = 1>(s)", kind="int64[N,1] y")
    assert judged(classes(), other).judgement.verdict is FAILED
    assert judged(classes(), double).judgement.verdict is FAILED


def test_few_labels_need_the_snr_beside_and_many_decide_alone() -> None:
    noisy = classes(2e-1)
    for samples, verdict in ((100, FAILED), (400, PASSED)):
        data = inputs(samples)
        labels = (data["x"] @ weight(6, 5)).argmax(1)
        found = judged(classes(), noisy, data, Labelled(labels), Limits(min_snr=60, max_drop=20))
        assert present(found.drop) < 20
        assert found.judgement.verdict is verdict, found.judgement


def test_labels_of_a_reference_that_decides_alike_for_all_prove_nothing() -> None:
    weights = {"w": weight(6, 5), "b": np.array([99, 0, 0, 0, 0], np.float32)}
    stuck = graph("(float[N,6] x) => (float[N,5] y)", "s = MatMul(x, w) y = Add(s, b)", weights)
    labels = np.arange(256) % 5
    found = judged(stuck, stuck, inputs(256), Labelled(labels))
    assert (found.drop, found.judgement.verdict) == (0.0, INCONCLUSIVE)


ONE_CLASS = "z = Constant<value_floats = [0.0, 99.0, 0.0, 0.0, 0.0]>() y = Add(s, z)"
ONLY_NAN = "q = Abs(s) n = Neg(q) y = Sqrt(n)"


@pytest.mark.parametrize(
    ("last", "verdict"), [("y = Identity(s)", None), (ONLY_NAN, INCONCLUSIVE), (ONE_CLASS, INCONCLUSIVE)]
)
def test_without_a_reference_only_outputs_that_mean_nothing_are_judged(last: str, verdict: Verdict | None) -> None:
    model = classes(last=last)
    found = measure_accuracy(collect(OnnxRuntime(model), inputs(), model=model), Labelled(np.arange(64) % 5))
    assert (found.judgement and found.judgement.verdict) is verdict
