"""What a capsule holds: inputs, what is right for them in float64, and how far from it a candidate may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.dtypes import of_onnx
from normexport.engine.manifest import FileId
from normexport.proof import Budget, Deviation
from normexport.proof.metrics import Float64s
from normexport.runtime import Array

FORMAT = 1
MOST_DB = 400.0  # of a ratio, either way: float64 itself has 320

#: Counts of NaN, +inf and -inf.
Special: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Within:
    """The rule of parity: errors within a budget that was set by the baseline's own (`normexport.proof.tolerance`).

    Attributes:
        rms, max_abs: the largest errors allowed, in the tensor's unit. Of integers `rms` is the share of elements
            that may differ, and `max_abs` infinite.
        baseline: the baseline's own errors on the whole tensor; None where it gave nothing that could be measured.
    """

    rms: float
    max_abs: float
    baseline: Deviation | None = None

    @property
    def budget(self) -> Budget:
        """The largest errors allowed."""
        return Budget(self.rms, self.max_abs)


@dataclass(frozen=True)
class Signal:
    """The rule of int8: an error at least `min_db` below the signal.

    Attributes:
        min_db: the least 20 log10(scale_rms / rms of the error).
        scale_rms: the signal: the tensor's RMS about each element's mean over the samples.
    """

    min_db: float
    scale_rms: float

    #: No baseline sets this limit.
    baseline = None

    @property
    def budget(self) -> Budget:
        """The largest RMS that keeps the distance: scale_rms * 10^(-min_db / 20). Single elements may be anything."""
        return Budget(float(self.scale_rms * 10 ** (-self.min_db / 20)), float("inf"))


Rule: TypeAlias = Within | Signal


@dataclass(frozen=True)
class Reference:
    """One tensor as it should be.

    Attributes:
        name: of the ONNX value.
        values: float64 for floating-point tensors, else their own type. All of it, shape and all; or, where `at` is
            given, its elements at those places of the flattened tensor, one axis.
        rule: how far from it a candidate may be.
        shape: of the whole tensor.
        special: how many elements of the whole tensor are NaN, +inf and -inf.
        at: places (n,) in rising order; None: all.
        path, type: module path and class of a module boundary; "" for an output of the model.
        dtype: of an output in the ONNX file, "float16"; "" for a boundary.
    """

    name: str
    values: Array
    rule: Rule
    shape: tuple[int, ...]
    special: Special
    at: npt.NDArray[np.int64] | None = None
    path: str = ""
    type: str = ""
    dtype: str = ""


@dataclass(frozen=True)
class Run:
    """One set of inputs, and the outputs that it should give.

    Attributes:
        name: for reports, "random x0.1, batch 2".
        size: its batch size.
        feeds: the inputs by name, rounded as a candidate reads them; bfloat16 ones as float32.
        outputs: in the model's order.
    """

    name: str
    size: int
    feeds: Mapping[str, Array]
    outputs: tuple[Reference, ...]


@dataclass(frozen=True)
class Capsule:
    """All that it takes to judge a candidate elsewhere.

    Attributes:
        precision: that the budgets are for: one of `normexport.dtypes.PRECISIONS`.
        reference, baseline: names of the two runtimes that were there when it was made.
        inputs: type of each input, by name.
        runs: at least one; each has all inputs and all outputs.
        boundaries: module boundaries in the order of execution, under the run number `boundary_run`.
        unproven: what nothing in the capsule can prove, in words.
        channels: by output and axis, the RMS of the baseline's error in each channel as a share of the channel's own
            RMS (n,), over all runs.
        source: the checkpoint; None where it was no file.
        model: the ONNX file it was made with, and its data where that lies in a file of its own.
        versions: of normexport and of what computed the numbers.
        notes: what a reader should know, in words.
    """

    precision: str
    reference: str
    baseline: str
    inputs: Mapping[str, str]
    runs: tuple[Run, ...]
    boundaries: tuple[Reference, ...] = ()
    boundary_run: int = 0
    unproven: tuple[str, ...] = ()
    channels: Mapping[str, Mapping[int, Float64s]] = field(default_factory=dict)
    source: FileId | None = None
    model: tuple[FileId, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def count_special(values: Array) -> Special:
    """How many elements are NaN, +inf and -inf."""
    if not np.issubdtype(values.dtype, np.floating):
        return (0, 0, 0)
    floats = np.asarray(values, dtype=np.float64)
    if np.isfinite(floats).all():
        return (0, 0, 0)
    nan, high, low = (np.count_nonzero(test) for test in (np.isnan(floats), floats == np.inf, floats == -np.inf))
    return int(nan), int(high), int(low)


def type_name(dtype: ir.DataType | None) -> str:
    """ "float32" for ONNX's FLOAT; "" where there is none."""
    kind = of_onnx(dtype)
    return kind.name if kind is not None else "" if dtype is None else dtype.name.lower()
