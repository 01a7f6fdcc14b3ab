"""What loading a checkpoint yields: frozen values that the later stages read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

Source = Literal["program", "module", "state_dict"]

#: Kind of a norm whose file does not say which statistic was trained (L1, Lp and Top-k share one layout).
UNKNOWN = "unknown"


@dataclass(frozen=True)
class NormRecord:
    """One norm of the checkpoint.

    Attributes:
        path: module path, "layer1.0.bn1".
        kind: a norm kind, "batchnorm" (torch's own), "mean" (no division), or "unknown".
        dialect: how it was stored; "ambiguous" where only `--dialect` can tell (bare state_dicts).
        channels: C.
        statistics: "running" averages, or by the value of a `norms.Scope`: of the "batch" or "instance" at inference.
        health: what is odd about the stored numbers, in words, by channel; empty is healthy.
        class_name: of an "unknown" kind in an exported program, the module's class, which is all that it says of it.
    """

    path: str
    kind: str
    dialect: str
    channels: int
    statistics: str
    health: tuple[str, ...] = ()
    class_name: str = ""

    @property
    def called(self) -> str:
        """The kind, or "class OwnNorm" where only the class is known: how reports name it."""
        return f"class {self.class_name}" if self.kind == UNKNOWN and self.class_name else self.kind


@dataclass(frozen=True)
class WeightNormRecord:
    """One weight under (bounded) weight norm.

    Attributes:
        path: module path and parameter name, "layer1.0.conv1.weight".
        layout: how it was stored.
        axis: the axis that keeps its own norm; -1: one norm over the whole tensor.
        p: the order of the norm.
    """

    path: str
    layout: str
    axis: int
    p: float


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with one meaning.

    Attributes:
        path: the file.
        source: what the file holds.
        model: in eval mode on the CPU, foreign norms replaced by `nn.RunningNorm`; None for an exported
            program and for a state_dict without a factory.
        program: the exported program, where the file is one.
        norms, weight_norms: in the order of the model, or of the file.
        notes: decisions taken on the way that a reader should know.
        unproven: parts of the model that stand for others of the file, in words, where that the two compute alike was
            not shown: what is proven of `model` is then not proven of the file.
        redrawn: numbers that no state_dict holds, by path, as a second call of the factory made them, where they
            differ from the first's: whichever the network was trained with, it was others.
        original: the network with its own code, where that quantises while it computes and `model` has layers of ours
            instead.
        shards: the files that weights were read from, where `path` is an index of them.
        unquantised: whether fake quantisation was left out, as asked.
        asked: those arguments of `load` that were given, by their names.
    """

    path: Path
    source: Source
    model: nn.Module | None = None
    program: ExportedProgram | None = None
    norms: tuple[NormRecord, ...] = ()
    weight_norms: tuple[WeightNormRecord, ...] = ()
    notes: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    redrawn: Mapping[str, Any] = field(default_factory=dict)
    original: nn.Module | None = None
    unquantised: bool = False
    shards: tuple[Path, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> tuple[tuple[Path, str], ...]:
        """Every file that it was read from, in words."""
        return (self.path, "the checkpoint"), *((shard, "a part of the checkpoint") for shard in self.shards)
