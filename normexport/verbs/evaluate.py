"""The verb `evaluate`: how often is it right, and how close to its reference?"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport import onnx_export
from normexport.checkpoint import Checkpoint
from normexport.errors import UsageError
from normexport.io.preprocess import Preprocess
from normexport.logs import in_words, logger
from normexport.onnx_export import InputSpec
from normexport.precision import Accuracy, Labelled, Limits, collect
from normexport.precision import measure_accuracy as evaluate_outputs
from normexport.precision.accuracy import DEFAULT
from normexport.precision.collected import BATCH, Collected, named_as
from normexport.precision.config import Draw
from normexport.precision.elsewhere import Elsewhere
from normexport.precision.labelled_output import check_labels, labelled_output, require_limit
from normexport.precision.metrics import loaded_metric, metric_of
from normexport.precision.numbered import Numbered
from normexport.precision.runs import Stream
from normexport.proof.inputs.batches import samples_in, slice_batches
from normexport.runtime import Array, OnnxRuntime, Opener
from normexport.runtime.tensorrt_runtime import Plan
from normexport.user_code import name_of
from normexport.verbs.config import RUNTIMES
from normexport.verbs.real_data import RealData, check_images, require_labels
from normexport.verbs.subjects import (
    Inputs,
    NetworkSource,
    Side,
    agreed_inputs,
    guarded_if_files,
    open_subject,
    opener_of,
    refuse_lost_state,
    require_onnx_for,
    runtime_of,
)
from normexport.workers import Where

_LOG = logger(__name__)

_FEW = 2  # samples


def evaluate(
    model: NetworkSource | Plan,
    data: str | Path,
    reference: NetworkSource | None = None,
    inputs: Inputs = (),
    *,
    labels_for: str | None = None,
    metric: str | Callable[..., Any] | None = None,
    limits: Limits = DEFAULT,
    runtime: str = RUNTIMES[0],
    weights_under: str | Path | None = None,
    preprocess: Preprocess | None = None,
    on: Where | None = None,
    samples: int | None = None,
    seed: int = 0,
    skip_bad: int = 0,
) -> Accuracy:
    """How often a model is right on labelled data, how close it is to its reference, and how fast it is.

    Samples are read as their turn comes, 64 at a time, where every input of the model has an open batch on its first
    axis; else all are in memory. Outputs are kept.

    Args:
        data: inputs, and labels where accuracy is wanted: an .npz of arrays by name and `labels`; a folder of images
            or .npy files, of any sizes that the model takes, with a subfolder for each class, or `labels.npy`; tar
            shards with a `.cls` for each sample; Parquet files with a column of labels; a pattern of any of these.
        reference: what every output is compared with, by name or, where the names differ, by position.
        inputs: shapes of one sample; needed only for sizes that neither a side nor the data tells.
        labels_for: the output that labels belong to; None: the only one that they fit.
        metric: what labels are compared by: one of `METRICS`, "package.module:function", or function(output, labels) ->
            number with an attribute `lower_is_better` where it is; None: top1, or iou of maps of classes.
        limits: what may be lost against the reference; without one nothing is judged but outputs that mean nothing.
        runtime: what an ONNX model runs on, "onnxruntime" or "openvino"; an ONNX reference runs on the former.
        weights_under: a folder in which external data of ONNX files may lie too, as `open_onnx` takes it.
        preprocess: what is done to the images of a folder; None: values in [0, 1] at the model's size.
        on: where ONNX models are run: each batch by one thread of ONNX Runtime, whose results are the same bytes here
            and on any number of workers; throughput is then that of one of them. None: here, each batch by all threads.
        samples: how many of the data, drawn by `seed`: the same wherever they are computed; None: all.
        seed: of the draw.
        skip_bad: how many samples may be left out, with their labels, because they can't be read; each is listed.

    Raises:
        UsageError: data or labels do not fit the model; nothing to compare.
    """
    metric = loaded_metric(metric)
    draw = Draw(samples, seed, skip_bad)
    real = RealData(data, check_images(preprocess, data, headers=not skip_bad), draw)
    if reference is None:
        require_labels(data)
    given = [each for each in (reference, model) if each is not None]
    opener = opener_of(runtime)
    sides = [each if isinstance(each, Plan) else open_subject(each, weights_under) for each in given]
    require_onnx_for(runtime, sides[-1])
    _require_onnx_runtime(on, runtime, sides[-1])
    specs = agreed_inputs(tuple(reversed(sides)), inputs, data)
    for side in sides:
        if isinstance(side, Checkpoint) and side.model is not None:
            specs = onnx_export.bound(side.model, specs, str(side.path))
    if not specs:
        raise UsageError(
            str(data), "nothing says which input it is for", "give the shape of one sample: --input 3x224x224"
        )
    stream, read = real.stream(specs), real.read(specs)
    arrays: Stream = real.load(specs) if stream is None else stream
    few, labels = _few(arrays, BATCH), real.labels(arrays)
    for side in sides:
        if isinstance(side, Checkpoint):
            refuse_lost_state(side, specs, few)
    for option, asked in (("--labels-for", labels_for), ("--metric", metric)):
        if labels is None and asked is not None:
            raise UsageError(f"{option} {name_of(asked)}", f"{data} holds no labels", "save them in an array labels")
    labelled = None
    if labels is not None:
        labelled = Labelled(labels, labels_for, metric, () if read is None else read.classes)
        metric_of(labelled)
        if reference is not None:
            require_limit(labelled, limits)

    def collected(side: Checkpoint | ir.Model | Plan, batch: int | None, opener: Opener = OnnxRuntime) -> Collected:
        graph = side if isinstance(side, ir.Model) else None
        elsewhere = None if on is None or graph is None else Elsewhere(on, graph)
        running = runtime_of(side, specs, on=opener)
        return collect(running, arrays, specs, model=graph, batch=batch, elsewhere=elsewhere)

    def judged() -> Accuracy:
        if labelled is not None:
            _check_early(labelled, arrays, specs, sides[0], opener if reference is None else OnnxRuntime)
        exact = collected(sides[0], None) if reference is not None else None
        found = collected(sides[-1], None if exact is None else exact.batch, opener)
        if exact is not None and exact.skipped.keys() != found.skipped.keys():
            raise UsageError(str(data), "changed while it was read", "evaluate it again")
        kept = None if labelled is None else _without_skipped(labelled, found, stream)
        return evaluate_outputs(found if exact is None else named_as(found, exact), kept, exact, limits)

    # A cluster is best ended by the process that has started it, and what runs on workers can't end this one.
    accuracy = judged() if on is not None and on.ray else guarded_if_files(judged, *given)
    accuracy = replace(accuracy, data=read)
    _LOG.info("%s, samples: %d; %s", accuracy.model, accuracy.samples, in_words(accuracy.judgement))
    return accuracy


def _require_onnx_runtime(on: Where | None, runtime: str, side: Side) -> None:
    """Refuse to run elsewhere what runs here alone.

    Raises:
        UsageError: the model is no ONNX file, or runs on something else than ONNX Runtime.
    """
    if on is not None and not (isinstance(side, ir.Model) and runtime == RUNTIMES[0]):
        cause = f"is for ONNX files on {RUNTIMES[0]}"
        raise UsageError(f"--on {on.words}", cause, "convert the model, or leave it out")


def _without_skipped(labelled: Labelled, found: Collected, stream: Numbered | None) -> Labelled:
    """The labels of the samples that were read."""
    if not found.skipped or stream is None:
        return labelled
    places = [bisect.bisect_left(stream.numbers, number) for number in sorted(found.skipped)]
    return replace(labelled, labels=np.delete(labelled.labels, places, axis=0))


def _few(data: Stream, most: int) -> Mapping[str, Array]:
    """The first samples of a stream; arrays in memory are there as a whole."""
    if isinstance(data, Numbered):
        return data.rows(most)
    assert isinstance(data, Mapping)
    return data


def _check_early(labelled: Labelled, data: Stream, specs: Sequence[InputSpec], side: Side, on: Opener) -> None:
    """Labels that do not fit are told by a few samples, where there are more.

    Raises:
        UsageError: see `labelled_output` and `check_labels`.
    """
    if len(labelled.labels) <= _FEW:
        return
    arrays = _few(data, _FEW)
    counts = [samples_in(spec, arrays[spec.name].shape) for spec in specs if spec.batched]
    graph = side if isinstance(side, ir.Model) else None
    few = collect(runtime_of(side, specs, on=on), next(slice_batches(specs, arrays, _FEW)), specs, model=graph)
    whole = min(counts) if counts else len(labelled.labels)
    total = len(data.numbers) if isinstance(data, Numbered) else whole
    check_labels(labelled, few.values[labelled_output(few, labelled)], total)
