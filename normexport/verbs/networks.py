"""What `convert` is given, as one value whatever it was: what it reads, what it is made of, and what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import onnx
import onnx_ir as ir

from normexport import onnx_export
from normexport.checkpoint import Checkpoint, NormRecord, WeightNormRecord
from normexport.errors import FoldError, UsageError
from normexport.graphs.export_config import ExportConfig
from normexport.graphs.port_names import name_ports, read_inputs
from normexport.io.onnx_model import opened_model
from normexport.io.weight_files import data_of_model
from normexport.onnx_export import InputSpec, Layer, layers_of
from normexport.onnx_export.fixed_batch import fix_batch, with_batch
from normexport.runtime import Array
from normexport.runtime.exact import Reference
from normexport.runtime.guarded import Tell, in_telling_child
from normexport.verbs.real_data import Opened, RealData
from normexport.verbs.subjects import (
    Inputs,
    NetworkSource,
    export_inputs,
    file_inputs,
    is_of_torch,
    is_onnx,
    opened_checkpoint,
    specs_of,
    torch_of,
)
from normexport.workers import Where

T = TypeVar("T")

#: Refuses, before anything is exported, by the inputs that the file will have and the arrays that are given for them.
Foresee: TypeAlias = Callable[[Sequence[InputSpec], Opened | None], None]

#: What a network can be read from.
Source: TypeAlias = NetworkSource | Callable[[], Checkpoint]


def _let_pass(*known: object) -> None:
    """Nothing more is refused."""


@dataclass(frozen=True)
class Given:
    """A checkpoint or an ONNX model, opened.

    Attributes:
        subject: the one or the other.
        path: its file; of a model in memory the name of its graph.
        is_onnx_file: whether it is an ONNX file, which nobody vouches for.
    """

    subject: Checkpoint | ir.Model
    path: Path
    is_onnx_file: bool = False

    def files(self) -> list[tuple[Path, str]]:
        """The files that it lies in, in words."""
        if isinstance(self.subject, Checkpoint):
            return list(self.subject.files)
        data = [(file, f"the data of {self.path.name}") for file in data_of_model(self.subject)]
        return [(self.path, "the model to convert"), *data] if self.is_onnx_file else data

    @contextmanager
    def named(self) -> Iterator[None]:
        """Failures that name the graph of an ONNX file name the file."""
        try:
            yield
        except FoldError as error:
            graph = self.subject.graph.name or "model" if isinstance(self.subject, ir.Model) else None
            if not self.is_onnx_file or error.place != graph:
                raise
            raise FoldError(str(self.path), error.cause, error.remedy) from error

    def guarded(self, work: Callable[[Tell], T], listen: Tell) -> T:
        """What `work` returns; for an ONNX file it is computed where a signal can't end this process.

        Torch does not stand being copied: with a checkpoint the work is done here.
        """
        return in_telling_child(work, str(self.path), listen) if self.is_onnx_file else work(listen)


@dataclass(frozen=True)
class Network:
    """A network to convert.

    Attributes:
        path, source: its file, and what that holds; "onnx" for an ONNX model.
        reference: what results are held to in float64: a checkpoint's torch model, or the ONNX model itself.
        inputs: what it reads.
        layers: module boundaries, in the order of execution; of an ONNX file as far as its exporter named them.
        norms, weight_norms, notes: as a checkpoint was understood.
        unproven: what stands between its file and `reference`, in words.
        data: real inputs, where there are any.
    """

    path: Path
    source: str
    reference: Reference
    inputs: tuple[InputSpec, ...]
    layers: tuple[Layer, ...]
    norms: tuple[NormRecord, ...] = ()
    weight_norms: tuple[WeightNormRecord, ...] = ()
    notes: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    data: Opened | None = field(default=None, repr=False)

    @property
    def few(self) -> dict[str, Array] | None:
        """The first of the real inputs, by name: what is enough where outputs are compared number by number."""
        return None if self.data is None else self.data.few


def open_given(source: Source, weights_under: str | Path | None = None) -> Given:
    """What is to be converted, opened; external data of an ONNX model may lie under `weights_under` too.

    Raises:
        UsageError: neither a checkpoint nor an ONNX model, or `weights_under` for a checkpoint.
        CheckpointError, FoldError: see `normexport.load` and `normexport.fold`.
    """
    if callable(source) and not is_of_torch(source):
        source = source()
    if isinstance(source, (ir.Model, onnx.ModelProto)):
        model = opened_model(source, weights_under)
        return Given(model, Path(model.graph.name or "model"))
    if isinstance(source, (str, Path)) and is_onnx(source):
        return Given(opened_model(source, weights_under), Path(source), is_onnx_file=True)
    if weights_under is not None:
        raise UsageError("--weights-under", "means nothing here: it is for an ONNX file", "leave it out")
    checkpoint = opened_checkpoint(source)
    return Given(checkpoint, checkpoint.path)


def read_onnx(
    model: ir.Model,
    path: Path,
    inputs: Inputs,
    data: RealData | None,
    config: ExportConfig,
    where: Where | None = None,
) -> tuple[Network, ir.Model]:
    """An ONNX model as a network to convert, and the graph to convert: itself, or a copy that `config` asks for.

    Of open sizes the data tell those that `inputs` leave out.

    Args:
        where: which processes look for samples that can't be read, where some may be left out.

    Raises:
        UsageError: a size stays open, or a shape does not fit.
    """
    free = file_inputs(model, specs_of(inputs), None if data is None else data.path)
    specs = with_batch(free, config, str(path))
    if config.input_names or config.output_names:
        model = model.clone()
        name_ports(model, config, str(path))
        renamed = dict(zip((spec.name for spec in specs), read_inputs(model), strict=True))
        specs = tuple(replace(spec, name=str(renamed[spec.name].name)) for spec in specs)
    graph = model
    if isinstance(config.batch, int):
        graph = model.clone()
        fix_batch(graph, free, config.batch)
    opened = data.opened(specs, where) if data is not None else None
    return Network(path, "onnx", model, specs, layers_of(model), data=opened), graph


def read_checkpoint(
    checkpoint: Checkpoint,
    inputs: Inputs,
    data: RealData | None,
    config: ExportConfig,
    where: Where | None = None,
    foresee: Foresee = _let_pass,
) -> tuple[Network, ir.Model]:
    """A checkpoint as a network to convert, and the graph that exporting it gave.

    Exporting takes by far the longest. What can be refused without is refused before.

    Args:
        where: see `read_onnx`.
        foresee: refuses what else can be told by what the file will read, and the data for it.

    Raises:
        ExportError: it can't be exported.
        UsageError: a shape contradicts the program's own, or a size stays open; it reads numbers that its file lacks;
            the data are not what it reads.
    """
    from normexport.proof.doubts.lost_state import require_no_lost_state  # needs torch, which ONNX files do not
    from normexport.proof.doubts.substituted import substitution_doubts

    given = export_inputs(checkpoint, inputs, None if data is None else data.path)
    specs = onnx_export.inputs_to_export(checkpoint, given, config)
    opened = data.opened(specs, where) if data is not None else None
    foresee(specs, opened)
    few = None if opened is None else opened.few
    require_no_lost_state(checkpoint, specs, few)
    exported = onnx_export.export(checkpoint, given, config)
    network = Network(
        checkpoint.path,
        checkpoint.source,
        torch_of(checkpoint),
        exported.inputs,
        exported.layers,
        checkpoint.norms,
        checkpoint.weight_norms,
        checkpoint.notes,
        (*checkpoint.unproven, *substitution_doubts(checkpoint, exported.inputs, few), *exported.unproven),
        opened,
    )
    return network, exported.model
