"""How to reduce the precision, and what doing it gave: frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from normexport.dtypes import FLOAT32
from normexport.folding.integer_norms import IntegerNormOutcome
from normexport.precision.accuracy import Accuracy
from normexport.precision.half.search import KeptModule, WeightLoss
from normexport.precision.int8.edits import Int8Edit
from normexport.precision.int8.placement import Placement
from normexport.precision.int8.sensitivity import Sensitivity, TradeOff
from normexport.precision.labels import Labelled
from normexport.precision.numbered import Numbered
from normexport.proof import ParityReport
from normexport.runtime import Array
from normexport.verdicts import Judgement, passed

#: Called after each batch of calibration with the samples seen, and how many there will be (None: not known).
OnBatch = Callable[[int, int | None], None]
#: What the file to write is made of a reduced model by.
Finish = Callable[[ir.Model], ir.Model]


@dataclass(frozen=True)
class Precision:
    """What a conversion to lower precision did; everything but the model.

    Attributes:
        dtype: "float16", "bfloat16", "int8" or "float8_e4m3fn".
        kept: modules in float32, with reasons; of eight bits, those that are in the remainder's type.
        losses: weights that the half type does not hold.
        integer_nodes: how many nodes can compute on integers.
        norms: what became of live norms in int8.
        accuracy: every output against float32, on samples that did not calibrate; None without data.
        sensitivity: per module, where asked for.
        curve: modules excluded against SNR, accuracy and latency.
        placement: where int8 pays, as measured; None where that was not asked for.
        edits: what was tried to make int8 better, what it gave, and why it was not kept.
        calibration: method, samples, batch and digests.
        judgement: whether the limits hold, and whether that shows anything.
        notes: in words.
        remainder: the type of what is not in eight bits; "float32" too where all is in a half type.
        widened: modules of a half remainder that are in float32, with reasons.
    """

    dtype: str
    kept: tuple[KeptModule, ...] = ()
    losses: tuple[WeightLoss, ...] = ()
    integer_nodes: int = 0
    norms: tuple[IntegerNormOutcome, ...] = ()
    accuracy: Accuracy | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    curve: tuple[TradeOff, ...] = ()
    edits: tuple[Int8Edit, ...] = ()
    placement: Placement | None = None
    calibration: Mapping[str, Any] | None = None
    judgement: Judgement = field(default_factory=passed)
    notes: tuple[str, ...] = ()
    remainder: str = FLOAT32.name
    widened: tuple[KeptModule, ...] = ()

    @property
    def passed(self) -> bool:
        return self.judgement.passed


@dataclass(frozen=True)
class Reduced:
    """The converted model, what was done, and for half precision its parity report."""

    model: ir.Model
    precision: Precision
    parity: ParityReport | None = None


@dataclass(frozen=True)
class Judged:
    """What a result is judged on: samples, labels, and the output that they belong to (None: it shows).

    Attributes:
        data: arrays (samples, *shape) by input name; or samples that are read as their turn comes.
        metric, classes: those of `Labelled`.
        skipped: samples of the data that can't be read and are not among these, a line each.
    """

    data: Mapping[str, Array] | Numbered
    labels: Array | None = None
    output: str | None = None
    metric: str | Callable[..., Any] | None = None
    classes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def labelled(self) -> Labelled | None:
        """The labels with their output; None without labels."""
        return None if self.labels is None else Labelled(self.labels, self.output, self.metric, self.classes)
