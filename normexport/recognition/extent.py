"""What a statistic of a sub-graph is taken over, read from which results one changed element touches.

A norm of the last axes, with a scale and a bias along them, is a group norm of one group on rows: (R, L), R the product
of the axes before and L that of the last ones. The same axes can be read in two ways; which of them it is the bias and
the scale say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from normexport.graphs.refusal import Refuse
from normexport.norms import Scope
from normexport.norms.kind import Array
from normexport.recognition.trial import Runner


@dataclass(frozen=True)
class Extent:
    """What one statistic is taken over.

    Attributes:
        num_groups: of channels, where the scope is the group.
        first_axis: of a layer norm, the first of the axes that become a row; 0 where x is taken as it is.
    """

    scope: Scope
    num_groups: int = 1
    first_axis: int = 0

    def laid_out(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of x as the operator takes it."""
        if not self.first_axis:
            return shape
        return math.prod(shape[: self.first_axis]), math.prod(shape[self.first_axis :])

    def rows(self, cube: Array) -> Array:
        """x (N, C, S) with one row per statistic."""
        return self.scope.rows(cube, self.num_groups)

    def by_channel(self, values: Array, channels: int) -> Array:
        """One number per statistic as each channel has it: (C, m), a column per sample or one for all of them."""
        return self.scope.per_channel(values, channels, self.num_groups).T

    def elements(self, shape: tuple[int, ...]) -> int:
        """How many elements one statistic has of an x of this shape, laid out."""
        n, c, *space = shape
        return math.prod(space) * {Scope.BATCH: n, Scope.INSTANCE: 1, Scope.GROUP: c // self.num_groups}[self.scope]


class RowTrial:
    """A trial whose input is laid out in rows, as a layer norm's operator takes it."""

    def __init__(self, trial: Runner, extent: Extent, shapes: Iterable[tuple[int, ...]]) -> None:
        self._trial = trial
        self._shapes = {extent.laid_out(shape): shape for shape in shapes}

    def run(self, x: Array) -> Array:
        """The output for an input (R, L), laid out like it."""
        return self._trial.run(x.reshape(self._shapes[x.shape])).reshape(x.shape)


def read_extents(trial: Runner, x: Array) -> tuple[Extent, ...]:
    """What the statistics may be taken over: one reading, or two that part by the bias and the scale alone.

    Raises:
        Refuse: it is nothing that the operators have.
    """
    y = trial.run(x)
    places = {(0,) * x.ndim, tuple(size - 1 for size in x.shape), tuple(size // 2 for size in x.shape)}
    found = {_counts_touched(trial, x, y, place) for place in places}
    if len(found) > 1 or found == {(1,) * x.ndim}:
        raise Refuse("it does not subtract the mean: one element does not count as another does")
    counts = found.pop()
    extents = tuple(_extents(counts, x.shape))
    if not extents:
        raise Refuse(_other_extent(counts, x.shape))
    return extents


def _extents(counts: tuple[int, ...], shape: tuple[int, ...]) -> Iterable[Extent]:
    """counts: along each axis, how many places one element touches."""
    is_whole = [count == size for count, size in zip(counts, shape, strict=True)]
    is_apart = [count == 1 for count in counts]
    if all(is_whole[2:]) and is_apart[1]:
        if is_whole[0] and counts[0] > 1:
            yield Extent(Scope.BATCH)
        elif is_apart[0]:
            yield Extent(Scope.INSTANCE)
    elif all(is_whole[2:]) and is_apart[0] and shape[1] % counts[1] == 0:
        yield Extent(Scope.GROUP, shape[1] // counts[1])
    for first in range(1, len(shape)):
        if len(shape) > 2 and all(is_apart[:first]) and all(is_whole[first:]) and counts[first] > 1:
            yield Extent(Scope.GROUP, 1, first)


def _counts_touched(trial: Runner, x: Array, y: Array, place: tuple[int, ...]) -> tuple[int, ...]:
    """Along each axis, at how many places results change with one element of the input; at least 1."""
    changed = x.copy()
    changed[place] += 0.75
    touched: NDArray[np.bool_] = np.abs(trial.run(changed) - y) > 1e-13 * np.abs(y).max()
    every = range(x.ndim)
    return tuple(max(1, int(touched.any(axis=tuple(set(every) - {axis})).sum())) for axis in every)


def _other_extent(counts: tuple[int, ...], shape: tuple[int, ...]) -> str:
    touched = [axis for axis, count in enumerate(counts) if count > 1]
    parts = {axis for axis in touched if counts[axis] < shape[axis]}
    listed = ", ".join(map(str, touched))
    if 0 in parts:
        return "its statistics are those of parts of the batch (ghost batches), the operators' of all of it"
    if 1 in parts and 0 not in touched:
        return f"its statistics are those of groups of channels that are not alike (axes {listed})"
    if 0 not in touched and 1 in touched:
        return f"its statistics are over axes {listed} of each sample; the operators' layers are the last axes"
    if 1 in touched and len(shape) - 1 not in touched:
        return f"its statistics are over axes {listed}, its channels on the last axis: the operators' are on axis 1"
    return (
        f"its statistics are over axes {listed}; the operators have those of the batch, of each sample, of groups of "
        "channels and of the last axes"
    )
