"""Options of `convert` that reduce the precision, and the config that they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from normexport.dtypes import EIGHT_BITS, FLOAT8, FLOAT32, HALVES, INT8, SHORT
from normexport.errors import UsageError
from normexport.precision.config import (
    EFFORTS,
    METHODS,
    METRICS,
    NORMS,
    PLACEMENTS,
    POINTS,
    TRAINED,
    EightBit,
    Fp8,
    Half,
    Int8,
    Limits,
)
from normexport_cli.help import one_of

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
        autocompletion=one_of(*METRICS),
    ),
]
MinSnr = Annotated[float, typer.Option("--min-snr", metavar="DB", help="SNR that every other output needs.")]

_FULL = SHORT["float32"]
_HALVES = {each.short: name for name, each in HALVES.items()}
_EIGHT_BITS = tuple(SHORT[name] for name in EIGHT_BITS)
#: By either name, since --io-dtype has the long one.
_RESTS = {word: each.name for each in (FLOAT32, *HALVES.values()) for word in (each.short, each.name)}


@dataclass(frozen=True)
class SnrOptions:
    """What outputs may lose against the reference.

    Raises:
        UsageError: not a number.
    """

    PANEL: ClassVar = "What may be lost"

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

    PANEL: ClassVar = "What may be lost"

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

    PANEL: ClassVar = "Precision"

    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="P",
            help="fp32, fp16, bf16, int8 or fp8, written into the graph.",
            autocompletion=one_of(*SHORT.values()),
        ),
    ] = _FULL
    io_dtype: Annotated[
        str,
        typer.Option(
            "--io-dtype",
            metavar="T",
            help="Type of inputs and outputs: float32, or that of fp16, bf16, --remainder.",
            autocompletion=one_of(*_RESTS),
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
        typer.Option(
            "--calibration-data", metavar="PATH", help="Samples for int8, fp8: .npz, a folder of .npy or images."
        ),
    ] = None
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            metavar="METHOD",
            help=f"{', '.join(METHODS)}; without data {NORMS} or {TRAINED}.",
            autocompletion=one_of(*METHODS, NORMS, TRAINED),
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
            "--effort",
            metavar="E",
            help=f"What int8, fp8 try to lose less: {', '.join(EFFORTS[:-1])} or {EFFORTS[-1]}.",
            autocompletion=one_of(*EFFORTS),
        ),
    ] = Int8.effort
    remainder: Annotated[
        str | None,
        typer.Option(
            "--remainder",
            metavar="P",
            show_default="fp16 with --engine, else fp32",
            help="What is not in int8 or fp8 computes in: fp32, fp16 or bf16.",
            autocompletion=one_of(*_RESTS),
        ),
    ] = EightBit.remainder
    placement: Annotated[
        str,
        typer.Option(
            "--placement",
            metavar="WHERE",
            help=f"int8 wherever it can be ({PLACEMENTS[0]}), or where it pays on {' or '.join(PLACEMENTS[1:])}.",
        ),
    ] = Int8.placement
    placement_plot: Annotated[
        Path | None,
        typer.Option("--placement-plot", metavar="FILE", help="Draw SNR over time of each: FILE.svg, .png or .pdf."),
    ] = None
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", metavar="", help="Measure each module's part in the int8 or fp8 error.")
    ] = Int8.table

    def __post_init__(self) -> None:
        if self.precision not in SHORT.values():
            *first, last = SHORT.values()
            remedy = f"choose {', '.join(first)} or {last}"
            raise UsageError(f"--precision {self.precision}", "is not a precision", remedy)
        any_lower = (*_EIGHT_BITS, *_HALVES)
        given = {
            "--io-dtype": (self.io_dtype != Half.io_dtype, any_lower),
            "--keep-fp32": (bool(self.keep_fp32), any_lower),
            "--calibration-data": (self.calibration_data is not None, _EIGHT_BITS),
            "--calibration-cache": (self.calibration_cache is not None, _EIGHT_BITS),
            "--symmetric": (self.symmetric, (INT8,)),
            "--effort": (self.effort != Int8.effort, _EIGHT_BITS),
            "--remainder": (self.remainder is not None, _EIGHT_BITS),
            "--placement": (self.placement != Int8.placement, (INT8,)),
            "--sensitivity": (self.sensitivity, _EIGHT_BITS),
            "--labels-for": (self.labels_for is not None, any_lower),
            "--metric": (self.metric is not None, any_lower),
        }
        for option, (is_given, serves) in given.items():
            if is_given and self.precision not in serves:
                cause = f"means nothing with --precision {self.precision}"
                raise UsageError(option, cause, f"it is for {', '.join(serves)}")
        if self.placement_plot is not None:
            _check_plot(self.placement_plot, self.placement)
        if self.calibration_batch < 1:
            place = f"--calibration-batch {self.calibration_batch}"
            raise UsageError(place, "is not a number of samples", "give at least 1")
        if self.max_drop is not None:
            require_number("--max-drop", self.max_drop)
        require_number("--min-snr", self.min_snr)
        if self.remainder not in (None, *_RESTS):
            raise UsageError(f"--remainder {self.remainder}", "is not a type", "choose fp32, fp16 or bf16")
        self.config()  # has refusals of its own

    def config(self) -> Half | EightBit | None:
        """The same in the library's terms; None: float32."""
        if self.precision in _HALVES:
            return Half(_HALVES[self.precision], self.io_dtype, tuple(self.keep_fp32))
        if self.precision == _FULL:
            return None
        how = self._eight_bits()
        return Fp8(**how) if self.precision == FLOAT8.short else Int8(**how, symmetric=self.symmetric)

    def _eight_bits(self) -> dict[str, Any]:
        """The fields that int8 and fp8 have in common."""
        return {
            "calibration": self.calibration_data,
            "method": self.calibration,
            "cache": self.calibration_cache,
            "batch": self.calibration_batch,
            "keep": tuple(self.keep_fp32),
            "max_drop": self.max_drop,
            "min_snr": self.min_snr,
            "placement": self.placement,
            "table": self.sensitivity,
            "effort": self.effort,
            "remainder": None if self.remainder is None else _RESTS[self.remainder],
            "io_dtype": self.io_dtype,
        }


def _check_plot(path: Path, placement: str) -> None:
    """Refuse, before minutes of work, what can't be drawn.

    Raises:
        UsageError: there is nothing to draw, or no place for it.
        MissingComponent: matplotlib is not installed.
    """
    from normexport.io.atomic import check_writable
    from normexport.reports.bench_plot import require_plots
    from normexport_cli import options

    if placement == Int8.placement:
        cause = f"means nothing with --placement {placement}, which measures nothing"
        raise UsageError("--placement-plot", cause, f"add --placement {PLACEMENTS[1]}")
    options.require_file_name(path)
    check_writable(path.parent)
    require_plots(path)


def require_number(option: str, limit: float) -> None:
    """Refuse a limit that nothing can be held against.

    Raises:
        UsageError: NaN or infinity.
    """
    if not math.isfinite(limit):
        raise UsageError(f"{option} {limit}", "is not a limit", "give a number")
