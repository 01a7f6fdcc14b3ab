"""From two models and the inputs on which they differ to evidence of the fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from normexport.dtypes import HALVES
from normexport.graphs.nodes import label
from normexport.io.onnx_model import with_weights_inside
from normexport.narrowing.evidence import Evidence, shows
from normexport.narrowing.result import Fault
from normexport.narrowing.rules import Rule, rule_of
from normexport.narrowing.search import OnStage, Part, Search
from normexport.onnx_export import InputSpec
from normexport.precision.half.file import halved_values
from normexport.precision.half.rounding import rounding_in_float32
from normexport.proof import Batch
from normexport.proof.inputs.batches import slice_batches
from normexport.runtime import Array, Feeds

_SINGLE = 8  # samples of a set of inputs that are tried alone; a fault shows in one or in none


def narrow(
    reference: ir.Model,
    candidate: ir.Model,
    batches: Sequence[Batch],
    specs: Sequence[InputSpec],
    precision: str,
    min_snr: float,
    on_stage: OnStage,
) -> tuple[str, Fault] | None:
    """The name of the inputs that show it, and the fault; None where no inputs show one.

    Args:
        reference, candidate: what is right, and what is judged.
        batches: sets of inputs, those that are likeliest to show it first.
        specs: what both read.
        precision: of the candidate: "float32", a half type, or one of eight bits.
        min_snr: of eight bits, dB.
    """
    halved = halved_values(reference, candidate, precision) if precision in HALVES else frozenset[str]()
    rule = rule_of(precision, halved, min_snr)
    for batch in batches:
        on_stage(batch.name)
        if Search(reference, candidate, rule, batch.feeds).failing() is None:
            continue
        for name, feeds in _small_first(batch, specs):
            search = Search(reference, candidate, rule, feeds, on_stage, precision)
            part = search.find()
            if part is not None:
                return name, _fault(search, part, rule)
    return None


def _small_first(batch: Batch, specs: Sequence[InputSpec]) -> Iterator[tuple[str, Feeds]]:
    """Single samples, then the whole set."""
    arrays: Mapping[str, Array] = batch.feeds
    if batch.size > 1 and any(spec.batched for spec in specs):
        for index, feeds in enumerate(slice_batches(specs, arrays, 1)):
            if index == _SINGLE:
                break
            yield f"{batch.name}, sample {index}", feeds
    yield batch.name, arrays


def _fault(search: Search, part: Part, rule: Rule) -> Fault:
    model = search.model_of(part)
    evidence = _evidence(model, part)
    shown = shows(evidence)
    if shown is None:  # a half type, which ONNX Runtime's CPU computes in float32 unless it is made to round
        rounded = replace(evidence, model=_bytes(rounding_in_float32(model)), inputs=_widened(evidence.inputs))
        again = shows(rounded)
        evidence, shown = (rounded, again) if again is not None else (evidence, None)
    nodes = tuple(model.graph)
    return Fault(
        part.output,
        tuple(part.inputs),
        tuple(label(node) for node in nodes),
        tuple(node.op_type for node in nodes),
        part.excess.words,
        part.excess.times,
        part.whose,
        tuple(part.values[source].shape for source in part.inputs.values()),
        shown,
        evidence,
    )


def _evidence(model: ir.Model, part: Part) -> Evidence:
    """The numbers in the types of the part's inputs, and the sizes that the part gives."""
    inputs = []
    model.graph.outputs[0].shape = ir.Shape(part.excess.got.shape)
    for value in model.graph.inputs:
        array = part.values[part.inputs[str(value.name)]]
        kind = value.dtype.numpy() if value.dtype is not None else array.dtype
        with np.errstate(all="ignore"):
            inputs.append(np.ascontiguousarray(array.astype(kind)))
    return Evidence(_bytes(model), tuple(inputs), part.excess.expected, part.excess.allowed)


def _bytes(model: ir.Model) -> bytes:
    data: bytes = ir.to_proto(with_weights_inside(model)).SerializeToString()
    return data


def _widened(arrays: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(array.astype(np.float32) if array.dtype.name in HALVES else array for array in arrays)
