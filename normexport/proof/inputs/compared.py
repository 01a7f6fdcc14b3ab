"""What graphs ask of the numbers of their inputs: such numbers are among the inputs, as chance would not bring them.

A token that stands for padding, -999 for a value that is missing, a NaN that is replaced, a ceiling at 20, two inputs
that are the same: random numbers hardly meet one, and a candidate that treats it otherwise would pass. So the constants
that either graph compares an input with are tried, and numbers on both sides of them; and the rows at which the tables
of the two differ most.

An input is followed while it stays a*x + b. Where floats are asked for equality, only as it came in: after arithmetic
float32 and float64 need not agree on what is equal, and both be right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import zip_longest

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT32, HALVES
from normexport.graphs.inline import in_one_graph
from normexport.onnx_export import InputSpec
from normexport.onnx_export.inputs import type_range
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.following import Reached, constant_numbers, uses_of
from normexport.proof.inputs.integer_bounds import Bounds
from normexport.proof.inputs.random import as_read
from normexport.runtime import Array

_ORDERED = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Min", "Max", "Clip")
_AT_ZERO = ("Abs", "Sign", "Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu")  # they ask for 0 without saying it
_LIMITS = {"Clip": ("min", "max"), "ThresholdedRelu": ("alpha",), "Shrink": ("lambd",)}  # as attributes
_MOST_OF_ONE = 16  # numbers of one constant
_MOST = 64  # numbers of one input
_ROWS = 16  # of a table that differs
_LARGE = 1e6  # limits beyond are those of types, and masks' numbers
_SIZES = (2, 3, 5)  # of loops, beside none and one
_LARGEST_SIZE = 64  # that is no danger to the memory
_SHARE = 4  # one number in four is replaced
_BATCHES = 8  # of one input
_TOLD = 3  # numbers in a batch's name
_PAIRS = 16
_ALONE = 32  # batches, where each has numbers of one input


def asked_batches(
    pattern: Batch,
    graphs: Sequence[ir.Model],
    specs: Sequence[InputSpec],
    bounds: Mapping[str, Bounds],
    seed: int,
    *,
    one_by_one: bool = False,
) -> tuple[list[Batch], list[str]]:
    """Like `pattern`, with numbers that `graphs` ask of inputs, or with two inputs that are equal in places.

    Args:
        one_by_one: one number of one input in a batch, or those of one input where they are too many, and not those of
            all inputs: where a reference breaks at some.

    Returns:
        The batches, and words on those that would be too many.
    """
    graphs = [in_one_graph(graph) for graph in graphs]
    asked = {
        spec.name: () if spec.dtype == "bool" else numbers_asked(graphs, spec, bounds.get(spec.name)) for spec in specs
    }
    alone = one_by_one and sum(map(len, asked.values())) <= _ALONE
    finite: list[list[Batch]] = []
    special: dict[str, list[list[Batch]]] = {}
    for spec in specs:
        numbers = asked[spec.name]
        whole = [number for number in numbers if math.isfinite(number)]
        if whole:
            parts = [[number] for number in whole] if alone else [whole]
            finite.append([batch for part in parts for batch in batches_with(pattern, spec, part, seed)])
        for number in numbers[len(whole) :]:  # alone: more references break at these
            special.setdefault(str(number), []).append(list(batches_with(pattern, spec, [number], seed)))
    groups = [finite, *special.values()]
    found = [batch for group in groups for each in group for batch in each]
    if not one_by_one:
        found = [batch for group in groups for batch in _together(pattern, group)]
    pairs = inputs_compared(graphs, specs)
    words = [f"{len(pairs) - _PAIRS} pairs of inputs that a file compares were not made equal"][: len(pairs) > _PAIRS]
    if len(found) > _ALONE:
        words.append(f"{len(found) - _ALONE} times numbers that a file asks for were not fed")
    return [*found[:_ALONE], *(batch_of_equals(pattern, *pair, seed) for pair in pairs[:_PAIRS])], words


def _together(pattern: Batch, groups: Sequence[Sequence[Batch]]) -> Iterator[Batch]:
    """The first batches of all groups as one, the second as one, and so on: each group has changed another input."""
    for parts in zip_longest(*groups):
        made = [part for part in parts if part is not None]
        if len(made) == 1:
            yield made[0]
            continue
        changed = {
            name: array for part in made for name, array in part.feeds.items() if array is not pattern.feeds[name]
        }
        name = f"{pattern.name}, numbers asked for in {len(made)} inputs"
        yield replace(pattern, name=name, feeds={**pattern.feeds, **changed})


def numbers_asked(graphs: Sequence[ir.Model], spec: InputSpec, bounds: Bounds | None = None) -> tuple[float | int, ...]:
    """The numbers, in order, that the graphs ask the input for, as far as its type and its bounds hold them.

    Args:
        graphs: of which two may hold tables of one shape that the input indexes: rows that differ are asked for.
        bounds: what the reference allows on it.
    """
    starts = [value for graph in graphs for value in graph.graph.inputs if value.name == spec.name]
    found = {number for start in starts for number in _asked_of(start, spec.floating)}
    found |= set(_differing_rows(starts))
    if bounds is not None and bounds.is_size:
        found = {*map(Fraction, _SIZES), *(number for number in found if number <= _LARGEST_SIZE)}
        bounds = None
    kept = sorted({number for number in (_as_typed(spec, each) for each in found) if number is not None})
    within = [number for number in kept if _is_within(number, spec, bounds)]
    special = [value for value in (math.nan, math.inf, -math.inf) if spec.floating and _asks_for(starts, value)]
    return (*_spread(within, _MOST - len(special)), *special)


def inputs_compared(graphs: Sequence[ir.Model], specs: Sequence[InputSpec]) -> list[tuple[str, str]]:
    """Pairs of inputs of one shape that a graph asks whether their elements are equal."""
    known = {spec.name: spec for spec in specs}
    pairs: dict[tuple[str, str], None] = {}
    for graph in graphs:
        meets: dict[int, list[str]] = {}
        for start in graph.graph.inputs:
            for node, _, reached in uses_of(start):
                if node.op_type == "Equal" and reached.linear and reached.factor:
                    meets.setdefault(id(node), []).append(str(start.name))
        for names in meets.values():
            if len(set(names)) == 2 and all(name in known for name in names):
                first, second = (known[name] for name in names[:2])
                if first.sized(1) == second.sized(1) and first.dtype == second.dtype:
                    pairs[first.name, second.name] = None
    return list(pairs)


def batches_with(pattern: Batch, spec: InputSpec, numbers: Sequence[float | int], seed: int) -> Iterator[Batch]:
    """Like `pattern`, with these numbers of one input at random places: a quarter of them, or as many as it takes."""
    array = pattern.feeds[spec.name]
    step = max(1, min(array.size, max(len(numbers), array.size // _SHARE)))
    rng = np.random.default_rng(seed)
    for start in range(0, min(len(numbers), _BATCHES * step), step):
        part = numbers[start : start + step]
        changed = array.copy()
        places = rng.permutation(array.size)[: max(len(part), array.size // _SHARE)]
        changed.flat[places] = np.resize(np.asarray(part, array.dtype), len(places))
        words = ", ".join(f"{number:g}" if spec.floating else str(number) for number in part[:_TOLD])
        more = f" and {len(part) - _TOLD} more" if len(part) > _TOLD else ""
        name = f"{pattern.name}, {spec.name} with {words}{more}"
        yield replace(pattern, name=name, feeds={**pattern.feeds, spec.name: as_read(changed, spec)})


def batch_of_equals(pattern: Batch, first: str, second: str, seed: int) -> Batch:
    """Like `pattern`, with `second` as `first` at half of the places."""
    ours, theirs = pattern.feeds[first], pattern.feeds[second]
    where = np.random.default_rng(seed).random(ours.shape) < 1 / 2
    where.flat[:1] = True
    feeds = {**pattern.feeds, second: np.where(where, ours, theirs)}
    return replace(pattern, name=f"{pattern.name}, {second} as {first} in places", feeds=feeds)


def _asked_of(start: ir.Value, floating: bool) -> Iterator[Fraction]:
    for node, position, reached in uses_of(start):
        if not reached.linear or not reached.factor:
            continue
        if node.op_type == "Equal" and (not floating or _is_as_it_came(reached)):
            yield from (reached.at(c) for c in _constants(node, position))
        if node.op_type == "Equal" and floating:
            continue
        if node.op_type in (*_ORDERED, *_LIMITS, "Equal") or _asks_for_zero(node):
            yield from _both_sides(reached, _constants(node, position), floating)


def _both_sides(reached: Reached, constants: Sequence[float], floating: bool) -> Iterator[Fraction]:
    """For each constant, the x beside those that give it; of floats as far off as no rounding takes them."""
    for c in constants:
        if floating and abs(c) > _LARGE:
            continue
        margin = Fraction(max(1.0, abs(c))) / 2 if floating else abs(reached.factor)
        ends = {reached.at(c, of_least=least) for least in (True, False)}
        for x in ends:
            yield from (x - margin / abs(reached.factor), x + margin / abs(reached.factor))
        if not floating:
            yield from ends


def _constants(node: ir.Node, position: int) -> list[float]:
    """What a node compares the value at `position` with: some numbers of its constants, and of its attributes."""
    found = [0.0] if _asks_for_zero(node) and position == 0 else []
    for other, value in enumerate(node.inputs):
        numbers = constant_numbers(value) if other != position else None
        if numbers is not None:
            found += _spread(np.unique(numbers).tolist(), _MOST_OF_ONE)
    attributes = (node.attributes.get_float(name, math.nan) for name in _LIMITS.get(node.op_type, ()))
    return [*found, *(limit for limit in attributes if limit is not None and math.isfinite(limit))]


def _asks_for(starts: Sequence[ir.Value], value: float) -> bool:
    """Whether a graph asks if the input is NaN, as x != x does too, or infinite."""
    for start in starts:
        for node, _, reached in uses_of(start):
            if reached.linear and (
                node.op_type == ("IsNaN" if math.isnan(value) else "IsInf")
                or (math.isnan(value) and node.op_type == "Equal" and node.inputs[0] is node.inputs[1])
            ):
                return True
    return False


def _asks_for_zero(node: ir.Node) -> bool:
    to_bool = node.op_type == "Cast" and node.attributes.get_int("to", 0) == ir.DataType.BOOL
    return to_bool or node.op_type in _AT_ZERO


def _is_as_it_came(reached: Reached) -> bool:
    return reached.factor == 1 and reached.least == reached.most == 0


def _differing_rows(starts: Sequence[ir.Value]) -> Iterator[Fraction]:
    """Where tables that the input indexes in two graphs, of one shape, differ most: the indices of those rows."""
    if len(starts) != 2:
        return
    ours, theirs = ([*_tables(start)] for start in starts)
    for table, reached in ours:
        for index, (other, _) in enumerate(theirs):
            if table.shape == other.shape:
                del theirs[index]
                yield from (reached.at(row) for row in _worst_rows(table, other))
                break


def _tables(start: ir.Value) -> Iterator[tuple[Array, Reached]]:
    for node, position, reached in uses_of(start):
        if node.op_type == "Gather" and position == 1 and reached.linear and reached.factor:
            tensor = None if node.inputs[0] is None else ir.convenience.get_const_tensor(node.inputs[0])
            if tensor is not None and tensor.shape.rank() and not node.attributes.get_int("axis", 0):
                yield tensor.numpy(), reached


def _worst_rows(table: Array, other: Array) -> list[int]:
    """At most `_ROWS` of (rows, ...) that are not the same in both, those that differ most."""
    if table.dtype.kind not in "fiub" or other.dtype.kind not in "fiub":
        return []
    differences = np.empty(len(table))
    for start in range(0, len(table), 1024):
        part = slice(start, start + 1024)
        apart = np.abs(table[part].astype(np.float64) - other[part].astype(np.float64))
        differences[part] = np.nan_to_num(apart, nan=np.inf).reshape(len(apart), -1).max(axis=1, initial=0)
    worst = np.argsort(-differences, kind="stable")[:_ROWS]
    return [int(row) for row in worst if differences[row] > 0]


def _as_typed(spec: InputSpec, number: Fraction) -> float | int | None:
    """The number as the input holds it; None where it does not."""
    if not spec.floating:
        least, most = type_range(spec.dtype)
        whole = math.floor(number)
        return whole if least <= whole <= most else None
    largest = HALVES[spec.dtype].largest if spec.dtype in HALVES else FLOAT32.largest
    return float(np.float32(float(number))) if abs(number) <= largest else None


def _is_within(number: float | int, spec: InputSpec, bounds: Bounds | None) -> bool:
    if spec.bounds is not None and not spec.bounds[0] <= number <= spec.bounds[1]:
        return False
    low, high = (None, None) if bounds is None else (bounds.low, bounds.high)
    return (low is None or low <= number) and (high is None or number <= high)


def _spread(numbers: Sequence[float], most: int) -> list[float]:
    """At most `most` of them, the ends among these."""
    if len(numbers) <= most:
        return [*numbers]
    return [numbers[index] for index in np.linspace(0, len(numbers) - 1, most).astype(int)]
