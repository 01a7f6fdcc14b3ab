"""Which numbers the integer inputs are tried at: what the graph allows, else ever wider ranges until something breaks.

What breaks is the reference: it refuses the numbers, or in its own precision gives no finite number, or one that is far
from its float64. There the ladder ends, and no candidate is blamed; below, a candidate has to keep up. So a half
precision that turns times or sums of money into infinities is seen, and a table of 50 rows is not asked for row 255.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from normexport.onnx_export import InputSpec, smallest_batch
from normexport.proof.inputs.batches import Batch, are_large, standard_batches
from normexport.proof.inputs.bearing import (
    REFUSES,
    Outputs,
    allowed_beside,
    break_in,
    breaking,
    difference,
    distance,
    outcome,
)
from normexport.proof.inputs.compared import asked_batches
from normexport.proof.inputs.flags import settings, switches
from normexport.proof.inputs.integer_bounds import Bounds, integer_bounds
from normexport.proof.inputs.lengths import lengths_left_out
from normexport.proof.inputs.random import LOWEST, Range, clip_range, random_array, rungs_of
from normexport.proof.inputs.sweep import sweeps
from normexport.proof.ties import has_quantisers
from normexport.runtime import Array, Runtime, release_memory

if TYPE_CHECKING:
    from normexport.proof.check import Factory

_PROBES = 24  # runs at most to find where a range breaks: exact for tables
_NEAR = 1.01  # an overflow is found when its numbers are known to 1 %


@dataclass(frozen=True)
class Tried:
    """The inputs that both sides are fed, and in words which whole numbers were tried."""

    batches: tuple[Batch, ...]
    notes: tuple[str, ...] = ()


def choose_batches(
    specs: Sequence[InputSpec],
    data: Mapping[str, Array] | None = None,
    *,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    graph: ir.Model | None = None,
    own: Factory | None = None,
    exact: Factory | None = None,
    compared: Sequence[ir.Model] = (),
) -> Tried:
    """Real inputs first, then random ones, integers over the ranges that the reference bears.

    Args:
        specs, data, sizes, seed: as `standard_batches` takes them.
        graph: an ONNX form of the model, for the tables that its inputs index.
        own: makes the reference in its own precision. Without it integers that nothing bounds are 0 and 1.
        exact: makes the reference in float64.
        compared: ONNX forms of reference and candidate; numbers that they compare inputs with are tried too.

    Raises:
        UsageError: see `standard_batches`.
    """
    bounds = integer_bounds(graph) if graph is not None else {}
    zeros = graph is None or not has_quantisers(graph)  # the 0 of an even grid lies at the half of a step
    ranges: dict[str, tuple[Range, ...]] = {}
    notes: dict[str, str] = {}
    free = []
    for spec in specs:
        if not spec.integer:
            continue
        ranges[spec.name] = rungs_of(spec)[:1]
        if spec.bounds is not None:
            notes[spec.name] = f"{_words(ranges[spec.name][0])} as --input says"
            continue
        bound = bounds.get(spec.name)
        rungs = _allowed_ranges(spec, bound)
        ranges[spec.name] = rungs[:1]
        notes[spec.name] = _words(rungs[-1]) + (f", {bound.reason}" if bound is not None else "")
        if len(rungs) > 1:
            free.append((spec, rungs))
    if free and own is not None:
        climb = _Climb(specs, seed, ranges, notes)
        climb.up(own(), free)
        release_memory()
        if exact is not None:
            climb.down(exact())
            release_memory()
        ranges = {name: _thin_out(each, specs) for name, each in climb.ranges.items()}
    batches = standard_batches(specs, data, sizes=sizes, seed=seed, ranges=ranges, zeros=zeros)
    while own is not None and (level := _first_not_borne(batches, own, exact)) is not None:
        ranges = {name: each[:level] for name, each in ranges.items()}
        for name, each in ranges.items():
            if name in {spec.name for spec, _ in free}:
                notes[name] = f"{_words(each[-1])}; in more, all together, the reference itself breaks"
        batches = standard_batches(specs, data, sizes=sizes, seed=seed, ranges=ranges, zeros=zeros)
    words = [f"{name}: whole numbers tried: {tried}" for name, tried in notes.items()]
    if own is None:
        return Tried(batches, (*words, *lengths_left_out(specs)))
    pattern = next(batch for batch in batches if not batch.real)
    asked, unasked = _asked(pattern, compared, specs, bounds, seed, own, exact)
    swept, unfed = list[Batch](), list[str]()
    if compared and graph is not None:
        most = {} if sizes is None else {"most": max(sizes)}
        rows = integer_bounds(graph, guarded=True)
        swept, unfed = sweeps([*batches, *asked], specs, rows, ranges, graph, seed, **most)
    further, left_out = _borne(pattern, [*_switched(batches, specs, ranges, seed), *swept], own, exact)
    told = (*words, *unasked, *unfed, *left_out, *lengths_left_out(specs))
    return Tried((*batches, *asked, *further), told)


def _asked(
    pattern: Batch,
    compared: Sequence[ir.Model],
    specs: Sequence[InputSpec],
    bounds: Mapping[str, Bounds],
    seed: int,
    own: Factory,
    exact: Factory | None,
) -> tuple[list[Batch], list[str]]:
    """Batches with numbers that are asked for, which the reference bears: of all inputs at once, or of each alone."""
    batches, words = asked_batches(pattern, compared, specs, bounds, seed)
    kept, left_out = _borne(pattern, batches, own, exact)
    if left_out:
        alone, words = asked_batches(pattern, compared, specs, bounds, seed, one_by_one=True)
        kept, left_out = _borne(pattern, alone, own, exact)
    return kept, [*words, *left_out]


def _switched(
    batches: Sequence[Batch], specs: Sequence[InputSpec], ranges: Mapping[str, Sequence[Range]], seed: int
) -> list[Batch]:
    """Batches with the settings of the switches that none has yet."""
    flags = [spec.name for spec in switches(specs)]
    pattern = next(batch for batch in batches if not batch.real)
    known = [{name: int(batch.feeds[name].item()) for name in flags} for batch in batches]
    new = []
    for setting in settings(specs, ranges, seed):
        if setting not in known:
            known.append(setting)
            new.append(_set_to(pattern, setting))
    return new


def _borne(pattern: Batch, new: Sequence[Batch], own: Factory, exact: Factory | None) -> tuple[list[Batch], list[str]]:
    """Those of the batches that the reference bears as it does `pattern`, and a word about each other."""
    broken = breaking([pattern, *new], own, exact) if new else set()
    kept = [batch for number, batch in enumerate(new, 1) if number not in broken]
    return kept, [f"left out, as the reference breaks there: {new[number - 1].name}" for number in sorted(broken)]


def _set_to(pattern: Batch, setting: Mapping[str, int]) -> Batch:
    """The same batch with these values of its switches."""
    feeds = dict(pattern.feeds)
    for name, value in setting.items():
        feeds[name] = np.full_like(feeds[name], value)
    words = ", ".join(f"{name} {feeds[name].item()}" for name in setting)
    return replace(pattern, name=f"{pattern.name}, {words}", feeds=feeds)


def _allowed_ranges(spec: InputSpec, bound: Bounds | None) -> tuple[Range, ...]:
    """The ladder within what the graph says; one range where it says both ends."""
    if bound is None:
        return rungs_of(spec)
    whole = clip_range(spec, bound.low, bound.high)
    if whole is None:
        return (LOWEST,)
    if bound.low is not None and bound.high is not None:
        return (whole,)
    low = whole[0] if bound.low is not None else 0
    rungs = [(low, max(low, min(high, whole[1]))) for _, high in rungs_of(spec)]
    return tuple(dict.fromkeys(rungs))


def _thin_out(rungs: tuple[Range, ...], specs: Sequence[InputSpec]) -> tuple[Range, ...]:
    """Of large inputs the lowest range and the two widest: each costs a run of the float64 reference."""
    return (*rungs[:1], *rungs[1:][-2:]) if are_large(specs) else rungs


class _Climb:
    """One input after the other goes up its ladder, the others at their lowest range, at the smallest batch."""

    def __init__(
        self, specs: Sequence[InputSpec], seed: int, ranges: Mapping[str, tuple[Range, ...]], notes: dict[str, str]
    ) -> None:
        self._specs, self._seed = specs, seed
        self.ranges, self.notes = dict(ranges), notes
        self._lowest: Outputs = {}
        self._found: dict[str, list[tuple[Range, Outputs]]] = {}

    def up(self, own: Runtime, free: Sequence[tuple[InputSpec, tuple[Range, ...]]]) -> None:
        """Widen each range until the reference's own precision breaks, and find the widest that does not."""
        lowest = self._run(own, {})
        if isinstance(lowest, str):
            return  # it does not run at all: that is told where it is judged
        self._lowest = lowest
        for spec, rungs in free:
            self._found[spec.name] = []
            self._one_up(own, spec, rungs)

    def _one_up(self, own: Runtime, spec: InputSpec, rungs: Sequence[Range]) -> None:
        found = self._found[spec.name]
        good = rungs[0]
        for rung in rungs[1:]:
            outputs = self._attempt(own, spec.name, rung)
            if isinstance(outputs, str):
                narrower = self._widest(own, spec.name, good, rung) if rung[0] == good[0] else None
                if narrower is not None:
                    found.append(narrower)
                self.notes[spec.name] = f"{_words((narrower or (good,))[0])}; in {_words(rung)} the reference {outputs}"
                break
            found.append((rung, outputs))
            good = rung
        self.ranges[spec.name] = (rungs[0], *(rung for rung, _ in found))

    def _widest(self, own: Runtime, name: str, good: Range, bad: Range) -> tuple[Range, Outputs] | None:
        """The widest range between one that is borne and one that is not, by halving."""
        low, high, best, why = good[1], bad[1], None, REFUSES
        for _ in range(_PROBES):
            if high - low <= 1 or (why != REFUSES and high <= low * _NEAR):
                break
            middle = math.isqrt(low * high) if high > 16 * low > 0 else (low + high) // 2
            outputs = self._attempt(own, name, (good[0], middle))
            if isinstance(outputs, str):
                high, why = middle, outputs
            else:
                low, best = middle, ((good[0], middle), outputs)
        return best

    def down(self, exact: Runtime) -> None:
        """Leave the ranges out, from the first on, at which the own precision is far from float64."""
        lowest = self._run(exact, {}) if self._lowest else REFUSES
        if isinstance(lowest, str):
            return
        allowed = allowed_beside(distance(lowest, self._lowest))
        for name, found in self._found.items():
            for index, (rung, outputs) in enumerate(found):
                reference = self._run(exact, {name: rung})
                off = difference(reference, outputs)
                if not off <= allowed:
                    self.ranges[name] = self.ranges[name][: index + 1]
                    why = reference if isinstance(reference, str) else f"is {off:.2g} off its float64"
                    self.notes[name] = f"{_words(self.ranges[name][-1])}; in {_words(rung)} the reference itself {why}"
                    break

    def _run(self, runtime: Runtime, at: Mapping[str, Range]) -> Outputs | str:
        rng = np.random.default_rng(self._seed)
        size = smallest_batch(self._specs)
        feeds = {
            spec.name: random_array(rng, spec, size, 1.0, at.get(spec.name) or self._start(spec))
            for spec in self._specs
        }
        return outcome(runtime, feeds)

    def _start(self, spec: InputSpec) -> Range:
        return self.ranges.get(spec.name, (LOWEST,))[0]

    def _attempt(self, own: Runtime, name: str, rung: Range) -> Outputs | str:
        """The outputs, or what the reference does instead of giving finite ones where it gave such before."""
        outputs = self._run(own, {name: rung})
        return break_in(outputs, self._lowest) or outputs


def _first_not_borne(batches: Sequence[Batch], own: Factory, exact: Factory | None) -> int | None:
    """The first level above 0 at which the reference breaks, all inputs together; None where it bears all."""
    lowest = next(batch for batch in batches if batch.level == 0 and not batch.real)
    tested = [lowest, *(batch for batch in batches if batch.level)]
    if len(tested) == 1:
        return None
    broken = breaking(tested, own, exact)
    return min((tested[number].level for number in broken), default=None)


def _words(within: Range) -> str:
    return f"{within[0]}..{within[1]}"
