"""What happened, as frozen values: rendered for people by `terminal.py`, for programs by `as_dict`."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normexport.provenance.record import Provenance
from normexport.verdicts import Judgement, together

if TYPE_CHECKING:  # types alone: folding an ONNX file does without torch, showing an engine without onnx_ir
    import onnx_ir as ir

    from normexport.checkpoint import NormRecord, WeightNormRecord
    from normexport.engine import Manifest
    from normexport.folding import FoldWarning, NormOutcome
    from normexport.onnx_export import InputSpec
    from normexport.precision import Precision
    from normexport.proof import ParityReport
    from normexport.proof.inputs.folders import FolderRead


@dataclass(frozen=True)
class Port:
    """An input or an output of a model: its type as ONNX calls it, its sizes as the file writes them, None unknown."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class OnnxFile:
    """What an ONNX file is, without its norms.

    Attributes:
        inputs, outputs: in their order; an input that has a weight as its default is none.
        opsets: the version of each operator set, by its domain ("" is ONNX's own).
        ir_version, producer: as the file says.
        operators: how many nodes of each operator there are, those in branches and loops too, most frequent first.
        weights: how many numbers its weights have, by their type, most first.
        precision: what it computes in, one of `normexport.dtypes.PRECISIONS`.
        bytes, data_bytes: of the file, and of the files of weights beside it.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    operators: Mapping[str, int]
    weights: Mapping[str, int]
    precision: str
    bytes: int
    data_bytes: int = 0


@dataclass(frozen=True)
class Operators:
    """How many nodes of each operator there are before and after folding, most frequent first."""

    before: Mapping[str, int]
    after: Mapping[str, int]

    @classmethod
    def of(cls, before: ir.Model, after: ir.Model) -> Operators:
        """Counted over the main graphs; a function's body counts as its one node."""
        return cls(_count(before), _count(after))


def _count(model: ir.Model) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph).most_common())


@dataclass(frozen=True)
class Conversion:
    """One run of `convert`.

    Attributes:
        path, source: the checkpoint and what it holds.
        inputs: what the model reads.
        norms, weight_norms, notes: as the checkpoint was understood.
        outcomes, warnings: what became of each norm; empty where folding was off.
        operators: node counts before and after.
        parity: the judgement.
        files: what was written.
        seconds: wall time per stage, in order.
        engine: the manifest of the plan, where one was asked for and nothing failed.
        precision: what reducing the precision did, where that was asked for.
        data: what was done to the images of the data, and what their classes are called, where that is a folder.
        provenance: versions, the hashes of what was read and written, and the options.
        no_page: why `report.html` could not be made; "" where it was.
    """

    path: Path
    source: str
    inputs: tuple[InputSpec, ...]
    norms: tuple[NormRecord, ...]
    weight_norms: tuple[WeightNormRecord, ...]
    notes: tuple[str, ...]
    outcomes: tuple[NormOutcome, ...]
    warnings: tuple[FoldWarning, ...]
    operators: Operators
    parity: ParityReport
    files: tuple[Path, ...]
    seconds: tuple[tuple[str, float], ...]
    engine: Manifest | None = None
    precision: Precision | None = None
    data: FolderRead | None = None
    provenance: Provenance = field(default_factory=Provenance)
    no_page: str = ""

    @property
    def judgement(self) -> Judgement:
        """Whether the written model computes what the checkpoint computes, within what its precision may cost."""
        reduced = [] if self.precision is None else [self.precision.judgement]
        return together([self.parity.judgement, *reduced])

    @property
    def passed(self) -> bool:
        return self.judgement.passed

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the content of `report.json`."""
        parity, seconds = self.parity.as_dict(), dict(self.seconds)
        return {**self.judgement.as_dict(), **_plain(self), "parity": parity, "seconds": seconds}


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint or ONNX file holds, and what would fold.

    Attributes:
        path, source: the file and what it holds; "onnx" for an ONNX file.
        norms, weight_norms, notes: as it was understood.
        outcomes, warnings: what `fold` would do; None where the graph is not known, and `outcomes_note` says why.
        file: of an ONNX file, what it reads and returns, its operators and its sizes.
    """

    path: Path
    source: str
    norms: tuple[NormRecord, ...]
    weight_norms: tuple[WeightNormRecord, ...]
    notes: tuple[str, ...]
    outcomes: tuple[NormOutcome, ...] | None
    warnings: tuple[FoldWarning, ...] = ()
    outcomes_note: str = ""
    file: OnnxFile | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dict(_plain(self))


@dataclass(frozen=True)
class Folding:
    """One run of `fold` on an ONNX file.

    Attributes:
        model: the folded model; the input model itself where `changed` is False.
        output: the ONNX file, or None where none was asked for.
        files: what was written, the ONNX file first, then the data file of a model over 2 GB.
    """

    model: ir.Model
    output: Path | None
    outcomes: tuple[NormOutcome, ...]
    warnings: tuple[FoldWarning, ...]
    changed: bool
    operators: Operators
    files: tuple[Path, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, without the model."""
        plain = _plain(dataclasses.replace(self, model=None))  # type: ignore[arg-type]  # the copy lives for one line
        return {name: item for name, item in plain.items() if name != "model"}


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, paths as text; the rest as it is. A judgement stands among its whole."""
    if dataclasses.is_dataclass(value):
        items = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        judged = [items.pop(name) for name in list(items) if isinstance(items[name], Judgement)]
        told = {name: item for judgement in judged for name, item in judgement.as_dict().items()}
        return {**told, **{name: _plain(item) for name, item in items.items()}}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):  # an exact tensor's SNR; JSON has no infinity
        return None
    return str(value) if isinstance(value, Path) else value
