"""What a runtime gives for a set of samples: every output with the samples on axis 0, and the scores behind indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision.decisions import Decision, channel_axes, decisions, values_of
from normexport.precision.elsewhere import Elsewhere
from normexport.precision.numbered import Numbered
from normexport.precision.positions import by_position, choice_by_position
from normexport.precision.runs import Stream, results_of, total_of
from normexport.proof.inputs.mixed import is_mixed
from normexport.runtime import Array, Runtime

BATCH = 64
#: Numbers of all inputs in one run, where nobody says how many samples: 13 images of 224 by 224, of which 64 take a
#: ResNet-50 half a gigabyte more.
_MOST_NUMBERS = 1 << 21
FEW_RUNS = 16  # an output without samples of its own (a mean, a count) is one observation a run


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
        skipped: samples that could not be read, and were left out: their numbers in the data, and a line on each.
    """

    name: str
    outputs: tuple[str, ...]
    values: Mapping[str, Array]
    decisions: Mapping[str, Decision]
    axes: Mapping[str, tuple[int, ...]]
    samples: int
    batch: int
    seconds: float
    skipped: Mapping[int, str] = field(default_factory=dict)


@dataclass
class _Parts:
    """What the runs gave, by name, and how many samples each run had (None: no sample axis in the inputs)."""

    values: dict[str, list[Array]] = field(default_factory=dict)
    sizes: list[int | None] = field(default_factory=list)
    shapes: set[tuple[tuple[int, ...], ...]] = field(default_factory=set)  # of samples that were read on the way

    def take(self, values: Mapping[str, Array]) -> None:
        """What one more run gave."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)


def collect(
    runtime: Runtime,
    data: Stream,
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
    total = total_of(runtime, data, specs)
    size = batch or _most_at_a_time(data)
    if elsewhere is not None and batch is None and size > 1:  # one run tells here how many a run takes
        first = _Parts()
        for values, _, samples, _ in results_of(runtime, data, size, specs, wanted, inner, None, {}):
            first.sizes.append(samples)
            first.take(values)
            break
        batch = size = max(1, min(size, total // FEW_RUNS)) if _needs_more_runs(first, declared) else size
    parts, seconds, skipped = _Parts(), 0.0, dict[int, str]()
    runs = results_of(runtime, data, size, specs, wanted, inner, elsewhere, skipped)
    while (run := next(runs, None)) is not None:
        values, took, samples, shapes = run
        seconds += took
        parts.sizes.append(samples)
        parts.shapes.add(shapes)
        parts.take(values)
        if batch is None and len(parts.sizes) == 1 and size > 1 and _needs_more_runs(parts, declared):
            batch = size = max(1, min(size, total // FEW_RUNS))
            parts, seconds, skipped = _Parts(), 0.0, {}
            runs = results_of(runtime, data, size, specs, wanted, inner, elsewhere, skipped)
    if isinstance(data, Numbered) and not parts.sizes:
        raise UsageError("the data", "holds no samples that can be read", "give at least one")
    mixed = isinstance(data, Mapping) and any(map(is_mixed, data.values()))
    mixed |= isinstance(data, Numbered) and len(parts.shapes) > 1
    spread = _by_position(parts, declared) if mixed else {}
    joined = {name: _join(each, parts.sizes, declared.get(name)) for name, each in parts.values.items()}
    found = {name: value for name, value in {**joined, **spread}.items() if value is not None}
    axes = {
        name: _axes(declared.get(name), value, value if name in spread else parts.values[name][0])
        for name, value in found.items()
    }
    known = {name: _from_behind(each, parts, declared) for name, each in known.items()}
    sizes = [size for size in parts.sizes if size is not None]
    done = sum(sizes) if sizes else total  # a fixed batch may leave some over
    return Collected(runtime.name, tuple(runtime.output_names), found, known, axes, done, size, seconds, skipped)


def _most_at_a_time(data: Stream) -> int:
    """As many samples as are run at once where nobody says."""
    if isinstance(data, Numbered):
        one = sum(array.size for array in data.rows(1).values())
    elif isinstance(data, Mapping):
        one = sum(array.size // max(len(array), 1) for array in data.values() if array.ndim)
    else:
        return BATCH
    return max(1, min(BATCH, _MOST_NUMBERS // max(one, 1)))


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
