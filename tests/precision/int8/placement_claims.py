"""What placement must hold, as plain functions: run by pytest, and against broken copies of the library."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import numpy as np

from normexport.precision.int8.min_cut import SINK, SOURCE, smallest_cut
from normexport.precision.int8.placement import GUARD, PlacementPoint, choose
from normexport.precision.int8.placement_costs import (
    Costs,
    Parts,
    Sample,
    Tensor,
    cheapest,
    cheapest_with_some,
    fit,
    seconds_of,
)
from normexport.timing.kernels import Kernel

NOTHING: dict[str, float] = {}


def all_subsets(names: Collection[str]) -> list[frozenset[str]]:
    return [frozenset(each) for size in range(len(names) + 1) for each in itertools.combinations(sorted(names), size)]


def sum_of(parts: Parts, costs: Costs, out: Collection[str], penalties: Mapping[str, float] = NOTHING) -> float:
    """The sum that placement makes least, written out."""
    total = 0.0
    for module in parts.modules:
        total += costs.float32[module] if module in out else costs.int8[module] + penalties.get(module, 0.0)
    for tensor in parts.tensors:
        in_int8 = {each: each is not None and each not in out for each in (tensor.maker, *tensor.readers)}
        if any(in_int8[reader] != in_int8[tensor.maker] for reader in tensor.readers):
            total += costs.number * tensor.numbers
    return total


def random_case(seed: int) -> tuple[Parts, Costs, dict[str, float]]:
    dice = np.random.default_rng(seed)
    names = tuple(f"m{index}" for index in range(int(dice.integers(1, 7))))
    choices = [None, *names]
    tensors = []
    for _ in range(int(dice.integers(0, 9))):
        maker = choices[int(dice.integers(len(choices)))]
        readers = frozenset(choices[int(dice.integers(len(choices)))] for _ in range(int(dice.integers(1, 4))))
        tensors.append(Tensor(maker, readers, int(dice.integers(0, 50))))
    int8, float32 = ({each: float(dice.integers(0, 40)) for each in names} for _ in range(2))
    costs = Costs(int8, float32, float(dice.random()))
    return Parts(names, tuple(tensors), {}), costs, {each: float(dice.integers(0, 20)) for each in names}


def cuts_are_smallest(seeds: range = range(60)) -> None:
    """No other way to part a random graph costs less."""
    for seed in seeds:
        dice = np.random.default_rng(seed)
        inner = [f"v{index}" for index in range(int(dice.integers(1, 6)))]
        ends = [SOURCE, SINK, *inner]
        edges = {
            (a, b): float(dice.integers(1, 30)) for a in ends for b in ends if a != b and dice.random() < 0.5
        }  # fmt: skip

        def cost(inside: Collection[object], edges: Mapping[tuple[str, str], float] = edges) -> float:
            kept = {SOURCE, *inside}
            return sum(each for (a, b), each in edges.items() if a in kept and b not in kept)

        found = smallest_cut(dict(edges.items()))
        assert found <= set(inner), found
        least = min(map(cost, all_subsets(inner)))
        assert abs(cost(found) - least) < 1e-9, (seed, cost(found), least)


def placements_are_cheapest(seeds: range = range(150)) -> None:
    """Of all placements of few modules none takes less, with penalties and without; the sum is what it says."""
    for seed in seeds:
        parts, costs, penalties = random_case(seed)
        for prices in ({}, penalties):
            found = cheapest(parts, costs, prices)
            least = min(sum_of(parts, costs, out, prices) for out in all_subsets(parts.modules))
            assert abs(sum_of(parts, costs, found, prices) - least) < 1e-9, seed
        some = cheapest_with_some(parts, costs)
        least = min(sum_of(parts, costs, out) for out in all_subsets(parts.modules) if len(out) < len(parts.modules))
        assert len(some) < len(parts.modules)
        assert abs(sum_of(parts, costs, some) - least) < 1e-9, seed
        for out in all_subsets(parts.modules):
            assert abs(seconds_of(parts, costs, out) - sum_of(parts, costs, out)) < 1e-9, seed


def costs_are_found_again(seeds: range = range(30)) -> None:
    """Of kernels made by known costs, with words of the runtime behind their names, these costs are fitted."""
    for seed in seeds:
        parts, costs, _ = random_case(seed)
        parts = Parts(parts.modules, parts.tensors, {**{f"node_{each}": each for each in parts.modules}, "mean": None})
        samples = []
        for out in (frozenset[str](), frozenset[str](), frozenset(parts.modules)):
            seconds = costs.float32 if out else costs.int8
            kernels = [Kernel(f"node_{each}_token_3", "QLinearConv", seconds[each] / 2) for each in parts.modules]
            kernels += [Kernel(f"node_{each}/WithoutBiases", "Conv", seconds[each] / 2) for each in parts.modules]
            kernels += [Kernel("mean", "ReduceMean", 1000.0), Kernel("mean_nchwc", "Transpose", 0.0)]
            changed = sum(each.numbers for each in parts.tensors if each.changes(out))
            kernels += [Kernel("node_m0_QuantizeLinear", "QuantizeLinear", costs.number * changed / 2)]
            kernels += [Kernel("Transpose_token_9", "Transpose", costs.number * changed / 2)]
            samples.append(Sample(out, tuple(kernels)))
        found = fit(parts, samples)
        for name in parts.modules:
            assert abs(found.int8[name] - costs.int8[name]) < 1e-9, (seed, name)
            assert abs(found.float32[name] - costs.float32[name]) < 1e-9, (seed, name)
        if any(each.changes(()) or each.changes(parts.modules) for each in parts.tensors if each.numbers):
            assert abs(found.number - costs.number) < 1e-9, seed


def the_guard_holds(seeds: range = range(300)) -> None:
    """What is kept holds the limits where anything does, is near the fastest, and the most accurate of these."""
    for seed in seeds:
        dice = np.random.default_rng(seed)
        points = [PlacementPoint((), float(dice.normal(30, 5)), None, bool(dice.random() < 0.8))]
        points += [
            PlacementPoint((f"m{index}",), float(dice.normal(30, 5)), None, bool(dice.random() < 0.7), float(ratio))
            for index, ratio in enumerate(dice.normal(1.0, 0.03, int(dice.integers(0, 6))))
        ]
        kept, good = points[choose(points)], [each for each in points if each.holds]
        if not good:
            assert kept is points[0]
            continue
        fastest = min(each.ratio for each in good)
        assert kept.holds
        assert kept.ratio <= fastest * (1 + GUARD)
        assert all(each.snr_db <= kept.snr_db for each in good if each.ratio <= fastest * (1 + GUARD))
        if points[0].holds:
            assert kept.ratio <= 1 + GUARD


CLAIMS = (cuts_are_smallest, placements_are_cheapest, costs_are_found_again, the_guard_holds)
