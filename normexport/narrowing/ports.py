"""A candidate with the names that its reference gives to inputs and outputs: by their places, where names differ."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from normexport.graphs.export_config import ExportConfig
from normexport.graphs.port_names import name_ports, read_inputs
from normexport.text import one_line


def named_as(candidate: ir.Model, reference: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """The candidate, or a copy of it whose inputs and outputs are called as the reference's; and what was renamed.

    Inputs, and outputs, stay as they are where both models have the same names, in whatever order, or not as many.
    """
    asked, notes = dict[str, tuple[str, ...]](), list[str]()
    sides = {
        "input": (_names(read_inputs(candidate)), _names(read_inputs(reference))),
        "output": (_names(candidate.graph.outputs), _names(reference.graph.outputs)),
    }
    for word, (own, wanted) in sides.items():
        if set(own) == set(wanted) or len(own) != len(wanted) or len(set(wanted)) < len(wanted):
            continue
        asked[word] = wanted
        pairs = [(one, other) for one, other in zip(own, wanted, strict=True) if one != other]
        notes += [f"the candidate's {word} {one_line(one)} is taken for {one_line(other)}" for one, other in pairs]
    # A value that is an input and an output at once has one name, and may be asked to have two.
    if not asked or set(_names(read_inputs(candidate))) & set(_names(candidate.graph.outputs)):
        return candidate, ()
    renamed = candidate.clone()
    name_ports(
        renamed, ExportConfig(input_names=asked.get("input", ()), output_names=asked.get("output", ())), "the candidate"
    )
    return renamed, tuple(notes)


def _names(values: Sequence[ir.Value]) -> tuple[str, ...]:
    return tuple(str(value.name) for value in values)
