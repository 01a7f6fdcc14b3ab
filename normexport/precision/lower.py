"""A folded float32 model -> the same in float16, bfloat16 or int8, with the proof and what it cost.

lowered = lower(folded, Int8(calibration="images.npz"), inputs)
lowered.model      # the ONNX model: every type stands in the graph, nothing is left to builder flags
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec, Layer
from normexport.parity import ParityReport
from normexport.passes.qdq import is_quantized
from normexport.passes.qdq_absorb import Absorbed
from normexport.precision.accuracy import Accuracy, Labels, evaluate
from normexport.precision.calibration import Calibration, calibrate, read_calibration
from normexport.precision.half import Half, Kept, WeightLoss, group_of, halve, matches
from normexport.precision.int8 import modules_of
from normexport.precision.samples import BATCH, Batches, batches_in, batches_of, digest_of
from normexport.precision.sensitivity import Sensitivity, Step, rescue, sensitivities
from normexport.runtime import Array, Feeds, OnnxRuntime
from normexport.verdicts import Judgement, failed, passed

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

MIN_SNR = 25.0  # dB of the outputs, where no labels say what an error costs
MAX_DROP = 0.5  # percentage points
#: Called after each batch of calibration with the samples seen, and how many there will be (None: not known).
OnBatch = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Int8:
    """How to quantise.

    Attributes:
        calibration: samples: .npz, folder of .npy or images, or an iterable; None: the data that is judged on.
        method: "mse", "minmax", "percentile" or "entropy".
        cache: JSON file of calibration results: read where it exists, else written.
        batch: samples at a time.
        symmetric: zero points of 0, for engines.
        keep: module path patterns left in float32.
        max_drop: accuracy that may be lost, in percentage points, where there are labels.
        min_snr: of the outputs in dB, where there are none.
        table: measure every module's sensitivity too.
    """

    calibration: str | Path | Iterable[Any] | None = None
    method: str = "mse"
    cache: Path | None = None
    batch: int = BATCH
    symmetric: bool = False
    keep: tuple[str, ...] = ()
    max_drop: float = MAX_DROP
    min_snr: float = MIN_SNR
    table: bool = False


@dataclass(frozen=True)
class Precision:
    """What a conversion to lower precision did; everything but the model.

    Attributes:
        dtype: "float16", "bfloat16" or "int8".
        kept: modules in float32, with reasons.
        losses: weights that the half type does not hold.
        integer_nodes: how many nodes can compute on integers.
        norms: what became of live norms in int8.
        accuracy: against float32, on the data given; None without data.
        sensitivity: per module, where asked for.
        curve: modules excluded against SNR, accuracy and latency.
        calibration: method, samples, batch and digests.
        judgement: whether the limits hold.
        notes: in words.
    """

    dtype: str
    kept: tuple[Kept, ...] = ()
    losses: tuple[WeightLoss, ...] = ()
    integer_nodes: int = 0
    norms: tuple[Absorbed, ...] = ()
    accuracy: Accuracy | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    curve: tuple[Step, ...] = ()
    calibration: Mapping[str, Any] | None = None
    judgement: Judgement = field(default_factory=passed)
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.judgement.passed


@dataclass(frozen=True)
class Lowered:
    """The converted model, what was done, and for half precision its parity report."""

    model: ir.Model
    precision: Precision
    parity: ParityReport | None = None


@dataclass(frozen=True)
class Judged:
    """What a result is judged on: arrays by input name, and labels."""

    data: Mapping[str, Array]
    labels: Labels | None = None


def lower(
    model: ir.Model,
    config: Half | Int8,
    inputs: Sequence[InputSpec],
    *,
    judged: Judged | None = None,
    source: nn.Module | ExportedProgram | None = None,
    layers: Sequence[Layer] = (),
    on_batch: OnBatch | None = None,
) -> Lowered:
    """Convert a folded float32 model, which is not changed.

    Args:
        inputs: what the model reads.
        judged: real data: half precision is judged on it beside random inputs, int8 on it alone.
        source: the torch model, half precision's reference in float64; None: `model` on the interpreter is.
        layers: module boundaries for half precision's report.
        on_batch: called after each batch of calibration with the samples seen, and how many there will be (None: not
            known).

    Raises:
        UsageError: no calibration data, or unfit data; patterns that match nothing.
        FoldError: half precision of a graph with If or Loop.
    """
    if isinstance(config, Half):
        return _half(model, config, inputs, judged, source, layers)
    return _int8(model, config, inputs, judged, on_batch)


def _half(
    model: ir.Model,
    config: Half,
    inputs: Sequence[InputSpec],
    judged: Judged | None,
    source: nn.Module | ExportedProgram | None,
    layers: Sequence[Layer],
) -> Lowered:
    from normexport.passes.fp16_round import rounding_in_float32
    from normexport.precision.half_parity import HalfParity, InFloat32

    rule = HalfParity(source, inputs, config.dtype, model, judged.data if judged else None)
    result = halve(model, config, [batch.feeds for batch in rule.batches], rule.accepts)
    parity = rule.report(result, layers)
    accuracy = None
    if judged is not None:
        runtime = InFloat32(OnnxRuntime(rounding_in_float32(result.model)), f"ONNX Runtime, rounded to {config.dtype}")
        accuracy = _accuracy(model, runtime, judged)
    summary = Precision(
        config.dtype, result.kept, result.losses, accuracy=accuracy, judgement=parity.judgement, notes=result.notes
    )
    return Lowered(result.model, summary, parity)


def _int8(
    model: ir.Model, config: Int8, inputs: Sequence[InputSpec], judged: Judged | None, on_batch: OnBatch | None
) -> Lowered:
    kept = {group_of(node): pattern for pattern in config.keep for node in model.graph if matches(node, pattern)}
    for pattern in config.keep:
        if pattern not in kept.values():
            some = ", ".join(modules_of(model)[:4])
            raise UsageError(f"--keep-fp32 {pattern}", "matches no module", f"modules are called {some}, ...")
    exact = (
        _output(model, judged) if judged is not None else None
    )  # labels that do not fit are told before the long part
    notes: list[str] = []
    calibration = _calibrated(model, config, inputs, judged, notes, on_batch)
    if judged is None or exact is None:
        judged = Judged(_some(batches_of(config.calibration or (), inputs, config.batch)))
        exact = _output(model, judged)

    def judge(candidate: ir.Model) -> tuple[float, float | None]:
        found, _ = evaluate(OnnxRuntime(candidate), dict(judged.data), judged.labels, exact)
        assert found.snr_db is not None
        return found.snr_db, found.drop

    def holds(snr: float, drop: float | None) -> bool:
        return snr >= config.min_snr if drop is None else drop <= config.max_drop

    feeds = _one_batch(judged, inputs, config.batch)
    how = {"symmetric": config.symmetric}
    result, curve = rescue(model, calibration.ranges, feeds, judge, holds, exclude=tuple(kept), **how)
    table = sensitivities(model, calibration.ranges, feeds, **how) if config.table else ()
    accuracy, _ = evaluate(OnnxRuntime(result.model), dict(judged.data), judged.labels, exact)
    reasons = {path: f"asked for by {pattern}" for path, pattern in kept.items()}
    listing = tuple(
        Kept(path, reasons.get(path, "left out so that the limit holds"))
        for path in modules_of(model)
        if path in result.excluded
    )
    known = {name: value for name, value in asdict(calibration).items() if name != "ranges"}
    judgement = passed() if holds(curve[-1].snr_db, curve[-1].drop) else failed("int8 costs more than its limit")
    summary = Precision(
        "int8",
        kept=listing,
        integer_nodes=sum(is_quantized(node) for node in result.model.graph),
        norms=result.norms,
        accuracy=accuracy,
        sensitivity=table,
        curve=curve,
        calibration=known,
        judgement=judgement,
        notes=tuple(notes),
    )
    return Lowered(result.model, summary)


def _calibrated(
    model: ir.Model,
    config: Int8,
    inputs: Sequence[InputSpec],
    judged: Judged | None,
    notes: list[str],
    on_batch: OnBatch | None,
) -> Calibration:
    batches: Batches | None = None
    if config.calibration is not None:
        batches = batches_of(config.calibration, inputs, config.batch)
    elif judged is not None:
        batches = batches_in(judged.data, inputs, config.batch)
        notes.append("calibrated and judged on the same samples")
    if config.cache is not None and config.cache.exists():
        found = read_calibration(config.cache, model, config.method, symmetric=config.symmetric)
        if config.calibration is not None and batches is not None and digest_of(batches) != found.data:
            cause = f"was made from other data than {config.calibration}"
            raise UsageError(str(config.cache), cause, "remove it, and calibrate again")
        notes[:] = [f"ranges read from {config.cache}"]
        return found
    if batches is None:
        raise UsageError("--precision int8", "needs samples to calibrate on", "give --calibration-data or --data")
    total = batches.count
    seen = None if on_batch is None else lambda samples: on_batch(samples, total)
    found = calibrate(model, batches(), config.method, symmetric=config.symmetric, on_batch=seen)
    if config.cache is not None:
        found.save(config.cache)
        notes.append(f"ranges written to {config.cache}")
    return found


def _accuracy(model: ir.Model, runtime: Any, judged: Judged) -> Accuracy:
    found, _ = evaluate(runtime, dict(judged.data), judged.labels, _output(model, judged))
    return found


def _output(model: ir.Model, judged: Judged) -> Array:
    """The float32 model's first output; labels are checked against it."""
    _, output = evaluate(OnnxRuntime(model), dict(judged.data), judged.labels)
    return output


def _one_batch(judged: Judged, inputs: Sequence[InputSpec], size: int) -> Feeds:
    return next(batches_in(judged.data, inputs, max(size, 16))())


def _some(batches: Batches, most: int = 64) -> dict[str, Array]:
    """The first samples of a stream as one batch."""
    gathered: list[Feeds] = []
    for feeds in batches():
        gathered.append(feeds)
        if sum(len(next(iter(each.values()))) for each in gathered) >= most:
            break
    if not gathered:
        raise UsageError("calibration data", "holds no samples", "give at least one")
    return {name: np.concatenate([each[name] for each in gathered]) for name in gathered[0]}
