"""Names of a graph's outputs: those by which the model's user knows them; what is inside gives way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from normexport.errors import ExportError
from normexport.graphs.names import fresh_name


def name_outputs(model: ir.Model, names: Sequence[str], place: str) -> None:
    """Call the outputs `names`, in place; a value inside that is called so is renamed.

    "x" becomes "x_out" where an input, a parameter or another output is called so.

    Raises:
        ExportError: an output is a list of values.
    """
    outputs = list(model.graph.outputs)
    if len(names) != len(outputs):
        cause = f"returns {len(outputs)} values, and its structure of outputs names {len(names)}"
        raise ExportError(place, cause, "return each tensor by itself")
    fixed = [*model.graph.inputs, *model.graph.initializers.values()]
    given = _distinct(names, {str(value.name) for value in fixed})
    inner = [value for value in _values(model.graph) if value not in {*fixed, *outputs}]
    used = {str(value.name) for value in (*fixed, *inner)} | set(given)
    for value in inner:
        if value.name in given:
            value.name = fresh_name(f"{value.name}_value", used, first=2)
            used.add(value.name)
    for value, name in zip(outputs, given, strict=True):
        value.name = name


def _distinct(wanted: Sequence[str], taken: Iterable[str]) -> list[str]:
    """The wanted names, in order; those that are taken or empty get another, which no output wants."""
    used = {*taken, *wanted, ""}
    free = set(wanted) - {*taken, ""}
    names = []
    for name in wanted:
        if name in free:
            free.remove(name)
            names.append(name)
        else:
            names.append(fresh_name(f"{name}_out" if name else "output", used, first=2))
            used.add(names[-1])
    return names


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """All values of a graph and of those inside it."""
    for inner in (graph, *graph.subgraphs()):
        yield from inner.inputs
        yield from inner.initializers.values()
        yield from (value for node in inner for value in node.outputs)
