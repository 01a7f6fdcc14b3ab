"""Does an int8 file compute what its reference computes? By the SNR of every output, with that of every boundary.

On real data what falls short of the limit fails. Without, inputs are drawn over what the file's own input quantisers
hold. Ranges inside were set for other data, and noise looks alike to a trained network: too little shows nothing there.
Of 16 right files of the example networks 8 fell short, two of them below 0 dB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from normexport.dtypes import INT8
from normexport.onnx_export import InputSpec, Layer
from normexport.precision.accuracy import DEFAULT
from normexport.precision.collected import Collected, collect, named_as
from normexport.precision.config import Limits
from normexport.precision.file_precision import input_ranges, precision_of, stored_as
from normexport.precision.int8.remainder import as_written
from normexport.precision.numbered import Numbered
from normexport.precision.output_errors import output_errors
from normexport.precision.runs import Data, Given, Stream
from normexport.precision.snr import OutputError, measure_output
from normexport.proof import Batch, choose_batches, not_compared
from normexport.proof.check import CAPTURE_BYTES
from normexport.proof.doubts.random_numbers import random_nodes
from normexport.proof.inputs.batches import LARGE_SAMPLE, slice_batches
from normexport.proof.inputs.folders import FolderRead
from normexport.proof.inputs.mixed import is_mixed
from normexport.runtime import Array, Feeds, OnnxRuntime, Opener, Runtime, release_memory
from normexport.verdicts import Judgement, Verdict, inconclusive, together

SAMPLES, LARGE_SAMPLES = 64, 8  # random ones; of images of 224x224 the fewer
BOUNDARY_SAMPLES = 16  # at most: values of all boundaries are in memory

Factory: TypeAlias = Callable[[], Runtime]


@dataclass(frozen=True)
class Boundary:
    """A module boundary: its path and class, and how far it is from the reference. It does not decide."""

    path: str
    type: str
    error: OutputError

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"path": self.path, "type": self.type, **self.error.as_dict()}


@dataclass(frozen=True)
class SnrReport:
    """The judgement of an int8 candidate.

    Attributes:
        reference, candidate: names of the runtimes.
        samples: how many were judged on.
        real: whether they were given; else random.
        min_snr: dB that an output needs.
        outputs: each against the reference.
        layers: module boundaries in execution order.
        judgement: of all outputs.
        data: what was done to the images that were given, where they are a folder.
        precision: the candidate's type of eight bits.
        skipped: samples that could not be read and were left out, a line each.
    """

    reference: str
    candidate: str
    samples: int
    real: bool
    min_snr: float
    outputs: tuple[OutputError, ...]
    layers: tuple[Boundary, ...]
    judgement: Judgement
    data: FolderRead | None = None
    precision: str = INT8
    skipped: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.judgement.passed

    @property
    def first_divergence(self) -> Boundary | None:
        """The first boundary that is below the limit; None where none is."""
        return next((layer for layer in self.layers if layer.error.level < self.min_snr), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinities are left to the writer."""
        first = self.first_divergence
        return {
            **self.judgement.as_dict(),
            "reference": self.reference,
            "candidate": self.candidate,
            "precision": self.precision,
            "samples": self.samples,
            "inputs": "real" if self.real else "random",
            "min_snr": self.min_snr,
            "first_divergence": first.path if first else None,
            "outputs": [each.as_dict() for each in self.outputs],
            "layers": [each.as_dict() for each in self.layers],
            "data": None if self.data is None else self.data.as_dict(),
            "skipped": list(self.skipped),
        }


def check_by_snr(
    reference: Factory,
    model: ir.Model | None,
    candidate: ir.Model,
    inputs: Sequence[InputSpec],
    layers: Sequence[Layer] = (),
    *,
    data: Given | None = None,
    limits: Limits = DEFAULT,
    on: Opener = OnnxRuntime,
) -> SnrReport:
    """Judge an int8 or fp8 ONNX model, on ONNX Runtime.

    Where it holds a half type, it is computed as the file says (`int8.remainder`); another runtime than ONNX Runtime
    computes the file itself.

    Args:
        reference: makes the runtime that is right; it lives only while it runs.
        model: its graph, where it has one.
        candidate: the model that is judged.
        inputs: what both read.
        layers: boundaries whose SNR is wanted.
        data: real inputs, (samples, *shape) by name or read as their turn comes; None: random ones.
        limits: what an output may lose.
        on: the runtime that the candidate is judged on.
    """
    judged: Stream = data if data is not None else random_data(inputs, candidate, model)
    dtype = precision_of(candidate)
    if on is OnnxRuntime:
        candidate = as_written(candidate)
    found = collect(on(candidate), judged, model=candidate)
    release_memory()
    exact = collect(reference(), judged, model=model, batch=found.batch)
    release_memory()
    found = named_as(found, exact)
    errors = output_errors(exact, found, limits.min_snr, limits.points)
    judgement = _judgement(errors, exact, found, limits, data is not None)
    few = _few(judged, inputs)
    doubts = _doubts(model, candidate, few, on)
    judgement = together([judgement, *map(inconclusive, doubts)])
    boundaries = _boundaries(reference, candidate, few, layers, on) if layers else ()
    shown = limits.min_snr, errors, tuple(boundaries), judgement
    return SnrReport(exact.name, found.name, found.samples, data is not None, *shown, precision=dtype)


def _doubts(model: ir.Model | None, candidate: ir.Model, feeds: Feeds, on: Opener) -> tuple[str, ...]:
    """What no number of the samples shows: see `normexport.proof.not_compared`."""
    batches = [Batch("samples", 0, feeds)]
    unseen = not_compared(candidate if model is None else model, candidate, batches, on, quantised=True)
    return (*random_nodes(candidate), *unseen.doubts)


def random_data(inputs: Sequence[InputSpec], candidate: ir.Model, model: ir.Model | None) -> Data:
    """Random samples over the range that the candidate's input quantisers hold, else of unit variance."""
    ranges, graph = input_ranges(candidate), model or candidate
    large = any(math.prod(spec.shape) > LARGE_SAMPLE for spec in inputs)
    count = LARGE_SAMPLES if large else SAMPLES
    if any(spec.batched for spec in inputs):
        return _inputs_within(choose_batches(inputs, sizes=(count,), graph=graph).batches[-1].feeds, ranges)
    seeds = range(count)
    return [_inputs_within(choose_batches(inputs, seed=seed, graph=graph).batches[0].feeds, ranges) for seed in seeds]


def _inputs_within(feeds: Feeds, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Array]:
    """Three standard deviations to either side fill the range."""
    scaled = dict(feeds)
    for name, (low, high) in ranges.items():
        if name in feeds and feeds[name].dtype.kind == "f":
            drawn = feeds[name].astype(np.float64) * ((high - low) / 6) + (low + high) / 2
            scaled[name] = np.clip(drawn, low, high).astype(np.float32)
    return scaled


def _judgement(
    errors: Sequence[OutputError], exact: Collected, found: Collected, limits: Limits, real: bool
) -> Judgement:
    whole = together((each.judgement for each in errors), "the reference has no outputs")
    if whole.passed and not any(each.varies for each in errors):
        return inconclusive("no output varies over the samples: nothing shows that one follows the input")
    if real or whole.verdict is not Verdict.FAILED:
        return whole
    wrong = together(each.judgement for each in output_errors(exact, found, -math.inf, 100.0))
    if wrong.verdict is Verdict.FAILED:  # NaN, another shape, indices of other scores: wrong on any inputs
        return wrong
    cause = "on random inputs, which its ranges were not set for: give --data"
    return Judgement(Verdict.INCONCLUSIVE, (*whole.reasons, cause))


def _boundaries(
    reference: Factory, candidate: ir.Model, feeds: Feeds, layers: Sequence[Layer], on: Opener
) -> list[Boundary]:
    """SNR of values that both sides have, in the reference's order; as many samples as fit the memory."""
    stored = stored_as(candidate)
    outputs = {str(value.name) for value in candidate.graph.outputs}
    names = {
        layer.tensor: layer.tensor if layer.tensor in outputs else stored.get(layer.tensor, layer.tensor)
        for layer in layers
    }
    runtime = on(candidate)
    sizes: dict[str, int] = {}
    smallest = {name: array[:2] if _is_cut(array, feeds) else array for name, array in feeds.items()}
    runtime.run(smallest, list(names.values()), lambda name, value: sizes.__setitem__(name, value.nbytes))
    fitting = int(min(BOUNDARY_SAMPLES, 2 * CAPTURE_BYTES // max(1, sum(sizes.values()))))
    few = {name: array[: max(2, fitting)] if _is_cut(array, feeds) else array for name, array in feeds.items()}
    values = runtime.run(few, list(sizes))
    theirs = {name: values[own] for name, own in names.items() if own in values}
    del runtime, values
    release_memory()
    found: dict[str, OutputError] = {}

    def measure(name: str, value: Array) -> None:
        own = theirs.pop(name)
        if value.dtype.kind == "f" and own.dtype.kind == "f" and value.ndim:
            found[name] = measure_output(name, value, own, -math.inf)

    reference().run(few, list(theirs), measure)
    return [Boundary(layer.path, layer.type, found[layer.tensor]) for layer in layers if layer.tensor in found]


def _is_cut(array: Array, feeds: Feeds) -> bool:
    """Whether axis 0 holds samples: where all inputs agree on it."""
    return len({len(each) for each in feeds.values() if each.ndim}) == 1 and array.ndim > 0


def _few(data: Stream, inputs: Sequence[InputSpec]) -> Feeds:
    data = data.rows(BOUNDARY_SAMPLES) if isinstance(data, Numbered) else data
    if not isinstance(data, Mapping):
        return data[0]
    few = {s.name: data[s.name][:BOUNDARY_SAMPLES] if s.batched else data[s.name] for s in inputs}
    return next(slice_batches(inputs, few, BOUNDARY_SAMPLES)) if any(map(is_mixed, few.values())) else few
