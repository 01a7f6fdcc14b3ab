"""What an ONNX file is: what it reads and returns, its operators, its sizes, its precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from normexport.dtypes import of_onnx
from normexport.graphs.port_names import read_inputs
from normexport.io.weight_files import data_of_model
from normexport.precision.file_precision import precision_of
from normexport.reports import OnnxFile, Port


def describe_onnx(model: ir.Model, path: Path | None) -> OnnxFile:
    """What stands in the file at `path`, which was opened as `model`; None: in memory, and of no size.

    Its weights are counted and not read.
    """
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    weights = Counter[str]()
    for tensor in _weights(model, nodes):
        weights[_type_name(tensor.dtype)] += tensor.size
    beside = [file for file in data_of_model(model) if path is None or file.resolve() != path.resolve()]
    return OnnxFile(
        inputs=tuple(map(_port, read_inputs(model))),
        outputs=tuple(map(_port, model.graph.outputs)),
        opsets=dict(model.graph.opset_imports),
        ir_version=int(model.ir_version or 0),
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        operators=dict(Counter(node.op_type for node in nodes if node.op_type != "Constant").most_common()),
        weights=dict(weights.most_common()),
        precision=precision_of(model),
        bytes=0 if path is None else path.stat().st_size,
        data_bytes=sum(file.stat().st_size for file in beside),
    )


def _weights(model: ir.Model, nodes: list[ir.Node]) -> Iterator[ir.TensorProtocol]:
    """Initializers of the main graph and of those in it, and tensors that Constant nodes hold."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
    for node in nodes:
        held = node.attributes.get("value")
        if node.op_type == "Constant" and held is not None and held.type == ir.AttributeType.TENSOR:
            yield held.as_tensor()


def _port(value: ir.Value) -> Port:
    shape = None
    if value.shape is not None:
        shape = tuple(size if isinstance(size, int) else size.value for size in value.shape)
    return Port(str(value.name), "of no known type" if value.dtype is None else _type_name(value.dtype), shape)


def _type_name(dtype: ir.DataType) -> str:
    known = of_onnx(dtype)
    return dtype.name.lower() if known is None else known.name
