"""What a reference bears: it runs, stays finite where it was, and is as near its float64 as at the lowest range."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pytest

from normexport.errors import UsageError
from normexport.proof.check import Factory
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.bearing import (
    REFUSES,
    allowed_beside,
    break_in,
    breaking,
    difference,
    distance,
    outcome,
)
from normexport.runtime import Port
from normexport.runtime.base import Array, Feeds, Sink

#: x to the outputs.
Function = Callable[[Array], dict[str, Array]]


class Computed:
    """A runtime that computes by a function, which may refuse."""

    name = "computed"
    passive_capture = True
    inputs = (Port("x", "float64"),)
    input_names, output_names = ("x",), ("y",)

    def __init__(self, function: Function) -> None:
        self.function = function
        self.dropped: dict[str, str] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        return self.function(feeds["x"])


def made(function: Function) -> Factory:
    return lambda: Computed(function)


def batches(*numbers: float) -> list[Batch]:
    return [Batch(f"{number:g}", 1, {"x": np.full((1, 4), float(number))}) for number in numbers]


def same(x: Array) -> dict[str, Array]:
    return {"y": x.copy()}


def off(error: float, above: float = 2.0) -> Function:
    """Off by a share of the number where it is large."""
    return lambda x: {"y": np.where(x > above, x * (1 + error), x)}


def refusing(x: Array) -> dict[str, Array]:
    if x.max() > 2:
        raise UsageError("x", "is no index", "give a smaller one")
    return same(x)


def overflowing(x: Array) -> dict[str, Array]:
    return {"y": np.where(x > 2, np.inf, x), "z": np.full(x.shape, np.nan)}


def test_what_does_not_run_or_overflows_breaks() -> None:
    for broken in (refusing, overflowing):
        assert breaking(batches(1, 3, 2, 9), made(broken), None) == {1, 3}


def test_where_it_breaks_at_the_first_nothing_is_said_of_the_others() -> None:
    assert breaking(batches(3, 1, 4), made(refusing), None) == set()
    assert breaking(batches(3, 1, 4), made(overflowing), None) == set()


def test_what_float64_refuses_breaks_too() -> None:
    assert breaking(batches(1, 3), made(same), made(refusing)) == {1}


@pytest.mark.parametrize(("error", "broken"), [(2e-4, {1, 3}), (5e-5, set())])
def test_far_from_its_float64_is_broken(error: float, broken: set[int]) -> None:
    assert breaking(batches(1, 3, 2, 9), made(off(error)), made(same)) == broken


def test_what_is_off_at_the_lowest_range_may_be_ten_times_as_far_off_elsewhere() -> None:
    def rough(factor: float) -> Function:
        return lambda x: {"y": x * (1 + np.where(x > 2, 1e-3 * factor, 1e-3))}

    assert breaking(batches(1, 3), made(rough(9)), made(same)) == set()
    assert breaking(batches(1, 3), made(rough(11)), made(same)) == {1}
    assert allowed_beside(0.0) == allowed_beside(1e-6) == 1e-4
    assert allowed_beside(1e-3) == 1e-2


def test_an_error_that_is_no_number_is_broken() -> None:
    """Of shapes that do not fit."""
    assert breaking(batches(1, 3), made(lambda x: {"y": x[:, : 2 if x.max() > 2 else 4]}), made(same)) == {1}


def test_an_output_is_named_only_where_it_was_finite_before() -> None:
    before = {"y": np.ones(2), "z": np.array([1.0, np.nan])}
    assert break_in(before, before) is None
    assert break_in({"y": np.array([1.0, np.inf]), "z": np.ones(2)}, before) == "overflows (output y)"
    assert break_in({"y": np.ones(2), "z": np.full(2, np.nan)}, before) is None
    assert break_in(REFUSES, before) == REFUSES


def test_distances_are_those_of_the_worst_output_over_what_is_finite() -> None:
    exact = {"y": np.array([3.0, 4.0, np.inf]), "z": np.ones(4)}
    assert distance(exact, exact) == 0.0
    assert distance(exact, {**exact, "y": np.array([3.0, 4.5, np.nan])}) == pytest.approx(0.5 / 5)
    assert distance(exact, {**exact, "z": np.array([1.0, 1.0, 1.0, 3.0])}) == pytest.approx(1.0)
    assert distance(exact, {"y": exact["y"]}) == distance(exact, {**exact, "z": np.ones(3)}) == np.inf
    assert distance({"y": np.ones(2)}, {"y": np.array([1.0, np.inf])}) == 0.0  # that is told apart from a distance
    assert distance({"y": np.full(2, np.nan)}, {"y": np.ones(2)}) == 0.0  # nothing to compare
    assert distance({"y": np.zeros(2)}, {"y": np.ones(2)}) == np.inf
    assert difference(REFUSES, exact) == difference(exact, REFUSES) == np.inf
    assert difference(exact, exact) == 0.0


def test_of_whole_numbers_the_share_that_differs_counts() -> None:
    assert distance({"y": np.array([1, 2, 3, 900])}, {"y": np.array([1, 2, 3, 4])}) == 0.25
    assert distance({"y": np.array([True, False])}, {"y": np.array([True, True])}) == 0.5


def test_numbers_of_other_types_are_read_as_float32() -> None:
    import ml_dtypes

    found = outcome(Computed(lambda x: {"y": x.astype(ml_dtypes.bfloat16), "n": x.astype(np.int64)}), {"x": np.ones(2)})
    assert not isinstance(found, str)
    assert {name: value.dtype.name for name, value in found.items()} == {"y": "float32", "n": "int64"}
    assert outcome(Computed(refusing), {"x": np.full(1, 3.0)}) == REFUSES
