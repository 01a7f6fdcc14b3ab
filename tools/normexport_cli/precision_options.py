"""Options of `convert` that lower the precision, and the config that they make."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from normexport.dtypes import HALVES, SHORT
from normexport.errors import UsageError
from normexport.precision.config import METHODS, Half, Int8

Precision = Annotated[
    str, typer.Option("--precision", metavar="P", help="fp32, fp16, bf16 or int8, written into the graph.")
]
IoDtype = Annotated[
    str,
    typer.Option("--io-dtype", metavar="T", help="Type of inputs and outputs in fp16 and bf16: float32, or theirs."),
]
KeepFp32 = Annotated[
    list[str],
    typer.Option("--keep-fp32", metavar="PATTERN", help="Module paths to compute in float32: 'layer4.*'. Repeatable."),
]
CalibrationData = Annotated[
    Path | None,
    typer.Option("--calibration-data", metavar="PATH", help="Samples for int8: .npz, a folder of .npy or images."),
]
Calibration = Annotated[
    str, typer.Option("--calibration", metavar="METHOD", help=f"{', '.join(METHODS[:-1])} or {METHODS[-1]}.")
]
CalibrationCache = Annotated[
    Path | None,
    typer.Option(
        "--calibration-cache", metavar="FILE.json", help="Read ranges from it where it exists, else write it."
    ),
]
CalibrationBatch = Annotated[int, typer.Option("--calibration-batch", metavar="N", help="Samples run at a time.")]
MaxDrop = Annotated[
    float,
    typer.Option("--max-drop", metavar="POINTS", help="Accuracy that may be lost where there are labels, in points."),
]
MinSnr = Annotated[float, typer.Option("--min-snr", metavar="DB", help="SNR that every other output needs.")]
Symmetric = Annotated[
    bool, typer.Option("--symmetric", metavar="", help="int8 without zero points, as --engine makes it anyway.")
]
SensitivityTable = Annotated[
    bool, typer.Option("--sensitivity", metavar="", help="Measure each module's part in the int8 error.")
]

LabelsFor = Annotated[
    str | None,
    typer.Option("--labels-for", metavar="OUTPUT", help="The output that labels belong to, where they fit several."),
]

_HALVES = {each.short: name for name, each in HALVES.items()}


def check_limits(max_drop: float, min_snr: float) -> None:
    """Both are numbers.

    Raises:
        UsageError: one is not.
    """
    for option, limit in (("--max-drop", max_drop), ("--min-snr", min_snr)):
        if not math.isfinite(limit):
            raise UsageError(f"{option} {limit}", "is not a limit", "give a number")


def precision_config(
    precision: str,
    io_dtype: str,
    keep: list[str],
    data: Path | None,
    method: str,
    cache: Path | None,
    batch: int,
    limits: tuple[float, float],
    symmetric: bool,
    table: bool,
    labels_for: str | None,
) -> Half | Int8 | None:
    """From the words of the command line, before anything slow is imported.

    Raises:
        UsageError: an unknown word, or an option that this precision has no use for.
    """
    if precision not in SHORT.values():
        *first, last = SHORT.values()
        remedy = f"choose {', '.join(first)} or {last}"
        raise UsageError(f"--precision {precision}", "is not a precision", remedy)
    given = {
        "--io-dtype": (io_dtype != Half.io_dtype, tuple(_HALVES)),
        "--keep-fp32": (bool(keep), ("int8", *_HALVES)),
        "--calibration-data": (data is not None, ("int8",)),
        "--calibration-cache": (cache is not None, ("int8",)),
        "--symmetric": (symmetric, ("int8",)),
        "--sensitivity": (table, ("int8",)),
        "--labels-for": (labels_for is not None, ("int8", *_HALVES)),
    }
    for option, (is_given, serves) in given.items():
        if is_given and precision not in serves:
            raise UsageError(option, f"means nothing with --precision {precision}", f"it is for {', '.join(serves)}")
    if batch < 1:
        raise UsageError(f"--calibration-batch {batch}", "is not a number of samples", "give at least 1")
    check_limits(*limits)
    if precision == "fp32":
        return None
    if precision in _HALVES:
        return Half(_HALVES[precision], io_dtype, tuple(keep))
    if method not in METHODS:
        raise UsageError(f"--calibration {method}", "is not a method", f"choose one of {', '.join(METHODS)}")
    return Int8(data, method, cache, batch, symmetric, tuple(keep), *limits, table)
