"""What labels are compared by, written a second time as loops; and what losing some of it is judged to be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from normexport.errors import UsageError
from normexport.precision import Labelled, Limits, measure_accuracy
from normexport.precision.collected import Collected
from normexport.precision.labelled_output import check_labels, labelled_output
from normexport.precision.metrics import loaded_metric, metric_of
from normexport.verdicts import Verdict
from tests.narrow import present

RNG = np.random.default_rng(0)


def collected(**values: np.ndarray) -> Collected:
    samples = len(next(iter(values.values())))
    return Collected("a runtime", tuple(values), values, {}, dict.fromkeys(values, ()), samples, 64, 1.0)


def brute_top(scores: np.ndarray, labels: np.ndarray, most: int) -> float:
    right = 0
    for row, label in zip(scores, labels, strict=True):
        order = sorted(range(len(row)), key=lambda index: (-row[index], index))
        right += not np.isnan(row).any() and int(label) in order[:most]
    return right / len(labels)


def brute_iou(chosen: np.ndarray, labels: np.ndarray) -> float:
    pairs = [(c, y) for c, y in zip(chosen.ravel().tolist(), labels.ravel().tolist(), strict=True) if y != 255]
    shares = []
    for label in {c for c, _ in pairs} | {y for _, y in pairs}:
        both = sum(c == label and y == label for c, y in pairs)
        shares.append(both / sum(c == label or y == label for c, y in pairs))
    return sum(shares) / len(shares)


@pytest.mark.parametrize(("name", "most"), [("top1", 1), ("top5", 5)])
def test_top_counts_labels_among_the_largest_scores_with_ties_and_nan(name: str, most: int) -> None:
    scores = RNG.integers(0, 4, (200, 9)).astype(np.float32)  # many ties
    scores[::17, 3] = np.nan
    labels = RNG.integers(0, 9, 200)
    found = measure_accuracy(collected(y=scores), Labelled(labels, metric=name))
    assert found.value == pytest.approx(brute_top(scores, labels, most))
    assert found.correct == round(present(found.value) * 200)
    assert found.metric == name
    assert found.interval is not None


@pytest.mark.parametrize("form", ["scores", "numbers", "one channel", "truth"])
def test_iou_is_the_mean_over_classes_that_are_there_without_pixels_of_no_class(form: str) -> None:
    classes = 2 if form == "truth" else 6
    scores = RNG.normal(size=(7, classes, 5, 4)).astype(np.float32)
    scores[:, 4:5] -= 100  # never chosen, and in no label
    labels = RNG.integers(0, min(classes, 4), (7, 5, 4)).astype(np.int64)
    labels[0, 0] = 255
    chosen = scores.argmax(1)
    values = {"scores": scores, "numbers": chosen, "one channel": chosen[:, None], "truth": chosen.astype(bool)}
    found = measure_accuracy(collected(y=values[form]), Labelled(labels))
    assert found.metric == "iou"
    assert found.value == pytest.approx(brute_iou(chosen, labels))
    assert (found.correct, found.interval, found.accuracy) == (None, None, None)


def test_a_pixel_whose_scores_are_nan_is_wrong_for_its_class_and_counts_for_no_other() -> None:
    scores = np.zeros((1, 2, 1, 4), np.float32)
    scores[0, 1, 0, 2:] = 1
    scores[0, 0, 0, 3] = np.nan
    labels = np.array([[[0, 0, 1, 1]]])
    assert measure_accuracy(collected(y=scores), Labelled(labels)).value == pytest.approx((1 + 1 / 2) / 2)


def test_pixel_accuracy_is_top1_of_a_map() -> None:
    scores = RNG.normal(size=(3, 4, 6, 5)).astype(np.float32)
    labels = RNG.integers(0, 4, (3, 6, 5))
    labels[0, 0] = 255
    keep = labels != 255
    found = measure_accuracy(collected(y=scores), Labelled(labels, metric="top1"))
    assert found.value == pytest.approx((scores.argmax(1) == labels)[keep].mean())


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3, 2)])
def test_errors_of_regression_are_in_the_unit_of_the_labels(shape: tuple[int, ...]) -> None:
    values = RNG.normal(size=shape).astype(np.float32)
    labels = RNG.normal(size=shape[:1] if shape == (50, 1) else shape)
    difference = [float(a) - float(b) for a, b in zip(values.ravel(), labels.ravel(), strict=True)]
    mae = measure_accuracy(collected(y=values), Labelled(labels, metric="mae"))
    rmse = measure_accuracy(collected(y=values), Labelled(labels, metric="rmse"))
    assert mae.value == pytest.approx(sum(map(abs, difference)) / len(difference))
    assert rmse.value == pytest.approx(math.sqrt(sum(each**2 for each in difference) / len(difference)))
    assert mae.drop is None


def test_regression_takes_whole_numbers_as_labels_and_as_outputs() -> None:
    found = measure_accuracy(collected(y=np.array([1, 2, 4])), Labelled(np.array([1, 2, 3]), metric="mae"))
    assert found.value == pytest.approx(1 / 3)


def judged(metric: Any, labels: np.ndarray, exact: np.ndarray, value: np.ndarray, max_drop: float | None) -> Any:
    limits = Limits(-math.inf, max_drop)
    return measure_accuracy(collected(y=value), Labelled(labels, metric=metric), collected(y=exact), limits)


def test_max_drop_is_in_the_unit_of_the_metric_and_in_its_direction() -> None:
    labels = RNG.normal(size=300)
    exact = (labels + 0.1).astype(np.float32)[:, None]
    worse, better = exact + np.float32(0.05), exact - np.float32(0.05)
    assert judged("mae", labels, exact, worse, 0.04).judgement.verdict is Verdict.FAILED
    assert judged("mae", labels, exact, worse, 0.06).judgement.passed
    assert judged("mae", labels, exact, better, 0.0).judgement.passed
    assert judged("mae", labels, exact, worse, 0.06).drop == pytest.approx(0.05, rel=1e-3)
    assert "mae rises by 0.05, 0.04 allowed" in judged("mae", labels, exact, worse, 0.04).judgement.reasons[0]


def test_a_share_is_lost_in_points_for_top5_and_iou_too() -> None:
    labels = RNG.integers(0, 10, 300)
    exact = np.eye(10, dtype=np.float32)[labels]
    value = exact.copy()
    value[:6, :] = -np.arange(10)[None]  # the labels of some fall behind five others
    lost = 100 * float((labels[:6] >= 5).sum()) / 300
    assert lost > 0
    found = judged("top5", labels, exact, value, lost - 0.01)
    assert found.drop == pytest.approx(lost)
    assert found.judgement.verdict is Verdict.FAILED
    assert judged("top5", labels, exact, value, lost + 0.01).judgement.passed
    maps = RNG.integers(0, 3, (250, 2, 2))
    right = np.moveaxis(np.eye(3, dtype=np.float32)[maps], -1, 1)
    wrong = right.copy()
    wrong[0] = wrong[0][::-1]
    found = judged(None, maps, right, wrong, None)
    assert found.drop == pytest.approx(100 * (1 - brute_iou(wrong.argmax(1), maps)))
    assert found.judgement.passed is (found.drop <= 0.5)


def test_nothing_is_passed_by_nan_or_by_what_does_not_vary() -> None:
    labels = RNG.normal(size=300)
    exact = labels.astype(np.float32)[:, None]
    broken = exact.copy()
    broken[3] = np.nan
    assert judged("mae", labels, exact, broken, 1e9).judgement.verdict is Verdict.FAILED
    assert judged("mae", labels, broken, broken, 1e9).judgement.verdict is Verdict.INCONCLUSIVE
    still = np.zeros_like(exact)
    assert judged("mae", labels, still, still, 1e9).judgement.verdict is Verdict.INCONCLUSIVE
    maps = RNG.integers(0, 3, (250, 2, 2))
    one = np.zeros((250, 3, 2, 2), np.float32)
    one[:, 1] = 1 + RNG.uniform(0, 1, (250, 2, 2))
    assert judged("iou", maps, one, one, 1.0).judgement.verdict is Verdict.INCONCLUSIVE
    assert judged(lambda output, labels: math.nan, labels, exact, exact, 1.0).judgement.verdict is Verdict.INCONCLUSIVE
    only = np.full((250, 2, 2), 255)
    assert measure_accuracy(collected(y=one), Labelled(only)).judgement is not None  # no pixel is of a class


def test_few_labels_need_the_signal_beside() -> None:
    labels = RNG.normal(size=20)
    exact = labels.astype(np.float32)[:, None]
    noisy = exact + RNG.normal(size=(20, 1)).astype(np.float32)
    found = measure_accuracy(
        collected(y=noisy), Labelled(labels, metric="mae"), collected(y=exact), Limits(25.0, max_drop=10.0)
    )
    assert present(found.judgement).verdict is Verdict.FAILED
    assert "beside 20 labels" in present(found.judgement).reasons[0]


def test_a_function_is_a_metric_in_its_own_direction() -> None:
    def worst(output: np.ndarray, labels: np.ndarray) -> float:
        return float(np.abs(output[:, 0] - labels).max())

    worst.lower_is_better = True  # type: ignore[attr-defined]  # as users say it
    labels = RNG.normal(size=300)
    exact = labels.astype(np.float32)[:, None]
    worse = exact + np.float32(0.5)
    assert judged(worst, labels, exact, worse, 0.4).judgement.verdict is Verdict.FAILED
    assert judged(worst, labels, exact, worse, 0.6).judgement.passed
    assert judged(lambda output, labels: -worst(output, labels), labels, exact, worse, 0.6).judgement.passed
    assert judged(worst, labels, exact, worse, 0.6).metric.endswith("worst")


@pytest.mark.parametrize(
    ("metric", "labels", "values", "words"),
    [
        (
            "topp",
            [0, 1],
            {"y": (2, 3)},
            "--metric topp: is not a metric; choose top1, top5, iou, mae, rmse, or package",
        ),
        (None, [0.5, 1.0], {"y": (2, 3)}, "labels: are not whole numbers, and nothing says which metric they are for"),
        ("top1", [0.5, 1.0], {"y": (2, 3)}, "--metric top1: is for classes, and the labels are not whole numbers"),
        ("top5", [0, 1], {"y": (2, 5)}, "--metric top5: is always right of 5 classes"),
        ("mae", [0.5, 1.0], {"y": (2, 3)}, r"labels: fit no output: y (2, 3); mae needs numbers of the labels' shape"),
        ("mae", [[0.5, 1.0]] * 2, {"y": (2, 3)}, "mae needs numbers of the labels' shape (samples, 2)"),
        ("mae", [0.5], {"y": (2, 1)}, "labels: are 1, the samples 2"),
        ("mae", [0.5, 1.0], {"y": (2, 1), "z": (2,)}, "labels: fit several outputs: y, z; name theirs"),
        (None, [[[0]], [[1]]], {"y": (2, 3)}, "iou needs class scores (samples, classes, 1, 1), or class numbers"),
        (None, [[[0]], [[3]]], {"y": (2, 3, 1, 1)}, "label: of sample 1 is 3, the model has classes 0 to 2"),
        (None, [[[0]], [[-1]]], {"y": (2, 3, 1, 1)}, "label: of sample 1 is -1"),
        (None, [0, 255], {"y": (2, 3)}, "label: of sample 1 is 255"),
        (lambda output, labels: 1 / 0, [0, 1], {"y": (2, 3)}, "failed on an output (2, 3) and labels (2,) (ZeroDiv"),
        (lambda output, labels: output, [0, 1], {"y": (2, 3)}, "take two arrays, return a number"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    metric: Any, labels: list[Any], values: dict[str, tuple[int, ...]], words: str
) -> None:
    found = collected(**{name: np.zeros(shape, np.float32) for name, shape in values.items()})
    with pytest.raises(UsageError) as raised:
        measure_accuracy(found, Labelled(np.array(labels), metric=metric))
    assert words in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_metric_in_a_unit_of_its_own_is_judged_only_by_a_limit_that_somebody_set() -> None:
    labels = RNG.normal(size=300)
    exact = labels.astype(np.float32)[:, None]
    for metric, words in (("rmse", "may rise"), (lambda output, labels: 1.0, "may drop")):
        with pytest.raises(UsageError, match=f"nothing says how much it {words}; give --max-drop in that unit"):
            judged(metric, labels, exact, exact, None)


def test_labels_of_classes_by_folder_must_not_be_more_than_the_model_has() -> None:
    labelled = Labelled(np.array([0, 1]), classes=("a", "b", "c", "d"))
    with pytest.raises(UsageError, match=r"data: has 4 classes by folder \(the last is d\), and the model has 3"):
        check_labels(labelled, np.zeros((2, 3), np.float32), 2)


def test_scores_go_before_numbers_and_names_before_both() -> None:
    found = collected(scores=np.zeros((2, 3), np.float32), numbers=np.zeros(2, np.int64))
    assert labelled_output(found, Labelled(np.array([0, 1]))) == "scores"
    assert labelled_output(found, Labelled(np.array([0, 1]), "numbers")) == "numbers"
    with pytest.raises(UsageError, match="needs class scores"):
        labelled_output(found, Labelled(np.array([0, 1]), "numbers", "top5"))


def test_functions_are_imported_by_name_and_told_by_it() -> None:
    function = present(loaded_metric("math:isclose"))
    assert callable(function)
    assert metric_of(Labelled(np.array([0]), metric=function)).name == "math:isclose"
    for name, words in {
        "other": "is not a metric",
        "math:pi": "which can't be called",
        "no_such_one:x": "imported",
    }.items():
        with pytest.raises(UsageError, match=f"--metric {name}: .*{words}"):
            loaded_metric(name)
    known: list[Callable[..., Any] | str | None] = [None, "iou", max]
    assert [loaded_metric(each) for each in known] == known
