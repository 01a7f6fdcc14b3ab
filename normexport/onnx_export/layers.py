"""Which tensor of the ONNX graph is the output of which module: the boundaries at which parity is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from normexport.graphs.node_metadata import CLASSES, NO_MODULE, SCOPES, words


@dataclass(frozen=True)
class Layer:
    """The output of one call of one module.

    Attributes:
        path: module path, "layer1.0.bn1".
        call: 0 for the module's first call in a forward pass, 1 for its second, ...
        type: class name of the module, "Conv2d".
        tensor: name of the ONNX value that holds the output.
    """

    path: str
    call: int
    type: str
    tensor: str


def layers_of(model: ir.Model) -> tuple[Layer, ...]:
    """Every module call whose nodes hand exactly one tensor on, in the order of execution.

    Nodes follow each other as they were traced, so the nodes of one call are one unbroken run. A call that
    hands on several tensors (a tuple, or a value kept for later) has no single boundary and is left out; its
    inner modules still have theirs.
    """
    layers = []
    for run, call, escaping in _calls(model.graph):
        if len(escaping) == 1 and escaping[0].name:
            layers.append((run.last, Layer(run.path, call, run.type, escaping[0].name)))
    return tuple(layer for _, layer in sorted(layers, key=lambda item: item[0]))


def handed_on(model: ir.Model) -> dict[tuple[str, int], frozenset[str]]:
    """By module path and call: names of the values that its nodes hand to others."""
    return {
        (run.path, call): frozenset(value.name for value in escaping if value.name)
        for run, call, escaping in _calls(model.graph)
    }


def present(layers: Iterable[Layer], model: ir.Model) -> tuple[Layer, ...]:
    """The layers whose tensor is still in the graph; a rewrite never reuses a name for another tensor."""
    names = {value.name for node in model.graph for value in node.outputs}
    return tuple(layer for layer in layers if layer.tensor in names)


@dataclass
class _Run:
    path: str
    type: str
    nodes: list[ir.Node]
    last: int = 0


def _calls(graph: ir.Graph) -> Iterator[tuple[_Run, int, list[ir.Value]]]:
    """Every run with its number among those of its path, and the values it hands on."""
    calls: Counter[str] = Counter()
    for run in _runs(graph):
        yield run, calls[run.path], _escaping(run.nodes)
        calls[run.path] += 1


def _runs(graph: ir.Graph) -> Iterator[_Run]:
    """Unbroken runs of nodes per module path. Nodes of no module (constants) do not break a run."""
    open_runs: dict[str, _Run] = {}
    for position, node in enumerate(graph):
        scopes = words(node.metadata_props, SCOPES)
        if len(scopes) < 2:
            continue
        classes = words(node.metadata_props, CLASSES)
        named = [(i, path) for i, path in enumerate(scopes[:-1]) if path and not path.startswith(NO_MODULE)]
        modules = {path: classes[i] if i < len(classes) else "" for i, path in named}
        for path in [path for path in open_runs if path not in modules]:
            yield open_runs.pop(path)
        for path, type_name in modules.items():
            run = open_runs.setdefault(path, _Run(path, type_name.rpartition(".")[2], []))
            run.nodes.append(node)
            run.last = position
    yield from open_runs.values()


def _escaping(nodes: list[ir.Node]) -> list[ir.Value]:
    inside = set(nodes)
    return [
        value
        for node in nodes
        for value in node.outputs
        if value.is_graph_output() or any(user not in inside for user in value.consumers())
    ]
