"""The numbers of a capsule: inputs as candidates read them, and what the float64 reference makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from normexport.capsule.content import Reference, Rule, Run, Within, count_special, type_name
from normexport.capsule.sampling import places, shares
from normexport.dtypes import array_name
from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.proof import Batch, Row
from normexport.proof.metrics import Float64s
from normexport.proof.signal import Channel
from normexport.runtime import Array, Runtime

#: The rule for an output: (number of the batch, name, the exact value) -> rule.
OutputRule: TypeAlias = Callable[[int, str, Array], Rule]


def runs_of(
    batches: Sequence[Batch],
    reference: Runtime,
    inputs: Sequence[InputSpec],
    model: ir.Model,
    rule: OutputRule,
    most: int,
) -> tuple[dict[int, Run], tuple[str, ...]]:
    """Inputs and outputs by the number of the batch, as far as they fit into `most` bytes; notes on the others.

    Raises:
        UsageError: not even the smallest fits.
    """
    types = {str(value.name): value.dtype for value in model.graph.outputs}
    runs = {}
    for index, batch in enumerate(batches):
        exact = reference.run(batch.feeds)
        outputs = [
            reference_of(name, exact[name], rule(index, name, exact[name]), dtype=type_name(types.get(name)))
            for name in reference.output_names
        ]
        runs[index] = Run(batch.name, batch.size, _round_to_stored(batch.feeds, inputs), tuple(outputs))
    return _fitting(runs, most)


def boundaries_of(rows: Sequence[Row], batch: Batch, reference: Runtime, room: int) -> tuple[Reference, ...]:
    """The boundaries that were judged in `rows`, as far as `room` bytes hold something of them."""
    by_tensor = {row.tensor: row for row in rows}
    sizes = {name: row.candidate.size for name, row in by_tensor.items() if row.candidate is not None}
    kept = {name: count for name, count in shares(sizes, room).items() if count or not sizes[name]}
    found: dict[str, Reference] = {}

    def take(name: str, value: Array) -> None:
        at = places(value.size, kept[name])
        found[name] = reference_of(name, value, budget_rule(by_tensor[name]), at)

    reference.run(batch.feeds, list(kept), take)
    whole = ((row, found.get(row.tensor)) for row in rows)
    return tuple(_at_boundary(row, value) for row, value in whole if value is not None)


def reference_of(
    name: str, value: Array, rule: Rule, at: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None, dtype: str = ""
) -> Reference:
    """A tensor, or its elements at some places; copied, since a runtime's arrays live as long as the call."""
    wide = value.astype(np.float64) if np.issubdtype(value.dtype, np.floating) else value.copy()
    kept = wide if at is None else wide.reshape(-1)[at]
    return Reference(name, kept, rule, value.shape, count_special(wide), at, dtype=dtype)


def budget_rule(row: Row) -> Within:
    """The budget of a row that did not fail."""
    assert row.budget is not None
    return Within(row.budget.rms, row.budget.max_abs, row.baseline)


def channel_shares(channels: Sequence[Channel]) -> dict[int, Float64s]:
    """By axis: the baseline's error in each channel as a share of the channel's scale, 0 for a channel of zeros."""
    found: dict[int, Float64s] = {}
    for axis in sorted({channel.axis for channel in channels}):
        along = [channel for channel in channels if channel.axis == axis]
        found[axis] = np.zeros(1 + max(channel.index for channel in along))
        for channel in along:
            found[axis][channel.index] = channel.baseline / channel.scale if channel.scale > 0 else 0.0
    return found


def size_of(run: Run) -> int:
    """Bytes of its arrays."""
    return sum(array.nbytes for array in (*run.feeds.values(), *(output.values for output in run.outputs)))


def _fitting(runs: Mapping[int, Run], most: int) -> tuple[dict[int, Run], tuple[str, ...]]:
    kept, notes = dict(runs), []
    while sum(map(size_of, kept.values())) > most:
        largest = max(kept, key=lambda index: size_of(kept[index]))
        run = kept.pop(largest)
        if not kept:
            needed = f"{size_of(run) / 2**20:.1f} MiB of inputs and outputs, and {most / 2**20:g} MiB are its limit"
            raise UsageError("capsule", f"would hold {needed}", "give a larger limit with --capsule-size")
        notes.append(f"{run.name} is not in the capsule, whose limit is {most / 2**20:g} MiB")
    return kept, tuple(notes)


def _at_boundary(row: Row, value: Reference) -> Reference:
    rule = budget_rule(row)
    return Reference(value.name, value.values, rule, value.shape, value.special, value.at, path=row.path, type=row.type)


def _round_to_stored(feeds: Mapping[str, Array], inputs: Sequence[InputSpec]) -> dict[str, Array]:
    """As a candidate reads them: floating-point inputs stand for what rounds to them (see `proof.inputs`)."""
    return {spec.name: feeds[spec.name].astype(array_name(spec.dtype)) for spec in inputs}
