"""Names that a user gives a model's inputs and outputs; what is inside and called so gives way."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.graphs.export_config import ExportConfig
from normexport.graphs.initializers import rename
from normexport.graphs.names import fresh_name


def read_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that have to be fed: old files list their weights among them."""
    return [value for value in model.graph.inputs if not value.is_initializer()]


def require_as_many(option: str, names: Sequence[str], there: Sequence[str], place: str, verb: str) -> None:
    """Refuse names that are more or fewer than the inputs or outputs `there`; no names at all name nothing.

    Raises:
        UsageError: saying what `place` reads or returns.
    """
    if names and len(names) != len(there):
        cause = f"names {len(names)}, and {place} {verb} {', '.join(there) or 'nothing'}"
        raise UsageError(f"{option} {','.join(names)}", cause, "name each once")


def name_ports(model: ir.Model, config: ExportConfig, place: str) -> None:
    """Call inputs and outputs as `config` does, in place, in their order; a value inside that is called so is renamed.

    Raises:
        UsageError: more or fewer names than there are; an output is an input, and has one name.
    """
    asked: dict[ir.Value, str] = {}
    sides = (
        ("--input-names", "reads", read_inputs(model), config.input_names),
        ("--output-names", "returns", list(model.graph.outputs), config.output_names),
    )
    for option, verb, values, names in sides:
        require_as_many(option, names, [str(value.name) for value in values], place, verb)
        for value, name in zip(values, names, strict=bool(names)):
            if asked.setdefault(value, name) != name:
                cause = f"is {asked[value]} already: {place} hands on what it is given"
                raise UsageError(f"{option} {name}", cause, "give both one name, or leave it out")
    for value in (*read_inputs(model), *model.graph.outputs):
        if value not in asked and value.name in asked.values():
            raise UsageError(f"name {value.name}", f"is that of another input or output of {place}", "give another")
    _clear(model.graph, asked)
    for value, name in asked.items():
        rename(value, name)


def _clear(graph: ir.Graph, asked: dict[ir.Value, str]) -> None:
    """Take the asked names off the values that have them, of subgraphs too."""
    taken = set(asked.values())
    values: dict[ir.Value, None] = {}
    for inner in (graph, *graph.subgraphs()):
        values |= dict.fromkeys((*inner.inputs, *inner.initializers.values()))
        values |= dict.fromkeys(value for node in inner for value in node.outputs)
    used = {str(value.name) for value in values} | taken
    for value in values:
        if value.name in taken:
            rename(value, fresh_name(f"{value.name}_value", used, first=2))
            used.add(str(value.name))
