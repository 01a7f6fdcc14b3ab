"""A look at the first samples, before anything long begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from normexport.onnx_export import InputSpec
from normexport.precision.collected import collect
from normexport.precision.int8.held_out import choose_samples
from normexport.precision.labelled_output import check_labels, labelled_output
from normexport.precision.labels import Labelled
from normexport.precision.numbered import Numbered
from normexport.precision.reduced import Judged
from normexport.precision.runs import Data, Given, Stream
from normexport.proof.inputs.batches import fixed_batches_in
from normexport.runtime import Runtime


def first_samples(data: Stream, inputs: Sequence[InputSpec], most: int) -> Data:
    """The first `most` samples, or the first runs of a model of a fixed batch, in memory."""
    if isinstance(data, Numbered):
        return data.rows(most)
    if not isinstance(data, Mapping):
        return data[:most]
    if not any(spec.batched for spec in inputs):
        return choose_samples(data, inputs, np.arange(min(most, fixed_batches_in(inputs, data))))
    return {spec.name: data[spec.name][:most] if spec.batched else data[spec.name] for spec in inputs}


def check_labels_fit(
    runtime: Runtime, model: ir.Model, judged: Judged, labelled: Labelled, inputs: Sequence[InputSpec]
) -> None:
    """Labels that do not fit are told before the long part."""
    few = collect(runtime, first_samples(judged.data, inputs, 2), model=model)
    check_labels(labelled, few.values[labelled_output(few, labelled)], _total(judged.data, inputs, few.samples))


def _total(data: Given, inputs: Sequence[InputSpec], few: int) -> int:
    """How many samples there are, of which the first two runs have `few`."""
    if isinstance(data, Numbered):
        return len(data.numbers)
    samples = [len(data[spec.name]) for spec in inputs if spec.batched]
    runs = fixed_batches_in(inputs, data)
    return min(samples) if samples else few // min(2, runs) * runs
