"""Every tensor of a model in memory: initializers and attributes, of the graph, of subgraphs and of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence

import onnx_ir as ir


def tensors_of_model(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every tensor of a model."""
    for graph in graphs_of_model(model):
        yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)
    for attributes in _attributes(model):
        for attribute in attributes.values():
            yield from _in_attribute(attribute)


def replace_tensors(model: ir.Model, change: Callable[[ir.TensorProtocol], ir.TensorProtocol]) -> None:
    """Put `change(tensor)` in place of every tensor of the model."""
    for graph in graphs_of_model(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = change(value.const_value)
    for attributes in _attributes(model):
        for name, attribute in list(attributes.items()):
            before = _in_attribute(attribute)
            after = [change(tensor) for tensor in before]
            if all(one is other for one, other in zip(before, after, strict=True)):
                continue
            single = attribute.type == ir.AttributeType.TENSOR
            attributes[name] = ir.AttrTensor(name, after[0]) if single else ir.AttrTensors(name, after)


def graphs_of_model(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph and every subgraph, those of functions too."""
    yield from model.graphs()
    for function in model.functions.values():
        yield from function.subgraphs()


def _attributes(model: ir.Model) -> Iterator[MutableMapping[str, ir.Attr]]:
    """Attributes of every node, and the defaults of every function's."""
    yield from (node.attributes for graph in graphs_of_model(model) for node in graph)
    for function in model.functions.values():
        yield function.attributes
        yield from (node.attributes for node in function)


def _in_attribute(attribute: ir.Attr) -> Sequence[ir.TensorProtocol]:
    if attribute.is_ref() or attribute.type not in (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS):
        return ()
    return (attribute.as_tensor(),) if attribute.type == ir.AttributeType.TENSOR else tuple(attribute.as_tensors())
