"""Samples run by a runtime, or elsewhere: from arrays in memory, from single sets of inputs, or read on the way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision.elsewhere import Elsewhere, ReadRun, read_runs
from normexport.precision.numbered import Numbered, require_few
from normexport.progress import counted
from normexport.proof.inputs.batches import samples_in, slice_batches
from normexport.proof.inputs.mixed import of_one_size
from normexport.runtime import Array, Feeds, Runtime

T = TypeVar("T")

#: Arrays (samples, *shape) by input name; or sets of inputs, each run as it is, for models without an open batch.
Data: TypeAlias = Mapping[str, Array] | Sequence[Feeds]
#: Arrays by input name; or samples that are read as their turn comes, for models whose every input has an open batch.
Given: TypeAlias = Mapping[str, Array] | Numbered
#: Any of these.
Stream: TypeAlias = Data | Numbered


#: What a run gave, the seconds that it took, how many samples it had, and the shapes of these where they were read.
RunResult: TypeAlias = tuple[Mapping[str, Array], float, int | None, tuple[tuple[int, ...], ...]]


def results_of(
    runtime: Runtime,
    data: Stream,
    size: int,
    specs: Sequence[InputSpec],
    wanted: Sequence[str],
    inner: Collection[str],
    elsewhere: Elsewhere | None,
    skipped: dict[int, str],
) -> Iterator[RunResult]:
    """Each run of so many samples at a time, with those of the `inner` values that are inputs.

    Args:
        skipped: takes what is left out of a stream.

    Raises:
        UsageError: that is more than may be.
    """
    total = total_of(runtime, data, specs)
    if isinstance(data, Numbered):
        sized = replace(data, batch=size)
        numbers = _told(runtime, iter(range(sized.batches)), total, size)
        inputs = sorted(set(inner) & set(runtime.input_names))
        read: Iterator[tuple[list[ReadRun], dict[int, str]]]
        if elsewhere is None:
            read = (read_runs(runtime, sized, batch, wanted, inputs) for batch in numbers)
        else:
            read = elsewhere.run_numbered(sized, numbers, wanted, inputs)
        for found, left in read:
            skipped |= left
            require_few(skipped, data.skips)
            yield from ((run.values, run.seconds, run.samples, run.shapes) for run in found)
        return
    runs = _told(runtime, _runs(runtime, data, size, specs), total, size)
    for feeds, values, seconds in _ran(runtime, runs, wanted, elsewhere):
        held = {each: np.asarray(feeds[each]) for each in set(inner) & set(feeds)}
        yield {**values, **held}, seconds, _samples(runtime, feeds, data, specs), ()


def _ran(
    runtime: Runtime, runs: Iterator[Feeds], wanted: Sequence[str], elsewhere: Elsewhere | None
) -> Iterator[tuple[Feeds, dict[str, Array], float]]:
    """Each run with what it gave and the seconds that it took."""
    if elsewhere is None:
        for feeds in runs:
            start = time.perf_counter()
            values = runtime.run(feeds, wanted)
            yield feeds, values, time.perf_counter() - start
        return
    given: deque[Feeds] = deque()  # those under way

    def noted() -> Iterator[Feeds]:
        for feeds in runs:
            given.append(feeds)
            yield feeds

    for values, seconds in elsewhere.run(noted(), wanted):
        yield given.popleft(), values, seconds


def _told(runtime: Runtime, runs: Iterator[T], total: int, size: int) -> Iterator[T]:
    """The runs, counted for whoever watches."""
    return counted(f"running {runtime.name}", runs, -(-total // size))


def first_run(runtime: Runtime, data: Data) -> Feeds:
    """What one run takes of these samples: as many as a fixed batch has, else all of them."""
    feeds: Feeds = next(_runs(runtime, data, max(total_of(runtime, data, ()), 1), ()))
    return feeds


def total_of(runtime: Runtime, data: Stream, specs: Sequence[InputSpec]) -> int:
    """How many samples, or single runs, there are."""
    if isinstance(data, Numbered):
        return len(data.numbers)
    if not isinstance(data, Mapping):
        return len(data)
    if specs:
        return min((samples_in(spec, data[spec.name].shape) for spec in specs if spec.batched), default=1)
    batched = [len(data[name]) for name in _batched_inputs(runtime, data)]
    return min(batched, default=1)


def _batched_inputs(runtime: Runtime, data: Mapping[str, Array]) -> list[str]:
    """Inputs that hold one entry a sample: those of an open batch, else all that agree on a fixed one."""
    open_ = [port.name for port in runtime.inputs if port.shape is None or port.shape[:1] == (None,)]
    return open_ or [port.name for port in runtime.inputs if port.shape]


def _runs(runtime: Runtime, data: Data, batch: int, specs: Sequence[InputSpec]) -> Iterator[Feeds]:
    if not isinstance(data, Mapping):
        yield from data
        return
    if specs:
        yield from slice_batches(specs, data, batch)
        return
    fixed = [port.shape[0] for port in runtime.inputs if port.shape and port.shape[0] is not None]
    batched = _batched_inputs(runtime, data)
    whole = [port for port in runtime.inputs if port.name in batched and port.shape and port.shape[0] is not None]
    count = total_of(runtime, data, specs)
    size = fixed[0] if whole else batch
    assert size is not None
    if whole and len({len(data[name]) for name in batched}) > 1:  # inputs of a batch of their own each
        yield data
        return
    if whole and count % size:
        raise UsageError(runtime.name, f"takes {size} samples at a time, and there are {count}", "leave some out")
    for start in range(0, count, size):
        yield from of_one_size(
            {name: array[start : start + size] if name in batched else array for name, array in data.items()}
        )


def _samples(runtime: Runtime, feeds: Feeds, data: Data, specs: Sequence[InputSpec]) -> int | None:
    """How many samples a run has; of a model without an open batch, what all inputs agree on, if there is one run."""
    if not isinstance(data, Mapping):
        return None
    if specs and any(spec.batched for spec in specs):
        return min(samples_in(spec, feeds[spec.name].shape) for spec in specs if spec.batched)
    sizes = {len(feeds[name]) for name in _batched_inputs(runtime, data)}
    return sizes.pop() if len(sizes) == 1 else None
