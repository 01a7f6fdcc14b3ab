"""Equalisation changes no result, evens out channels, says why it leaves one alone; breaking a rule is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision.int8.equalise import equalise
from normexport.precision.int8.extremes import channel_extremes
from normexport.runtime import OnnxRuntime
from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import equalise_claims
from tests.precision.int8.equalise_claims import check_same, feeds_of, seen_in
from tests.precision.int8.linked_graphs import Graph, random_graph

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("claim", equalise_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@settings(max_examples=25)
@given(seed=st.integers(100, 10_000))
def test_no_result_moves_by_more_than_a_billionth(seed: int) -> None:
    equalise_claims.check_random(seed)


@settings(max_examples=25)
@given(seed=st.integers(100, 10_000), high=st.sampled_from([1.0, 3.0, 6.0, 20.0]), both=st.booleans())
def test_no_result_moves_where_channels_stay_below_clips(seed: int, high: float, both: bool) -> None:
    equalise_claims.check_clipped(seed, -high if both else 0.0, high)


def test_a_channel_that_comes_near_the_end_of_a_clip_says_so() -> None:
    model, first, _ = equalise_claims.clipped(1, 0.0, 6.0)
    low, high = np.full(8, -1.0), np.array([5.9, 3.1, 3.0, 2.9, 0.01, 1.0, 0.5, 4.0])
    seen = {**seen_in(model, feeds_of(model)), first: (low, high)}
    found = equalise(model, seen, past_clips=True)
    assert np.all(found.factors[first][[0, 1, 7]] == 1.0)
    assert found.factors[first][4] != 1.0
    assert np.all(high / found.factors[first] <= np.maximum(high, 3.0 + 1e-9))
    assert found.layers[0].reason == "Clip 'Clip1' has one end for all channels, and channels reach more than 50% of it"


def test_a_float32_file_stays_one_and_runs() -> None:
    model = random_graph(3, np.float32)
    feeds = {name: array.astype(np.float32) for name, array in feeds_of(model).items()}
    found = equalise(model, channel_extremes(model, [feeds]))
    assert found.factors
    expected, got = OnnxRuntime(model).run(feeds), OnnxRuntime(found.model).run(feeds)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5 * np.abs(expected[name]).max())


def test_extremes_are_those_of_the_float64_interpreter() -> None:
    model = random_graph(5, np.float32)
    feeds = {name: array.astype(np.float32) for name, array in feeds_of(model).items()}
    exact = seen_in(model, {name: array.astype(np.float64) for name, array in feeds.items()})
    found = channel_extremes(model, [feeds])
    checked = [name for name in found if len(found[name][0]) == len(exact[name][0])]
    assert len(checked) >= 4
    for name in checked:
        size = np.abs(exact[name]).max()
        np.testing.assert_allclose(found[name], exact[name], atol=1e-5 * max(size, 1.0))


def test_of_a_tensor_with_nan_in_it_nothing_is_known() -> None:
    g = Graph(5, (1, 3, 4, 4), np.float32)
    model = g.model(g.conv(g.node("Relu", [g.conv("x", 4)], (1, 4, 4, 4)), 2))
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32)
    spoiled = np.where(np.arange(4) == 2, np.float32(np.nan), x)
    assert len(channel_extremes(model, [{"x": x}])) == 3
    assert channel_extremes(model, [{"x": x}, {"x": spoiled}]) == channel_extremes(model, []) == {}


def reason_of(g: Graph, *outputs: str, seen: bool = False) -> str:
    """Why no output channel of the first layer got a factor; the result is the same all the same."""
    model = g.model(*outputs)
    feeds = feeds_of(model)
    found = equalise(model, seen_in(model, feeds) if seen else None)
    check_same(model, found.model, feeds)
    assert found.layers[0].scaled == 0
    return found.layers[0].reason


def test_an_output_of_the_graph_is_left_alone() -> None:
    g = Graph(0, (2, 3, 4, 4))
    first = g.conv("x", 6, 3)
    last = g.conv(g.node("Relu", [first], g.shapes[first]), 3)
    assert reason_of(g, last, first) == f"'{first}' is an output of the graph"


def test_what_another_operator_reads_is_left_alone() -> None:
    g = Graph(0, (2, 3, 4, 4))
    first = g.conv("x", 6, 3)
    soft = g.node("Softmax", [first], g.shapes[first], axis=1)
    assert reason_of(g, g.conv(soft, 3)) == f"Softmax 'Softmax1' reads '{first}'"


@pytest.mark.parametrize("seen", [False, True])
def test_a_clip_at_six_leaves_channels_alone(seen: bool) -> None:
    g = Graph(0, (2, 3, 4, 4))
    first = g.conv("x", 6, 3)
    clip = g.node("Clip", [first, g.const(np.array(0.0)), g.const(np.array(6.0))], g.shapes[first])
    assert reason_of(g, g.conv(clip, 3), seen=seen) == "Clip 'Clip1' has one end for all channels"


def test_a_weight_of_two_layers_keeps_both_alone() -> None:
    g = Graph(0, (2, 3, 4, 4))
    first = g.node("Relu", [g.conv("x", 6, 1)], (2, 6, 4, 4))
    shared = g.const(g.uneven(6, 6, 1, 1, along=0))
    second = g.node("Conv", [first, shared], (2, 6, 4, 4))
    third = g.node("Conv", [g.node("Relu", [second], (2, 6, 4, 4)), shared], (2, 6, 4, 4))
    assert "reads" in reason_of(g, third)


def test_channels_that_are_empty_or_read_by_nobody_get_no_factor() -> None:
    g = Graph(0, (2, 3, 4, 4))
    weight = g.uneven(6, 3, 1, 1, along=0)
    weight[2] = 0.0
    first = g.node("Relu", [g.node("Conv", ["x", g.const(weight)], (2, 6, 4, 4))], (2, 6, 4, 4))
    second = g.uneven(4, 6, 1, 1, along=0)
    second[:, 3] = 0.0
    model = g.model(g.node("Conv", [first, g.const(second)], (2, 4, 4, 4)))
    found = equalise(model)
    factors = found.factors[first]
    assert factors[2] == factors[3] == 1.0
    assert np.all(factors[[0, 1, 4, 5]] != 1.0)
    check_same(model, found.model, feeds_of(model))


def _mutation(claim: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(claim, f"precision/int8/{file}", old, new)


MUTATIONS = (
    _mutation(
        "rows are divided", "equalise.py", "/ made.reshape(groups, -1, 1, 1)", "* made.reshape(groups, -1, 1, 1)"
    ),
    _mutation("biases are divided", "equalise.py", "bias / made, fresh", "bias, fresh"),
    _mutation("constants are divided", "equalise.py", "array / divisor, fresh", "array, fresh"),
    _mutation(
        "tensors are evened out by what was seen", "equalise.py", "_of_tensors(seen, factors) if seen", "reads if 0"
    ),
    _mutation("a factor is a square root", "equalise.py", "np.sqrt(makes[known] / reads[known])", "1.0"),
    _mutation(
        "groups count their own inputs", "weights.py", "grouped.swapaxes(1, 2)\n\n\ndef as", "grouped\n\n\ndef as"
    ),
    _mutation("outputs are held", "links.py", "if value.is_graph_output():", "if False:"),
    _mutation("other operators hold", "links.py", 'if not done and kind not in ("Shape", "Size"):', "if False:"),
    _mutation(
        "operands of an addition share",
        "links.py",
        "            self.shared.join(first[1], self.channels[value][1])",
        "",
    ),
    _mutation(
        "a constant is no divisor's numerator",
        "links.py",
        'if op(node) == "Mul" else [(first, second)]',
        "if True else []",
    ),
    _mutation("padding is of zeros", "moved_channels.py", "given is None or np.any(given != 0)", "given is None"),
    _mutation("a Clip at a number holds", "links.py", "if not set(ends) <= {0.0, np.inf, -np.inf}:", "if False:"),
    _mutation("channels near the end of a Clip are held", "links.py", "if share > BELOW:", "if False:"),
    _mutation("factors keep channels below a Clip", "links.py", "share / BELOW)", "0.0)"),
    _mutation(
        "the least factor is that of all that share it",
        "equalise.py",
        "np.clip(factors * step, least, _MOST)",
        "np.clip(factors * step, 1 / _MOST, _MOST)",
    ),
    _mutation("both ends of a Clip count", "links.py", "np.max(shares, axis=0)", "shares[-1]"),
    _mutation("a Clip is passed where asked for", "equalise.py", "extremes if past_clips else None", "extremes"),
    _mutation("flattening repeats channels", "moved_channels.py", "np.repeat(numbers, each)", "np.tile(numbers, each)"),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_equalisation_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.equalise_claims", tmp_path)
