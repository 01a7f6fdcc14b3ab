"""A part of an ONNX model as a model of its own, and the places where two models can be cut alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from normexport.graphs.initializers import rename
from normexport.graphs.names import Names
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes
from normexport.precision.file_precision import stored_as
from normexport.runtime import Array


@dataclass(frozen=True)
class Cuts:
    """What a candidate's values are called in the reference.

    Attributes:
        sure: of values that both hold under one name, or that the candidate's quantisers stand for, in the candidate's
            order; the graph's inputs among them.
        maybe: of more values, at which the candidate may be cut too: in front of a quantiser.
    """

    sure: Mapping[str, str]
    maybe: Mapping[str, str]


def cuts_of(reference: ir.Model, candidate: ir.Model, known: Collection[str]) -> Cuts:
    """Where both can be cut.

    Args:
        known: names of the reference's values whose numbers are there to be fed.
    """
    stored = stored_as(candidate)
    inputs = {name: name for name in input_names(candidate) if name in known}
    ours, theirs = varying(reference), varying(candidate)
    outputs = {str(value.name) for value in candidate.graph.outputs}
    sure, maybe = dict(inputs), dict[str, str]()
    for name in theirs:
        if name not in ours or name not in known or name in inputs:
            continue
        meant = name if name in outputs else stored.get(name, name)
        sure[meant] = name
        if meant != name:
            maybe[name] = name
    sure.update({stored[name]: name for name in inputs if name in stored and stored[name] not in sure})
    order = {name: position for position, name in enumerate([*inputs, *theirs])}
    return Cuts(dict(sorted(sure.items(), key=lambda item: order.get(item[0], 0))), maybe)


def input_names(model: ir.Model) -> list[str]:
    """What a model is fed, by name."""
    return [str(value.name) for value in model.graph.inputs if value.name not in model.graph.initializers]


def varying(model: ir.Model) -> list[str]:
    """Names of the values that follow from the graph's inputs, in order; constants are left out."""
    moving: set[ir.Value] = {value for value in model.graph.inputs if value.name not in model.graph.initializers}
    names = []
    for node in model.graph:
        if any(value in moving for value in reads(node)):
            moving.update(node.outputs)
            names += [str(value.name) for value in node.outputs if value.name]
    return names


def reads(node: ir.Node) -> Iterable[ir.Value]:
    """What a node reads, what its subgraphs read among it."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                yield from (value for value in inner.inputs if value is not None)
            yield from attribute.as_graph().outputs


def needed(model: ir.Model, output: str, cut: Collection[str]) -> tuple[list[str], int]:
    """The names among `cut` that `output` is computed from, and how many nodes stand between; constants are none.

    The value itself is computed, though its name be among `cut`.
    """
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    inputs = {value for value in model.graph.inputs if value.name not in model.graph.initializers}
    found: dict[str, None] = {}
    nodes: set[ir.Node] = set()
    waiting = [values[output]] if output in values else []
    while waiting:
        producer = waiting.pop().producer()
        if producer is None or producer in nodes:
            continue
        nodes.add(producer)
        for value in reads(producer):
            if value in inputs or value.name in cut:
                found[str(value.name)] = None
            else:
                waiting.append(value)
    return list(found), sum(op(node) != "Constant" for node in nodes)


def sub_model(model: ir.Model, inputs: Mapping[str, Array], output: str) -> ir.Model:
    """The part of a model from some of its values to one of them; it keeps their names, and no sizes but the inputs'.

    Args:
        inputs: an array for each value that is to be an input: of its shape, and of its type where the file tells none.
    """
    types = Shapes(model)
    kinds = {value.name: types.dtype(value) for node in model.graph for value in node.outputs}
    kinds |= {value.name: value.dtype for value in model.graph.inputs}
    copy = model.clone()
    graph, names = copy.graph, Names(copy.graph)
    values = {value.name: value for value in [*graph.inputs, *(each for node in graph for each in node.outputs)]}
    fed = []
    for name, array in inputs.items():
        kind = kinds.get(name) or ir.DataType.from_numpy(_narrow(array).dtype)
        new = ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(array.shape))
        old = values.get(name)
        if old is not None:
            ir.convenience.replace_all_uses_with(old, new)
            rename(old, names.fresh(f"{name}/cut"))
        fed.append(new)
    result = values[output]
    if output in inputs:  # what is asked for is what is fed
        node = ir.Node("", "Identity", [next(value for value in fed if value.name == output)])
        graph.append(node)
        result = node.outputs[0]
        result.name = names.fresh(f"{output}/same")
    result.type = ir.TensorType(kinds.get(output) or ir.DataType.FLOAT)
    graph.inputs.clear()
    graph.inputs.extend(fed)
    graph.outputs.clear()
    graph.outputs.append(result)
    copy.metadata_props.clear()
    for once in (passes.LiftConstantsToInitializersPass(), passes.RemoveUnusedNodesPass()):
        once(copy)
    passes.RemoveUnusedFunctionsPass()(copy)  # type: ignore[no-untyped-call]  # its constructor has no types
    for node in graph:
        for value in node.outputs:
            value.shape = None  # those of another input would bind this one's
    return copy


def _narrow(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float64 else array
