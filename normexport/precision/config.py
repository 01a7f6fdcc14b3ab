"""What can be asked of a lower precision, with every default and choice: the command line takes its own from here.

This module loads nothing heavy: neither numpy nor ONNX.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normexport.dtypes import FLOAT8, FLOAT32, HALVES, INT8, SHORT
from normexport.errors import UsageError
from normexport.io.preprocess import Preprocess
from normexport.workers import Where

#: How ranges follow from samples; `precision.int8.ranges` has the mathematics of each.
METHODS = ("mse", "minmax", "percentile", "entropy")
#: Ranges without samples, from what the norms know: `precision.int8.from_norms`.
NORMS = "norms"
#: The integers that a network was trained on with fake quantisation: `precision.int8.from_training`.
TRAINED = "trained"
#: What takes no samples.
WITHOUT_SAMPLES = (NORMS, TRAINED)
#: How much is tried to make int8 better; `precision.int8.edits` has what each means.
EFFORTS = ("none", "standard", "high")
#: Where int8 goes: wherever it can be, or where it pays on a CPU runtime, as measured (`precision.int8.placement`).
PLACEMENTS = ("all", "onnxruntime", "openvino")
#: What labels are compared with outputs by; `precision.metrics` has the formula of each.
METRICS = ("top1", "top5", "iou", "mae", "rmse")
#: Those that are shares.
SHARES = METRICS[:3]
#: Percentage points of a share that may be lost where nobody says how many.
POINTS = 0.5


@dataclass(frozen=True)
class Half:
    """How to convert: dtype "float16" or "bfloat16"; io_dtype "float32" or the same; module paths to keep.

    `keep` holds shell patterns of module paths ("layer4.*"); a pattern also covers everything below a path it matches.

    Raises:
        UsageError: an unknown dtype.
    """

    dtype: str = "float16"
    io_dtype: str = "float32"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in HALVES:
            raise UsageError(f"dtype {self.dtype!r}", "is not a half type", f"choose {' or '.join(HALVES)}")
        if self.io_dtype not in ("float32", self.dtype):
            raise UsageError(
                f"--io-dtype {self.io_dtype}", f"does not go with {self.dtype}", f"choose float32 or {self.dtype}"
            )


@dataclass(frozen=True)
class Limits:
    """What may be lost against the reference.

    Attributes:
        min_snr: dB that every output needs; minus infinity: whatever is finite. The default is for outputs where no
            labels say what an error costs.
        max_drop: where there are labels, of their metric: percentage points of a share, else its own unit; and of whole
            numbers that differ, where no scores are behind them, percentage points. None: 0.5 points; a metric in a
            unit of its own then judges nothing, and is refused.
    """

    min_snr: float = 25.0
    max_drop: float | None = None

    @property
    def points(self) -> float:
        """Percentage points of a share."""
        return POINTS if self.max_drop is None else self.max_drop


@dataclass(frozen=True)
class Draw:
    """Which samples of some data are meant: all of them, where nothing is said.

    Attributes:
        samples: how many, drawn by `seed`: the same wherever they are computed; None, or more than there are: all.
        seed: of the draw.
        skip_bad: how many may be left out because they can't be read; each is listed.

    Raises:
        UsageError: a number that none can be.
    """

    samples: int | None = None
    seed: int = 0
    skip_bad: int = 0

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise UsageError(f"--samples {self.samples}", "is not a number of samples", "give at least 1")
        if self.skip_bad < 0:
            raise UsageError(f"--skip-bad {self.skip_bad}", "is not a number of samples", "give 0 or more")

    @property
    def option(self) -> str:
        """What was asked for, as the command line says it; "" where all samples are meant, and none may be left out."""
        asked = f"--samples {self.samples}" if self.samples is not None else ""
        return asked or (f"--skip-bad {self.skip_bad}" if self.skip_bad else "")


ALL = Draw()


@dataclass(frozen=True)
class EightBit:
    """How to quantise to eight bits: what `Int8` and `Fp8` have in common.

    Attributes:
        calibration: samples: .npz, folder of .npy or images, or an iterable; None: a part of the data to judge on.
        method: one of `METHODS`, or `NORMS` or `TRAINED`, which take no samples.
        cache: JSON file of calibration results: read where it exists, else written. It holds ranges, or a calibration
            state (`normexport.calibrate`), of which any method makes ranges; a state of some of the samples is gone on
            with where `on` is given.
        batch: samples run at a time; a ResNet-50 at 224x224 holds 87 MB of tensors per sample.
        symmetric: zero points of 0, for engines.
        keep: module path patterns left in float32.
        max_drop: what may be lost at the output that has labels, in percentage points or the unit of its metric; None:
            0.5 points.
        min_snr: of every other output, in dB.
        table: measure every module's sensitivity too.
        effort: one of `EFFORTS`: "standard" equalises layers and corrects biases, "high" rounds weights by least
            squares too, each where it helps.
        preprocess: what is done to the images of `calibration`; None: values in [0, 1] at the model's size.
        remainder: the type of what is not in eight bits: "float16", "bfloat16" or "float32"; None: float16 where an
            engine is built, float32 for a file alone.
        io_dtype: of inputs and outputs: "float32", or that of the remainder.
        placement: one of `PLACEMENTS`.
        on: where samples are calibrated on, and modules measured for the table: each batch by one thread, whose
            results are the same bytes here and on any number of workers. None: here, each batch by all threads.
        draw: which samples of `calibration` are meant; None: all, or as many as of the data of the conversion.

    Raises:
        UsageError: an unknown method, effort, remainder or placement; samples, a cache or `on` beside `NORMS` or
            `TRAINED`; a table, an effort, a placement or a half remainder beside `TRAINED`; an `io_dtype` that is
            neither float32 nor the remainder's; a placement beside a half remainder.
    """

    calibration: str | Path | Iterable[Any] | None = None
    method: str = METHODS[0]
    cache: Path | None = None
    batch: int = 8
    symmetric: bool = False
    keep: tuple[str, ...] = ()
    max_drop: float | None = Limits.max_drop
    min_snr: float = Limits.min_snr
    table: bool = False
    effort: str = EFFORTS[1]
    preprocess: Preprocess | None = None
    remainder: str | None = None
    io_dtype: str = FLOAT32.name
    placement: str = PLACEMENTS[0]
    on: Where | None = None
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if self.method not in (*METHODS, *WITHOUT_SAMPLES):
            remedy = f"choose one of {', '.join((*METHODS, NORMS))} or {TRAINED}"
            raise UsageError(f"--calibration {self.method}", "is not a method", remedy)
        if self.method in WITHOUT_SAMPLES and (self.calibration is not None or self.cache is not None):
            option = "--calibration-cache" if self.calibration is None else "--calibration-data"
            raise UsageError(option, f"means nothing with --calibration {self.method}", "leave one out; --data judges")
        if self.method in WITHOUT_SAMPLES and self.on is not None:
            cause = f"means nothing with --calibration {self.method}, which takes no samples"
            raise UsageError(f"--on {self.on.words}", cause, "leave one out")
        if self.effort not in EFFORTS:
            raise UsageError(f"--effort {self.effort}", "is not an effort", f"choose {' or '.join(EFFORTS)}")
        if self.method == TRAINED and (self.table or self.effort != EFFORTS[1]):
            option = "--sensitivity" if self.table else f"--effort {self.effort}"
            cause = f"means nothing with --calibration {TRAINED}, which computes on the integers of training"
            raise UsageError(option, cause, "leave one out")
        if self.method == TRAINED and self.rest in HALVES:
            cause = f"rounds scales, and --calibration {TRAINED} keeps those of training"
            raise UsageError(f"--remainder {self.remainder}", cause, "leave one out")
        rests = (FLOAT32.name, *HALVES)
        if self.remainder not in (None, *rests):
            raise UsageError(f"--remainder {self.remainder}", "is not a type", f"choose {' or '.join(rests)}")
        if self.io_dtype not in ((FLOAT32.name, self.remainder) if self.remainder else rests):
            cause = f"does not go with --remainder {self.remainder or ' or '.join(rests)}"
            remedy = f"choose {' or '.join(dict.fromkeys((FLOAT32.name, self.remainder or FLOAT32.name)))}"
            raise UsageError(f"--io-dtype {self.io_dtype}", cause, remedy)
        self._require_placement()

    def _require_placement(self) -> None:
        option = f"--placement {self.placement}"
        if self.placement not in PLACEMENTS:
            raise UsageError(option, "is not a placement", f"choose {', '.join(PLACEMENTS[:-1])} or {PLACEMENTS[-1]}")
        if self.placement != PLACEMENTS[0] and self.method == TRAINED:
            cause = f"means nothing with --calibration {TRAINED}, which keeps all that training rounded"
            raise UsageError(option, cause, "leave one out")
        if self.placement != PLACEMENTS[0] and self.rest in HALVES:
            cause = f"means nothing with --remainder {self.remainder}, which CPU runtimes compute in float32"
            raise UsageError(option, cause, "leave one out")

    @property
    def dtype(self) -> str:
        """The type of eight bits."""
        raise NotImplementedError

    @property
    def rest(self) -> str:
        """The type of the remainder; float32 where nobody says."""
        return self.remainder or FLOAT32.name


@dataclass(frozen=True)
class Int8(EightBit):
    """How to quantise to int8; attributes and refusals are those of `EightBit`."""

    @property
    def dtype(self) -> str:
        """ "int8"."""
        return INT8


@dataclass(frozen=True)
class Fp8(EightBit):
    """How to quantise layers to 8-bit floating point, E4M3: for GPUs from sm_89 on. Attributes are those of `EightBit`.

    Raises:
        UsageError: as `EightBit`; zero points; a placement; a calibration by entropy, which counts even levels.
    """

    symmetric: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.symmetric:
            raise UsageError(
                "symmetric=False", f"means nothing in {FLOAT8.short}, which has no zero points", "leave it out"
            )
        if self.method == TRAINED:
            cause = f"keeps the integers of training, and {FLOAT8.short} has none"
            raise UsageError(f"--calibration {TRAINED}", cause, "choose int8, or another method")
        if self.placement != PLACEMENTS[0]:
            cause = f"measures on a CPU, and none computes in {FLOAT8.short}"
            raise UsageError(f"--placement {self.placement}", cause, "leave it out, or choose int8")
        if self.method == "entropy":
            cause = f"counts levels that are evenly apart, and those of {FLOAT8.short} are not"
            raise UsageError("--calibration entropy", cause, "choose mse, minmax or percentile")

    @property
    def dtype(self) -> str:
        """ "float8_e4m3fn"."""
        return FLOAT8.name


def require_samples(config: EightBit, judged: bool) -> None:
    """Refuse a calibration that has nothing to calibrate on; data that judge stand for it, where there are any.

    Raises:
        UsageError: names what brings samples.
    """
    if config.method not in WITHOUT_SAMPLES and config.calibration is None and not judged:
        place, cause = f"--precision {SHORT[config.dtype]}", "needs samples to calibrate on"
        raise UsageError(place, cause, "give --calibration-data or --data")
