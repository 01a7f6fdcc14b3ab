"""Options of `convert` that reduce the precision, and the config that they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from normexport.dtypes import HALVES, SHORT
from normexport.errors import UsageError
from normexport.precision.config import EFFORTS, METHODS, METRICS, NORMS, POINTS, TRAINED, Half, Int8, Limits

MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        metavar="LOSS",
        show_default=f"{POINTS:g} points",
        help="What may be lost of --metric: percentage points, or of mae, rmse and functions their own unit.",
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help=f"What labels are compared by: {', '.join(METRICS)} or package.module:function(output, labels)."
        " By default top1, of maps of classes iou.",
    ),
]
MinSnr = Annotated[float, typer.Option("--min-snr", metavar="DB", help="SNR that every other output needs.")]

_FULL = SHORT["float32"]
_HALVES = {each.short: name for name, each in HALVES.items()}


@dataclass(frozen=True)
class SnrOptions:
    """What outputs may lose against the reference.

    Raises:
        UsageError: not a number.
    """

    min_snr: MinSnr = Limits.min_snr

    def __post_init__(self) -> None:
        require_number("--min-snr", self.min_snr)

    def limits(self) -> Limits:
        """The same in the library's terms."""
        return Limits(self.min_snr)


@dataclass(frozen=True)
class LimitOptions:
    """What accuracy and outputs may lose against the reference.

    Raises:
        UsageError: not a number.
    """

    metric: MetricName = None
    max_drop: MaxDrop = Limits.max_drop
    min_snr: MinSnr = Limits.min_snr

    def __post_init__(self) -> None:
        if self.max_drop is not None:
            require_number("--max-drop", self.max_drop)
        require_number("--min-snr", self.min_snr)

    def limits(self) -> Limits:
        """The same in the library's terms."""
        return Limits(self.min_snr, self.max_drop)


@dataclass(frozen=True)
class PrecisionOptions:
    """What `convert` reduces the folded model to, and how.

    Raises:
        UsageError: an unknown word, or an option that this precision has no use for.
    """

    precision: Annotated[
        str, typer.Option("--precision", metavar="P", help="fp32, fp16, bf16 or int8, written into the graph.")
    ] = _FULL
    io_dtype: Annotated[
        str,
        typer.Option(
            "--io-dtype", metavar="T", help="Type of inputs and outputs in fp16 and bf16: float32, or theirs."
        ),
    ] = Half.io_dtype
    keep_fp32: Annotated[
        list[str],
        typer.Option(
            "--keep-fp32", metavar="PATTERN", help="Module paths to compute in float32: 'layer4.*'. Repeatable."
        ),
    ] = field(default_factory=list)
    calibration_data: Annotated[
        Path | None,
        typer.Option("--calibration-data", metavar="PATH", help="Samples for int8: .npz, a folder of .npy or images."),
    ] = None
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration", metavar="METHOD", help=f"{', '.join(METHODS)}; without data {NORMS} or {TRAINED}."
        ),
    ] = Int8.method
    calibration_cache: Annotated[
        Path | None,
        typer.Option(
            "--calibration-cache", metavar="FILE.json", help="Read ranges from it where it exists, else write it."
        ),
    ] = Int8.cache
    calibration_batch: Annotated[
        int, typer.Option("--calibration-batch", metavar="N", help="Samples run at a time.")
    ] = Int8.batch
    metric: MetricName = None
    max_drop: MaxDrop = Int8.max_drop
    min_snr: MinSnr = Int8.min_snr
    symmetric: Annotated[
        bool, typer.Option("--symmetric", metavar="", help="int8 without zero points, as --engine makes it anyway.")
    ] = Int8.symmetric
    labels_for: Annotated[
        str | None,
        typer.Option(
            "--labels-for", metavar="OUTPUT", help="The output that labels belong to, where they fit several."
        ),
    ] = None
    effort: Annotated[
        str,
        typer.Option(
            "--effort", metavar="E", help=f"What int8 tries to lose less: {', '.join(EFFORTS[:-1])} or {EFFORTS[-1]}."
        ),
    ] = Int8.effort
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", metavar="", help="Measure each module's part in the int8 error.")
    ] = Int8.table

    def __post_init__(self) -> None:
        if self.precision not in SHORT.values():
            *first, last = SHORT.values()
            remedy = f"choose {', '.join(first)} or {last}"
            raise UsageError(f"--precision {self.precision}", "is not a precision", remedy)
        given = {
            "--io-dtype": (self.io_dtype != Half.io_dtype, tuple(_HALVES)),
            "--keep-fp32": (bool(self.keep_fp32), ("int8", *_HALVES)),
            "--calibration-data": (self.calibration_data is not None, ("int8",)),
            "--calibration-cache": (self.calibration_cache is not None, ("int8",)),
            "--symmetric": (self.symmetric, ("int8",)),
            "--effort": (self.effort != Int8.effort, ("int8",)),
            "--sensitivity": (self.sensitivity, ("int8",)),
            "--labels-for": (self.labels_for is not None, ("int8", *_HALVES)),
            "--metric": (self.metric is not None, ("int8", *_HALVES)),
        }
        for option, (is_given, serves) in given.items():
            if is_given and self.precision not in serves:
                cause = f"means nothing with --precision {self.precision}"
                raise UsageError(option, cause, f"it is for {', '.join(serves)}")
        if self.calibration_batch < 1:
            place = f"--calibration-batch {self.calibration_batch}"
            raise UsageError(place, "is not a number of samples", "give at least 1")
        if self.max_drop is not None:
            require_number("--max-drop", self.max_drop)
        require_number("--min-snr", self.min_snr)
        self.config()  # has refusals of its own

    def config(self) -> Half | Int8 | None:
        """The same in the library's terms; None: float32."""
        keep = tuple(self.keep_fp32)
        if self.precision in _HALVES:
            return Half(_HALVES[self.precision], self.io_dtype, keep)
        if self.precision == _FULL:
            return None
        return Int8(
            calibration=self.calibration_data,
            method=self.calibration,
            cache=self.calibration_cache,
            batch=self.calibration_batch,
            symmetric=self.symmetric,
            keep=keep,
            max_drop=self.max_drop,
            min_snr=self.min_snr,
            table=self.sensitivity,
            effort=self.effort,
        )


def require_number(option: str, limit: float) -> None:
    """Refuse a limit that nothing can be held against.

    Raises:
        UsageError: NaN or infinity.
    """
    if not math.isfinite(limit):
        raise UsageError(f"{option} {limit}", "is not a limit", "give a number")
