"""The capsule of a conversion that passed: `convert --capsule`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from normexport.capsule.content import Capsule
from normexport.capsule.making import Origin, make, make_by_signal
from normexport.engine.manifest import FileId
from normexport.errors import UsageError
from normexport.io.onnx_model import open_onnx
from normexport.onnx_export import InputSpec, Layer
from normexport.precision import EightBit, Half
from normexport.precision.config import WITHOUT_SAMPLES
from normexport.precision.int8.remainder import as_written
from normexport.precision.samples import batches_in, batches_of
from normexport.proof import Batch, ParityReport
from normexport.runtime import Array, OnnxRuntime
from normexport.runtime.exact import Reference, exact_runtime

_SAMPLES = 64  # most of the real samples that an int8 model is judged on

_CALIBRATED = "its samples are those that the model was calibrated on: others may be less near"


def capsule_of(
    source: Reference,
    path: Path,
    model: Path,
    report: ParityReport,
    inputs: Sequence[InputSpec],
    layers: Sequence[Layer],
    precision: Half | EightBit | None,
    data: Mapping[str, Array] | None,
    most: int,
) -> Capsule:
    """A capsule by the rule that the model was judged by.

    Args:
        source: what the float64 reference is made from, read from `path`.
        model: the ONNX file as it will be, with its data beside it.
        report: the judgement of that file; for int8 that of the float32 model before it, which is not read.
        precision: that the model was reduced to; None: none.
        data: real inputs, where there are any.
        most: bytes of all arrays.

    Raises:
        UsageError: see `make` and `make_by_signal`.
    """
    opened = open_onnx(model)
    names = [str(value.name) for value in opened.graph.outputs]
    exact = exact_runtime(source, inputs, names, layers)
    files = [file for file in (model, model.with_name(model.name + ".data")) if file.is_file()]
    origin = Origin(FileId.of(path) if path.is_file() else None, tuple(FileId.of(file) for file in files))
    if not isinstance(precision, EightBit):
        return make(report, exact, inputs, opened, origin, most=most)
    samples = _samples(precision, data, inputs)
    runtime, limit = OnnxRuntime(as_written(opened)), precision.min_snr
    made = make_by_signal(runtime, exact, samples, inputs, opened, limit, origin, precision.dtype, most=most)
    calibrated = precision.method not in WITHOUT_SAMPLES and (precision.calibration is None or data is None)
    return replace(made, notes=(*made.notes, _CALIBRATED)) if calibrated else made


def _samples(precision: EightBit, data: Mapping[str, Array] | None, inputs: Sequence[InputSpec]) -> Batch:
    """The first real samples: of the data that was judged on, else of those that calibrated."""
    if data is None and precision.calibration is None:
        raise UsageError("--capsule", "needs real samples to judge int8 on", "give --data")
    stream = batches_in(data, inputs, _SAMPLES) if data is not None else None
    stream = stream or batches_of(precision.calibration or (), inputs, _SAMPLES, precision.preprocess)
    feeds = next(stream())
    size = max([len(feeds[spec.name]) for spec in inputs if spec.batched], default=1)
    return Batch(f"real, batch {size}", size, feeds)
