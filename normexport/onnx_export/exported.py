"""A checkpoint or module -> one ONNX model whose norms are `normexport` operators with portable bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
from torch import nn

from normexport import norms
from normexport.errors import UsageError
from normexport.graphs.export_config import ExportConfig
from normexport.graphs.node_metadata import ARGUMENT
from normexport.graphs.port_names import name_ports, require_as_many
from normexport.io.quiet import silence
from normexport.logs import logger
from normexport.norms.bodies import attach_bodies
from normexport.onnx_export.binding import bound, named_by
from normexport.onnx_export.fixed_batch import fix_batch, with_batch
from normexport.onnx_export.inputs import InputSpec
from normexport.onnx_export.layers import Layer, handed_on, layers_of
from normexport.onnx_export.program_inputs import declared_by_program, inputs_of_program, renames
from normexport.onnx_export.state_in_graph import doubts_of_program
from normexport.onnx_export.tidy import clean, name_nodes
from normexport.onnx_export.torch_export import onnx_of, output_names, program_of
from normexport.onnx_export.value_names import name_outputs

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from normexport.checkpoint import Checkpoint

_LOG = logger(__name__)

_FIRST_OPSET = 18  # of torch's exporter
_DEFAULT = ExportConfig()
_SYMBOL = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Exported:
    """An ONNX model and what links it to its source.

    Attributes:
        model: opset 20 and IR 10 where nothing else is asked for, a free batch called "batch", bodies attached; passes
            the full ONNX checker.
        layers: module boundaries, in execution order.
        inputs: what the model reads.
        files: what was written, the model first; empty where no output was asked for.
        unproven: what makes the source no function of its inputs, in words; the file is one.
    """

    model: ir.Model
    layers: tuple[Layer, ...]
    inputs: tuple[InputSpec, ...]
    files: tuple[Path, ...] = ()
    unproven: tuple[str, ...] = ()


def export(
    source: Checkpoint | nn.Module | ExportedProgram,
    inputs: Sequence[InputSpec] = (),
    config: ExportConfig = _DEFAULT,
) -> Exported:
    """Export a checkpoint, a module in eval mode or an exported program.

    `inputs` may stay empty for an exported program, which knows its own; `config` says what the file shall be.

    Raises:
        ExportError: the model can't be traced or translated; the message names the checkpoint.
        UsageError: inputs are needed and not given, or not the ones that the model or program reads.
    """
    asked = _read_by(source, inputs, config)
    place, free, specs, program = asked.place, asked.free, asked.specs, asked.program
    if program is None:
        assert asked.module is not None
        program = program_of(asked.module, specs, place)
    require_as_many("--output-names", config.output_names, output_names(program), place, "returns")
    model = onnx_of(program, [spec.name for spec in specs], place, _traced_opset(config))
    if isinstance(config.batch, int):
        fix_batch(model, free, config.batch)
    traced = handed_on(model)
    with silence():  # of constants that it does not compute, the optimizer speaks
        clean(model)
    whole = {(layer.path, layer.call) for layer in layers_of(model) if _is_kept(layer, traced)}
    name_nodes(model.graph)
    for value, spec in zip(model.graph.inputs, specs, strict=True):
        value.name = spec.name  # an input that is also an output has lost it
    _name_sizes(model, specs)
    name_outputs(model, output_names(program), place)
    name_ports(model, config, place)
    specs = tuple(replace(spec, name=str(value.name)) for value, spec in zip(model.graph.inputs, specs, strict=True))
    for value, spec in zip(model.graph.inputs, specs, strict=True):
        if spec.argument:
            value.metadata_props[ARGUMENT] = spec.argument
    attach_bodies(model)
    model.ir_version = norms.IR_VERSION
    model.producer_name, model.producer_version = "normexport", None
    layers = tuple(layer for layer in layers_of(model) if (layer.path, layer.call) in whole)
    _LOG.info("%s: exported, nodes: %d, module boundaries: %d", place, len(model.graph), len(layers))
    return Exported(model, layers, specs, unproven=doubts_of_program(program))


def inputs_to_export(
    source: Checkpoint | nn.Module | ExportedProgram,
    inputs: Sequence[InputSpec] = (),
    config: ExportConfig = _DEFAULT,
) -> tuple[InputSpec, ...]:
    """What the file that `export` makes will read, known without tracing or translating anything.

    Raises:
        UsageError: inputs are needed and not given, or not the ones that the model or program reads; more or fewer
            names than there are.
    """
    asked = _read_by(source, inputs, config)
    if not config.input_names:
        return asked.specs
    return tuple(replace(spec, name=name) for spec, name in zip(asked.specs, config.input_names, strict=True))


@dataclass(frozen=True)
class _Read:
    """A source, its module or program, and what it reads: `free` with a batch that is open, `specs` as asked for."""

    place: str
    module: nn.Module | None
    program: ExportedProgram | None
    free: tuple[InputSpec, ...]
    specs: tuple[InputSpec, ...]


def _read_by(
    source: Checkpoint | nn.Module | ExportedProgram, inputs: Sequence[InputSpec], config: ExportConfig
) -> _Read:
    place = str(getattr(source, "path", type(source).__name__))
    program = _program(source)
    if program is not None:
        free = _agree_on_inputs(program, inputs)
        require_as_many("--input-names", config.input_names, [spec.name for spec in free], place, "reads")
        return _Read(place, None, program, free, with_batch(free, config, place))
    module = source if isinstance(source, nn.Module) else getattr(source, "model", None)
    if not isinstance(module, nn.Module):
        raise UsageError(place, "holds weights but no model", "name its code with --model package.module:factory")
    if not inputs:
        raise UsageError(place, "does not say what it reads", "give the shape of one sample: --input 3x224x224")
    specs = with_batch(bound(module, named_by(module, inputs), place), config, place)
    require_as_many("--input-names", config.input_names, [spec.name for spec in specs], place, "reads")
    return _Read(place, module, None, specs, specs)


def _traced_opset(config: ExportConfig) -> int:
    """The operator set that torch's exporter is asked for: it writes newer operators in the words of older ones."""
    return min(norms.OPSET, max(_FIRST_OPSET, config.opset or norms.OPSET))


def _program(source: object) -> ExportedProgram | None:
    from torch.export import ExportedProgram

    if isinstance(source, ExportedProgram):
        return source
    program = getattr(source, "program", None)
    return program if isinstance(program, ExportedProgram) else None


def _agree_on_inputs(program: ExportedProgram, given: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The program's own inputs, with what the user says of them; names of the user's own are theirs in the file."""
    specs = inputs_of_program(program, given)
    if not renames(declared_by_program(program), given):
        return specs
    return tuple(replace(spec, name=new.name) for spec, new in zip(specs, given, strict=True))


def _is_kept(layer: Layer, traced: Mapping[tuple[str, int], frozenset[str]]) -> bool:
    """Whether the boundary is a value that the module handed on before the graph was tidied.

    A rewrite that fuses it with the next module's first one (two transposes in line) leaves the module's last but
    one as its boundary. What takes a value's place takes its name.
    """
    return layer.tensor in traced.get((layer.path, layer.call), ())


def _name_sizes(model: ir.Model, specs: Sequence[InputSpec]) -> None:
    """Give the exporter's anonymous symbols the names of what they are, wherever they stand.

    The batch is "batch", where the axis is no multiple of it; an open size H is "H", or 8*_H where it goes by 8.
    """
    names: dict[str, str] = {}
    for value, spec in zip(model.graph.inputs, specs, strict=True):
        sizes = [] if value.shape is None else [str(size) for size in value.shape]
        if len(sizes) != len(spec.declared()):
            continue
        simple = {axis for axis in spec.axes if spec.batched and (spec.batch.multiple, spec.batch.plus) == (1, 0)}
        names |= dict.fromkeys((sizes[axis] for axis in simple), "batch")
        for size, symbol in zip(sizes, spec.declared(), strict=True):
            found = _SYMBOL.search(size)
            if isinstance(symbol, str) and found:
                names[found[0]] = symbol if found[0] == size else f"_{symbol}"
    values = [*model.graph.inputs, *(value for node in model.graph.all_nodes() for value in node.outputs)]
    for value in values:
        if value.shape is not None and any(isinstance(size, ir.SymbolicDim) for size in value.shape):
            value.shape = ir.Shape([_renamed(size, names) for size in value.shape])


def _renamed(size: int | ir.SymbolicDim, names: Mapping[str, str]) -> int | str | None:
    if isinstance(size, int) or size.value is None:
        return size if isinstance(size, int) else None
    return _SYMBOL.sub(lambda found: names.get(found[0], found[0]), size.value)
