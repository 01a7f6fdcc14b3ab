"""No flag, mode or mask stays at one value: each pair of them is tried at all pairs of ends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normexport.onnx_export import InputSpec
from normexport.proof.inputs.batches import standard_batches
from normexport.proof.inputs.flags import settings, switches, turned

X = InputSpec("x", (4,))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 200), first=st.integers(0, 1000))
def test_every_element_has_both_values_in_three_turns(seed: int, count: int, first: int) -> None:
    turns = np.stack([turned(seed, first + turn, (count,)) for turn in range(4)])
    assert set(np.unique(turns)) <= {0, 1}
    assert (turns.sum(axis=0) == 2).all() or first % 4
    start = -first % 4  # the next whole round
    round_of = np.stack([turned(seed, first + start + turn, (count,)) for turn in range(3)])
    assert (round_of.min(axis=0) == 0).all()
    assert (round_of.max(axis=0) == 1).all()


@given(count=st.integers(1, 7))
def test_every_two_switches_have_all_four_pairs_of_ends(count: int) -> None:
    specs = [InputSpec(f"f{number}", (), "bool", batched=False) for number in range(count)]
    found = list(settings([X, *specs], {}, 0))
    assert len(found) <= 8 + 2
    for one, other in itertools.combinations([spec.name for spec in specs], 2):
        assert {(each[one], each[other]) for each in found} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for spec in specs:
        assert {each[spec.name] for each in found} == {0, 1}


@pytest.mark.parametrize(
    ("low", "high", "values"), [(0, 1, {0, 1}), (0, 3, {0, 1, 2, 3}), (-1, 2, {-1, 0, 1, 2}), (5, 5, {5})]
)
def test_a_mode_of_few_values_is_tried_at_each(low: int, high: int, values: set[int]) -> None:
    mode = InputSpec("mode", (1,), "int64", batched=False)
    assert {each["mode"] for each in settings([mode], {"mode": [(low, high)]}, 0)} == values


@given(low=st.integers(-(2**63), 2**63 - 1), high=st.integers(0, 2**64 - 1), seed=st.integers(0, 99))
def test_numbers_between_lie_within_the_ends(low: int, high: int, seed: int) -> None:
    high = max(low, high)
    mode = InputSpec("mode", (), "int64", batched=False)
    found = {each["mode"] for each in settings([mode], {"mode": [(low, high)]}, seed)}
    assert {low, high} <= found
    assert all(low <= value <= high for value in found)


def test_what_has_a_batch_or_several_numbers_is_no_switch() -> None:
    specs = [X, InputSpec("n", (), "int64"), InputSpec("two", (2,), "bool", batched=False)]
    specs += [InputSpec("t", (), batched=False), InputSpec("f", (1, 1), "bool", batched=False)]
    assert [spec.name for spec in switches(specs)] == ["f"]


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint8"])
def test_no_element_of_a_mask_stays_what_it_is(dtype: str) -> None:
    mask = InputSpec("mask", (1, 64), dtype, batched=False, bounds=None if dtype == "bool" else (0, 1))
    arrays = np.stack([batch.feeds["mask"] for batch in standard_batches([mask])])
    assert arrays.dtype == np.dtype(dtype)
    assert (arrays.min(axis=0) == 0).all()
    assert (arrays.max(axis=0) == 1).all()


def test_the_ends_of_a_table_are_not_always_at_the_same_places() -> None:
    tokens = InputSpec("tokens", (1, 16), "int64", batched=False, bounds=(0, 49))
    arrays = np.stack([batch.feeds["tokens"] for batch in standard_batches([tokens])])
    assert arrays.min() == 0
    assert arrays.max() == 49
    assert (arrays.min(axis=0) != arrays.max(axis=0)).all()
