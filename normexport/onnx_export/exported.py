"""A checkpoint or module -> one ONNX model whose norms are `normexport` operators with portable bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
from torch import nn

from normexport import norms
from normexport.errors import UsageError
from normexport.io.quiet import hushed
from normexport.onnx_export.binding import bound
from normexport.onnx_export.bodies import attach_bodies
from normexport.onnx_export.cleanup import clean, name_nodes
from normexport.onnx_export.inputs import InputSpec, inputs_of_program
from normexport.onnx_export.layers import Layer, handed_on, layers_of
from normexport.onnx_export.state_in_graph import doubts_of_program
from normexport.onnx_export.torch_export import onnx_of, output_names, program_of
from normexport.onnx_export.value_names import name_outputs

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from normexport.checkpoint import Checkpoint


@dataclass(frozen=True)
class Exported:
    """An ONNX model and what links it to its source.

    Attributes:
        model: opset 20, IR 10, batch dimension "batch", bodies attached; passes the full ONNX checker.
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


def export(source: Checkpoint | nn.Module | ExportedProgram, inputs: Sequence[InputSpec] = ()) -> Exported:
    """Export a checkpoint, a module in eval mode or an exported program.

    `inputs` may stay empty for an exported program, which knows its own.

    Raises:
        ExportError: the model can't be traced or translated; the message names the checkpoint.
        UsageError: inputs are needed and not given, or not the ones that the model or program reads.
    """
    place = str(getattr(source, "path", type(source).__name__))
    program = _program(source)
    if program is None:
        module = source if isinstance(source, nn.Module) else getattr(source, "model", None)
        if not isinstance(module, nn.Module):
            raise UsageError(place, "holds weights but no model", "name its code with --model package.module:factory")
        if not inputs:
            raise UsageError(place, "does not say what it reads", "give the shape of one sample: --input 3x224x224")
        specs = bound(module, inputs, place)
        program = program_of(module, specs, place)
    else:
        specs = _agreed(inputs_of_program(program), tuple(inputs))
    model = onnx_of(program, [spec.name for spec in specs], place)
    traced = handed_on(model)
    with hushed():  # of constants that it does not compute, the optimizer speaks
        clean(model)
    whole = {(layer.path, layer.call) for layer in layers_of(model) if _kept(layer, traced)}
    name_nodes(model.graph)
    for value, spec in zip(model.graph.inputs, specs, strict=True):
        value.name = spec.name  # an input that is also an output has lost it
    _name_batch(model, specs)
    name_outputs(model, output_names(program), place)
    attach_bodies(model)
    model.ir_version = norms.IR_VERSION
    model.producer_name, model.producer_version = "normexport", None
    layers = tuple(layer for layer in layers_of(model) if (layer.path, layer.call) in whole)
    return Exported(model, layers, specs, unproven=doubts_of_program(program))


def _program(source: object) -> ExportedProgram | None:
    from torch.export import ExportedProgram

    if isinstance(source, ExportedProgram):
        return source
    program = getattr(source, "program", None)
    return program if isinstance(program, ExportedProgram) else None


def _agreed(own: tuple[InputSpec, ...], given: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """The program's own inputs, under the given names; shapes must agree."""
    if not given:
        return own
    if [(s.shape, s.dtype) for s in own] != [(s.shape, s.dtype) for s in given]:
        want = ", ".join(f"{s.name}={'x'.join(map(str, s.shape))}:{s.dtype}" for s in own)
        raise UsageError("--input", f"does not match the exported program, which reads {want}", "leave --input out")
    return tuple(InputSpec(g.name, o.shape, o.dtype, o.batched) for g, o in zip(given, own, strict=True))


def _kept(layer: Layer, traced: Mapping[tuple[str, int], frozenset[str]]) -> bool:
    """Whether the boundary is a value that the module handed on before the graph was tidied.

    A rewrite that fuses it with the next module's first one (two transposes in line) leaves the module's last but
    one as its boundary. What takes a value's place takes its name.
    """
    return layer.tensor in traced.get((layer.path, layer.call), ())


def _name_batch(model: ir.Model, specs: Sequence[InputSpec]) -> None:
    """Call the exporter's anonymous batch symbol "batch" wherever it stands."""
    symbols = {
        str(value.shape[0])
        for value, spec in zip(model.graph.inputs, specs, strict=True)
        if spec.batched and value.shape is not None and len(value.shape)
    }
    values = [*model.graph.inputs, *(value for node in model.graph.all_nodes() for value in node.outputs)]
    for value in values:
        if value.shape is not None and any(str(size) in symbols for size in value.shape):
            value.shape = ir.Shape(["batch" if str(size) in symbols else size for size in value.shape])
