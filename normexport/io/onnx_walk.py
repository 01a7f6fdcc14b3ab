"""Every graph, node and tensor of an ONNX protobuf, wherever in it they are."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from normexport.dtypes import FLOAT8


def nodes_of(model: onnx.ModelProto, *, training: bool = False) -> Iterator[onnx.NodeProto]:
    """Nodes of the graph, of functions and of subgraphs; of training graphs too if asked for."""
    yield from (node for graph in graphs_of(model, training=training) for node in graph.node)
    for function in model.functions:
        yield from function.node


def graphs_of(model: onnx.ModelProto, *, training: bool = False) -> Iterator[onnx.GraphProto]:
    """The main graph and every subgraph, those of functions too; training graphs if asked for."""
    pending = [model.graph]
    if training:
        pending += [graph for each in model.training_info for graph in (each.initialization, each.algorithm)]
    for function in model.functions:
        pending += [graph for node in function.node for graph in subgraphs(node)]
        pending += [graph for attribute in function.attribute_proto for graph in graphs_in(attribute)]
    while pending:
        graph = pending.pop(0)
        yield graph
        pending[:0] = [inner for node in graph.node for inner in subgraphs(node)]


def holds_float8(model: onnx.ModelProto) -> bool:
    """Whether anything is stored in, quantised or cast to E4M3."""
    told = {"output_dtype", "to"}
    return any(tensor.data_type == FLOAT8.onnx for _, tensor in tensors_of(model)) or any(
        attribute.name in told and attribute.i == FLOAT8.onnx
        for node in nodes_of(model)
        for attribute in node.attribute
    )


def tensors_of(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor with its name in words, used or not; first the initializers of the main graph, in their order."""
    for graph in graphs_of(model, training=True):
        yield from ((tensor.name or "(unnamed)", tensor) for tensor in graph.initializer)
        for sparse in graph.sparse_initializer:
            yield from _in_sparse(sparse, "(sparse)")
    for node in nodes_of(model, training=True):
        for attribute in node.attribute:
            yield from _in_attribute(attribute, f"of {node.op_type} '{node.name or next(iter(node.output), '')}'")
    for function in model.functions:
        for attribute in function.attribute_proto:
            yield from _in_attribute(attribute, f"of function {function.name}")


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    return [graph for attribute in node.attribute for graph in graphs_in(attribute)]


def graphs_in(attribute: onnx.AttributeProto) -> tuple[onnx.GraphProto, ...]:
    """The graphs in an attribute."""
    return (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def _in_attribute(attribute: onnx.AttributeProto, owner: str) -> Iterator[tuple[str, onnx.TensorProto]]:
    name = f"{attribute.name} {owner}"
    for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
        yield tensor.name or name, tensor
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for each in (*sparse, *attribute.sparse_tensors):
        yield from _in_sparse(each, name)


def _in_sparse(sparse: onnx.SparseTensorProto, name: str) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield sparse.values.name or name, sparse.values
    yield sparse.indices.name or name, sparse.indices
