"""What `fold` takes and gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from normexport.dtypes import FLOAT32, FLOAT64, FLOATS, HALVES
from normexport.errors import UsageError

Fate = Literal["folded", "lowered", "live"]


@dataclass(frozen=True)
class FoldConfig:
    """How to fold.

    Attributes:
        precision: "float16" where the folded file will later be cast to float16: constants that would overflow
            there are warned about, by channel. Constants are always checked against their own type as well, and a
            fold that would overflow that is refused. "" checks nothing more.

    Raises:
        UsageError: `precision` is not the name of a floating-point type.
    """

    precision: str = ""

    def __post_init__(self) -> None:
        if self.precision not in ("", *FLOATS):
            remedy = f"choose {', '.join([*HALVES, FLOAT32.name])} or {FLOAT64.name}"
            raise UsageError(f"precision {self.precision!r}", "is not a floating-point type", remedy)


@dataclass(frozen=True)
class NormOutcome:
    """What became of one norm.

    Attributes:
        node: name of the norm's node, of the first node of a raw chain, or of a BoundedWeightNorm.
        path: module path, "" where the file keeps none.
        kind: "l1", "linf", ..., "batchnorm", "chain"; "rms" and "lp" for what subtracts no mean; "weight" for a
            BoundedWeightNorm.
        fate: "folded": nothing of it is left. "lowered": it is (or was already) the cheapest thing that can
            stand there: one Mul and Add, or the one BatchNormalization it arrived as. "live": left exactly as it
            was, because its statistics are not constants (or are not numbers).
        rule: name of the rule's file: "producer", "consumer", "pool", "concat", "add", "lower", ...; "" if live.
        into: names of the nodes that took the norm in.
        reason: in words: where it went, or why it could not go.
    """

    node: str
    path: str
    kind: str
    fate: Fate
    rule: str
    into: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class FoldWarning:
    """Something to know about one norm, by channel.

    Attributes:
        code: "dead_channel" (the channel ignores its input), "not_finite" (a running scale of zero, NaN),
            "overflow" (a folded constant does not fit its type, so that fold was refused) or
            "overflow_later" (it would not fit `FoldConfig.precision`).
    """

    code: str
    node: str
    path: str
    message: str
    channels: tuple[int, ...]


@dataclass(frozen=True)
class FoldResult:
    """`model` is the input model itself where nothing could be improved (`changed` is False), else a new one."""

    model: ir.Model
    norms: tuple[NormOutcome, ...]
    warnings: tuple[FoldWarning, ...]
    changed: bool
