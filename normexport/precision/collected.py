"""What a runtime gives for a set of samples: every output with the samples on axis 0, and the scores behind indices."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision.decisions import Decision, channel_axes, decisions, values_of
from normexport.precision.elsewhere import Elsewhere
from normexport.precision.positions import by_position, choice_by_position
from normexport.progress import counted
from normexport.proof.inputs.batches import samples_in, slice_batches
from normexport.proof.inputs.mixed import is_mixed, of_one_size
from normexport.runtime import Array, Feeds, Runtime

BATCH = 64
#: Numbers of all inputs in one run, where nobody says how many samples: 13 images of 224 by 224, of which 64 take a
#: ResNet-50 half a gigabyte more.
_MOST_NUMBERS = 1 << 21
FEW_RUNS = 16  # an output without samples of its own (a mean, a count) is one observation a run

#: Arrays (samples, *shape) by input name; or sets of inputs, each run as it is, for models without an open batch.
Data: TypeAlias = Mapping[str, Array] | Sequence[Feeds]


@dataclass(frozen=True)
class Collected:
    """The outputs of one runtime.

    Attributes:
        name: of the runtime.
        outputs: names, in the model's order.
        values: outputs, and what `decisions` name, by name: (samples, ...). One without a sample axis has one entry
            a run. Of samples of mixed sizes: (positions, channels), see `precision.positions`. Missing: what is no
            tensor, or has another shape at each run.
        decisions: by output that is no floating-point number.
        axes: channel axes by name, in `values`.
        samples: how many.
        batch: samples at a time.
        seconds: in the runtime.
    """

    name: str
    outputs: tuple[str, ...]
    values: Mapping[str, Array]
    decisions: Mapping[str, Decision]
    axes: Mapping[str, tuple[int, ...]]
    samples: int
    batch: int
    seconds: float


@dataclass
class _Parts:
    """What the runs gave, by name, and how many samples each run had (None: no sample axis in the inputs)."""

    values: dict[str, list[Array]] = field(default_factory=dict)
    sizes: list[int | None] = field(default_factory=list)

    def take(self, values: Mapping[str, Array]) -> None:
        """What one more run gave."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)


def collect(
    runtime: Runtime,
    data: Data,
    specs: Sequence[InputSpec] = (),
    *,
    model: ir.Model | None = None,
    scores: Mapping[str, Decision] | None = None,
    batch: int | None = None,
    elsewhere: Elsewhere | None = None,
) -> Collected:
    """Run all samples.

    Args:
        data: what to run on.
        specs: where each input has its samples, and how many it takes at a time; by default on axis 0.
        model: the graph that runs, where it is known: it tells channels, and the scores behind indices.
        scores: the decisions to capture; default those of `model`.
        batch: samples at a time; None: 64, fewer where these are large or an output has no samples of its own.
        elsewhere: computes the runs in place of `runtime`, which is of the same model; None: `runtime` does.

    Raises:
        UsageError: samples that the model's fixed batch does not divide; see `Elsewhere.run`.
    """
    known = scores if scores is not None else decisions(model) if model is not None else {}
    inner = {name for each in known.values() for name in (*each.scores, each.choice.indices if each.choice else "")}
    wanted = sorted(inner - {"", *runtime.input_names, *runtime.output_names})
    declared = {} if model is None else values_of(model)
    total = _total(runtime, data, specs)
    size = batch or _most_at_a_time(data)
    if elsewhere is not None and batch is None and size > 1:  # one run tells here how many a run takes
        feeds = next(_runs(runtime, data, size, specs), {})
        first = _Parts(sizes=[_samples(runtime, feeds, data, specs)])
        first.take(runtime.run(feeds, wanted))
        batch = size = max(1, min(size, total // FEW_RUNS)) if _needs_more_runs(first, declared) else size
    parts, seconds = _Parts(), 0.0
    runs = _results(runtime, _told(runtime, _runs(runtime, data, size, specs), total, size), wanted, elsewhere)
    while (run := next(runs, None)) is not None:
        feeds, values, took = run
        seconds += took
        parts.sizes.append(_samples(runtime, feeds, data, specs))
        parts.take({**values, **{each: np.asarray(feeds[each]) for each in inner & set(feeds)}})
        if batch is None and len(parts.sizes) == 1 and size > 1 and _needs_more_runs(parts, declared):
            batch = size = max(1, min(size, total // FEW_RUNS))
            parts, seconds = _Parts(), 0.0
            runs = _results(runtime, _told(runtime, _runs(runtime, data, size, specs), total, size), wanted, elsewhere)
    spread = _by_position(parts, declared) if isinstance(data, Mapping) and any(map(is_mixed, data.values())) else {}
    joined = {name: _join(each, parts.sizes, declared.get(name)) for name, each in parts.values.items()}
    found = {name: value for name, value in {**joined, **spread}.items() if value is not None}
    axes = {
        name: _axes(declared.get(name), value, value if name in spread else parts.values[name][0])
        for name, value in found.items()
    }
    known = {name: _from_behind(each, parts, declared) for name, each in known.items()}
    sizes = [size for size in parts.sizes if size is not None]
    done = sum(sizes) if sizes else total  # a fixed batch may leave some over
    return Collected(runtime.name, tuple(runtime.output_names), found, known, axes, done, size, seconds)


def _most_at_a_time(data: Data) -> int:
    """As many samples as are run at once where nobody says."""
    if not isinstance(data, Mapping):
        return BATCH
    one = sum(array.size // max(len(array), 1) for array in data.values() if array.ndim)
    return max(1, min(BATCH, _MOST_NUMBERS // max(one, 1)))


def _told(runtime: Runtime, runs: Iterator[Feeds], total: int, size: int) -> Iterator[Feeds]:
    """The runs, counted for whoever watches."""
    return counted(f"running {runtime.name}", runs, -(-total // size))


def first_run(runtime: Runtime, data: Data) -> Feeds:
    """What one run takes of these samples: as many as a fixed batch has, else all of them."""
    feeds: Feeds = next(_runs(runtime, data, max(_total(runtime, data, ()), 1), ()))
    return feeds


def _results(
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


def _from_behind(decision: Decision, parts: _Parts, declared: Mapping[str, ir.Value]) -> Decision:
    """With the axis of a choice counted from the end, which stacking does not change; moved samples have none."""
    choice = decision.choice
    scores = parts.values.get(choice.scores) if choice is not None else None
    if choice is None or scores is None or choice.indices not in parts.values:
        return replace(decision, choice=None)
    if _axis(scores, parts.sizes, declared.get(choice.scores)) not in (0, None):
        return replace(decision, choice=None)
    if len({part.shape[1:] for part in scores}) > 1:
        return replace(decision, choice=choice_by_position(choice, scores, declared.get(choice.scores)))
    rank = scores[0].ndim
    return replace(decision, choice=replace(choice, axis=choice.axis % rank - rank))


def _by_position(parts: _Parts, declared: Mapping[str, ir.Value]) -> dict[str, Array]:
    """The outputs whose size goes with that of the samples, of which several were given."""
    by_sample = {
        name: each
        for name, each in parts.values.items()
        if all(
            isinstance(part, np.ndarray) and part.shape[:1] == (size,)
            for part, size in zip(each, parts.sizes, strict=True)
        )
    }
    spread = {name: by_position(each, declared.get(name)) for name, each in by_sample.items()}
    return {name: value for name, value in spread.items() if value is not None}


def _axes(value: ir.Value | None, joined: Array, part: Array) -> tuple[int, ...]:
    """Channel axes of the joined array: one further on where runs were stacked; of positions the last."""
    if joined.ndim == part.ndim:
        return channel_axes(value, part.ndim)
    return (1,) if part.ndim == 1 else tuple(axis + 1 for axis in channel_axes(value, part.ndim))


def _total(runtime: Runtime, data: Data, specs: Sequence[InputSpec]) -> int:
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
    count = _total(runtime, data, specs)
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


def _needs_more_runs(parts: _Parts, declared: Mapping[str, ir.Value]) -> bool:
    size = parts.sizes[0]
    return size is not None and any(
        _axis(each, parts.sizes, declared.get(name)) is None for name, each in parts.values.items()
    )


def _join(parts: Sequence[Array], sizes: Sequence[int | None], value: ir.Value | None) -> Array | None:
    """One array with the samples, or the runs, on axis 0; None for what is no tensor or differs in shape."""
    if not all(isinstance(part, np.ndarray) for part in parts):
        return None
    axis = _axis(parts, sizes, value)
    aligned = [np.moveaxis(part, axis, 0) if axis else part for part in parts]
    inner = {part.shape[1:] for part in aligned}
    if axis is not None:
        return np.concatenate(aligned) if len(inner) == 1 else None
    if len({part.shape for part in parts}) == 1:
        return np.stack(parts)
    return None


def _axis(parts: Sequence[Array], sizes: Sequence[int | None], value: ir.Value | None) -> int | None:
    """The axis along which an output has one entry a sample: 0 where that fits, else one that the file leaves open."""
    if None in sizes or not all(isinstance(part, np.ndarray) for part in parts):
        return None
    ranks = {part.ndim for part in parts}
    if len(ranks) != 1:
        return None
    shape = None if value is None or value.shape is None else list(value.shape)
    if shape is not None and len(shape) != parts[0].ndim:
        shape = None
    fitting = [
        axis
        for axis in range(parts[0].ndim)
        if all(part.shape[axis] == size for part, size in zip(parts, sizes, strict=True))
    ]
    open_ = [axis for axis in fitting if shape is not None and not isinstance(shape[axis], int)]
    if open_:
        return open_[0]
    if fitting[:1] == [0] and (shape is None or len(set(sizes)) > 1 or not any(not isinstance(d, int) for d in shape)):
        return 0
    return fitting[0] if fitting and len(set(sizes)) > 1 else None


def named_as(found: Collected, reference: Collected) -> Collected:
    """With the outputs under the reference's names: by position where the names differ and there are as many."""
    if set(found.outputs) == set(reference.outputs) or len(found.outputs) != len(reference.outputs):
        return found
    names = dict(zip(found.outputs, reference.outputs, strict=True))
    return replace(
        found,
        outputs=reference.outputs,
        values={names.get(name, name): value for name, value in found.values.items()},
        decisions={names.get(name, name): each for name, each in found.decisions.items()},
        axes={names.get(name, name): axes for name, axes in found.axes.items()},
    )
