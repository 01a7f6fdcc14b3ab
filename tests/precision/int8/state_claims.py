"""What histograms and states that add up must hold, as plain functions: run against broken copies too."""

from __future__ import annotations

import json
import random
import tempfile
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from normexport.errors import UsageError
from normexport.precision.int8.histogram import MOST, Histogram
from normexport.precision.int8.state import BatchesSeen, CalibrationState, merge, spans_of
from normexport.precision.int8.state_files import read_state


def _of(values: np.ndarray) -> Histogram:
    made = Histogram()
    made.add(values)
    return made


def _facts(histogram: Histogram) -> tuple[Any, ...]:
    first, counts = histogram.counts()
    return repr(histogram.low), repr(histogram.high), histogram.width, first, counts.tolist()


def _by_definition(values: np.ndarray, width: float) -> tuple[int, list[int]]:
    """The first bin, and the counts from there on: of floor(x / w), in float64."""
    numbers = np.floor(values.astype(np.float64) / width).astype(int)
    return int(numbers.min()), np.bincount(numbers - numbers.min()).tolist()


def _streams() -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    shifted = [rng.normal(loc, scale, 400) for loc, scale in ((0, 1e-3), (3, 1), (-40, 5), (0, 900))]
    streams = [
        shifted,
        [rng.random(50), -rng.random(50)],
        [np.array([0.0, -0.0]), np.array([-1e-40, 1e-45, 1.0])],
        [np.full(9, 5.0), np.full(4, 5.0), np.array([5.0000005])],
        [np.array([-1.0]), np.array([-1.0, -1.0])],
        [np.array([3e38, -3e38]), np.array([1e-30])],
        [np.arange(4096.0), np.array([4096.0]), np.array([-1.0])],
        [np.arange(4096.0), np.array([4096.0])],
        [np.array([-1e-45]), np.array([9000.0, 1e-40])],
        [np.array([-0.0])],
        [np.array([-0.0]), np.array([0.0])],
    ]
    return [[part.astype(np.float32) for part in stream] for stream in streams]


def counts_are_those_of_the_definition() -> None:
    for stream in _streams():
        values = np.concatenate(stream)
        whole = reduce(Histogram.merged, map(_of, stream), Histogram())
        first, counts = whole.counts()
        assert (first, counts.tolist()) == _by_definition(values, whole.width)
        assert (whole.low, whole.high) == (values.min(), values.max())
        assert "-0.0" not in (repr(whole.low), repr(whole.high))
        assert counts.sum() == values.size


def sums_are_the_same_in_any_order_and_as_one_stream() -> None:
    for stream in _streams():
        expected = _facts(_of(np.concatenate(stream)))
        one_by_one = Histogram()
        for part in stream:
            one_by_one.add(part)
        assert _facts(one_by_one) == expected
        for seed in range(6):
            parts = [_of(part) for part in stream]
            random.Random(seed).shuffle(parts)
            while len(parts) > 1:
                parts.append(parts.pop(0).merged(parts.pop(random.Random(seed).randrange(len(parts)))))
            assert _facts(parts[0]) == expected


def bins_are_as_fine_as_they_may_be() -> None:
    """Widths are the least powers of two of which the most bins hold what the values span."""
    for stream in _streams():
        whole = _of(np.concatenate(stream))
        assert np.frexp(whole.width)[0] == 0.5
        span = max(whole.high - whole.low, 1e-6 * max(abs(whole.low), abs(whole.high)), 1e-30)
        assert span <= whole.width * MOST < 2 * span
        assert len(whole.counts()[1]) <= MOST + 2  # both ends may lie within a bin


def a_histogram_survives_what_is_said_of_it() -> None:
    for stream in _streams():
        whole = _of(np.concatenate(stream))
        again = Histogram.of(whole.low, whole.high, *whole.counts())
        assert _facts(again) == _facts(whole)
        assert _facts(again.merged(_of(np.ones(3, np.float32)))) == _facts(whole.merged(_of(np.ones(3, np.float32))))


def _refused(work: Any, words: str) -> None:
    told = "nothing was refused"
    try:
        work()
    except (UsageError, ValueError) as error:
        told = str(error)
    assert words in told, told


def lies_about_a_histogram_are_refused() -> None:
    low, high, (first, counts) = 0.0, 8.0, _of(np.arange(9, dtype=np.float32)).counts()
    for place in (0, -1):
        hollow = counts.copy()
        hollow[place] = 0
        _refused(lambda hollow=hollow: Histogram.of(low, high, first, hollow), "nothing is in the bin")
    negative = counts.copy()
    negative[1] = -1
    _refused(lambda: Histogram.of(low, high, first, negative), "its bins do not go")
    _refused(lambda: Histogram.of(low, high, first + 1, counts), "its bins do not go")
    _refused(lambda: Histogram.of(low, high, first - 1, np.array([1, *counts])), "its bins do not go")
    _refused(lambda: Histogram.of(low, high, first, counts[:-1]), "its bins do not go")


def _state(batches: list[int], total: int = 6, **changes: Any) -> CalibrationState:
    """A state that has seen these batches: each of three values of its own, in one sample."""
    tensors: dict[str, Histogram] = {"x": Histogram(), "y": Histogram()}
    for batch in batches:
        tensors["x"].add(np.array([batch, -2.5 * batch, 0.1], np.float32))
        tensors["y"].add(np.array([batch % 2], np.float32))
    fields: dict[str, Any] = {
        "model": "ab" * 32,
        "computed_by": "ONNX Runtime 1.0",
        "batch": 1,
        "tensors": tensors if batches else {},
        "samples": tuple(sorted(f"{batch:032x}" for batch in batches)),
        "seen": {"d": BatchesSeen(total, spans_of(batches))},
        "skipped": tuple(sorted(f"s{batch}" for batch in batches if batch in (1, 4))),
    }
    return CalibrationState(**{**fields, **changes})


def states_add_up_to_that_of_all() -> None:
    whole = _state([0, 1, 2, 3, 4, 5])
    assert whole.seen["d"] == BatchesSeen(6, ((0, 6),))
    for parts in ([[0, 1, 2], [3, 4, 5]], [[5, 0, 2], [1], [3, 4]], [[1, 3, 5], [0, 2, 4]], [[4], [5], [0, 1, 2, 3]]):
        states = [_state(part) for part in parts]
        for some in (states, states[::-1]):
            assert reduce(merge, some).text() == whole.text()
    other = _state([0, 1], 2, seen={"e": BatchesSeen(2, ((0, 2),))})
    both = merge(whole, other)
    assert sorted(both.seen) == ["d", "e"]
    assert len(both.samples) == 8
    assert both.tensors["x"].counts()[1].sum() == 24


def what_does_not_add_up_is_refused() -> None:
    first = _state([0, 1])
    _refused(lambda: merge(first, _state([1, 2])), "has seen batch 1")
    _refused(lambda: merge(first, _state([0])), "has seen batch 0")
    _refused(lambda: merge(first, _state([2], 7)), "counts 7 batches")
    _refused(lambda: merge(first, _state([2], model="cd" * 32)), "is of model cdcd")
    _refused(lambda: merge(first, _state([2], batch=2)), "2 samples at a time")
    _refused(lambda: merge(first, _state([2], computed_by="ONNX Runtime 2.0")), "these round otherwise")
    lacking = {"x": Histogram()}
    lacking["x"].add(np.ones(1, np.float32))
    _refused(lambda: merge(first, _state([2], tensors=lacking)), "has other tensors than the other: 'y'")


def a_part_is_not_taken_for_the_whole() -> None:
    _refused(lambda: _state([0, 2, 3]).calibration("minmax"), "has seen 3 of 6 batches")
    _refused(lambda: _state([], 0).calibration("minmax"), "holds no samples")
    found = _state([0, 1, 2, 3, 4, 5]).calibration("minmax")
    assert found.ranges["x"] == (-12.5, 5.0)
    assert found.samples == 6
    assert len(found.seen) == 6
    assert _state([1, 4]).as_dict()["complete"] is False
    assert 3 in _state([0, 3]).seen["d"]
    assert [batch in _state([0, 3]).seen["d"] for batch in (1, 2, 4)] == [False] * 3


def a_file_gives_the_state_again_and_lies_in_it_are_refused() -> None:
    state = _state([0, 1, 4])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.json"
        state.save(path)
        assert read_state(path).text() == state.text()
        assert merge(read_state(path), _state([2, 3, 5])).text() == _state([0, 1, 2, 3, 4, 5]).text()
        far = _of(np.array([0.0, 1e39]))
        counted = {"first": far.counts()[0], "counts": " ".join(map(str, far.counts()[1]))}
        lies: list[dict[str, Any]] = [
            {"samples": "0" * 31},
            {"samples": "f" * 32 + "0" * 32},
            {"skipped": ["b", "a"]},
            {"seen": {"d": {"batches": 6, "spans": [[0, 2], [1, 3]]}}},
            {"seen": {"d": {"batches": 6, "spans": [[0, 7]]}}},
            {"seen": {"d": {"batches": 6, "spans": [[2, 2]]}}},
            {"seen": {"d": {"batches": 6, "spans": [[0, 1], [1, 2]]}}},
            {"format": 2},
            {"kind": "ranges"},
            {"extra": 1},
            {"tensors": {"x": {"low": 0.0, "high": 1e39, **counted}}},
            {"tensors": {"x": {"low": 1.0, "high": 0.0, "first": 0, "counts": "1 1"}}},
            {"tensors": {"x": {"low": 0.0, "high": 0.0, "first": 0, "counts": "-1"}}},
            {"tensors": {"x": {"low": 0.0, "high": 0.0, "first": 0, "counts": "1_0"}}},
            {"tensors": {"x": {"low": 0.0, "high": 0.0, "first": 0, "counts": "0"}}},
        ]
        for lie in lies:
            path.write_text(json.dumps({**json.loads(state.text()), **lie}))
            _refused(lambda: read_state(path), "is not a calibration state")


CLAIMS = (
    counts_are_those_of_the_definition,
    sums_are_the_same_in_any_order_and_as_one_stream,
    bins_are_as_fine_as_they_may_be,
    a_histogram_survives_what_is_said_of_it,
    lies_about_a_histogram_are_refused,
    states_add_up_to_that_of_all,
    what_does_not_add_up_is_refused,
    a_part_is_not_taken_for_the_whole,
    a_file_gives_the_state_again_and_lies_in_it_are_refused,
)
