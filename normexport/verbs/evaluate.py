"""The verb `evaluate`: how often is it right, and how close to its reference?"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from normexport import onnx_export, proof
from normexport.checkpoint import Checkpoint
from normexport.errors import UsageError
from normexport.logs import in_words, logger
from normexport.precision import Accuracy, Labelled, Limits, collect
from normexport.precision import measure_accuracy as evaluate_outputs
from normexport.precision.accuracy import DEFAULT, labels_in
from normexport.precision.collected import Collected, named_as
from normexport.runtime import OnnxRuntime, Opener
from normexport.runtime.tensorrt_runtime import Plan
from normexport.verbs.config import RUNTIMES
from normexport.verbs.subjects import (
    Inputs,
    TorchSource,
    agreed_inputs,
    guarded_if_files,
    open_subject,
    opener_of,
    refuse_lost_state,
    require_onnx_for,
    runtime_of,
)

_LOG = logger(__name__)


def evaluate(
    model: TorchSource | ir.Model | Plan,
    data: str | Path,
    reference: TorchSource | ir.Model | None = None,
    inputs: Inputs = (),
    *,
    labels_for: str | None = None,
    limits: Limits = DEFAULT,
    runtime: str = RUNTIMES[0],
    weights_under: str | Path | None = None,
) -> Accuracy:
    """How often a model is right on labelled data, how close it is to its reference, and how fast it is.

    Args:
        data: .npz of inputs by name, and of labels (array `labels`) where accuracy is wanted.
        reference: what every output is compared with, by name or, where the names differ, by position.
        inputs: shapes of one sample; needed only for sizes that neither a side nor the data tells.
        labels_for: the output that labels belong to; None: the only one that they fit.
        limits: what may be lost against the reference; without one nothing is judged but outputs that mean nothing.
        runtime: what an ONNX model runs on, "onnxruntime" or "openvino"; an ONNX reference runs on the former.
        weights_under: a folder in which external data of ONNX files may lie too, as `open_onnx` takes it.

    Raises:
        UsageError: data or labels do not fit the model; nothing to compare.
    """
    given = [each for each in (reference, model) if each is not None]
    on = opener_of(runtime)
    sides = [each if isinstance(each, Plan) else open_subject(each, weights_under) for each in given]
    require_onnx_for(runtime, sides[-1])
    specs = agreed_inputs(tuple(reversed(sides)), inputs, data)
    for side in sides:
        if isinstance(side, Checkpoint) and side.model is not None:
            specs = onnx_export.bound(side.model, specs, str(side.path))
    if not specs:
        raise UsageError(
            str(data), "nothing says which input it is for", "give the shape of one sample: --input 3x224x224"
        )
    arrays, labels = proof.load_arrays(data, specs), labels_in(data)
    for side in sides:
        if isinstance(side, Checkpoint):
            refuse_lost_state(side, specs, arrays)
    if labels is None and reference is None:
        raise UsageError(str(data), "holds no array labels", "save labels in it, or give --reference")
    if labels is None and labels_for is not None:
        raise UsageError(f"--labels-for {labels_for}", f"{data} holds no labels", "save them in an array labels")
    labelled = None if labels is None else Labelled(labels, labels_for)

    def collected(side: Checkpoint | ir.Model | Plan, batch: int | None, opener: Opener = OnnxRuntime) -> Collected:
        graph = side if isinstance(side, ir.Model) else None
        return collect(runtime_of(side, specs, on=opener), arrays, specs, model=graph, batch=batch)

    def judged() -> Accuracy:
        exact = collected(sides[0], None) if reference is not None else None
        found = collected(sides[-1], None if exact is None else exact.batch, on)
        return evaluate_outputs(found if exact is None else named_as(found, exact), labelled, exact, limits)

    accuracy = guarded_if_files(judged, *given)
    _LOG.info("%s, samples: %d; %s", accuracy.model, accuracy.samples, in_words(accuracy.judgement))
    return accuracy
