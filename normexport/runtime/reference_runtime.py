"""onnx.reference: the specification itself, in numpy; in float64 the reference where there is no torch model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from normexport.errors import FoldError, UsageError
from normexport.onnx_files import opened_model, with_weights_inside
from normexport.runtime.base import Array, Feeds, Port, Sink, checked
from normexport.runtime.corrected_ops import CORRECTED
from normexport.runtime.double import in_float64


class ReferenceRuntime:
    """An ONNX model evaluated by onnx.reference, function bodies included.

    Measured: the 53 convolutions of a ResNet-50 at 224x224 take 1.9 s in float32 on 2 cores, so no other
    float64 evaluator is needed.

    Args:
        model: a model or the path of one.
        double: evaluate in float64: weights, constants, casts and function bodies (see `in_float64`).

    Raises:
        FoldError: the model holds something onnx.reference can't evaluate.
    """

    passive_capture = True

    def __init__(self, model: ir.Model | onnx.ModelProto | str | Path, *, double: bool = False) -> None:
        self.name = "onnx.reference float64" if double else "onnx.reference"
        proto = _proto(model)
        if double:
            in_float64(proto)
        try:
            self._evaluator = ReferenceEvaluator(proto, new_ops=CORRECTED)
        except Exception as error:  # NotImplementedError, RuntimeContextError, KeyError, ...: all mean the same here
            cause = f"onnx.reference can't load it ({_first_line(error)})"
            raise FoldError(proto.graph.name or "model", cause, "compare on another runtime") from error
        initializers = {tensor.name for tensor in proto.graph.initializer}
        self.inputs = tuple(_port(value) for value in proto.graph.input if value.name not in initializers)
        self.input_names = tuple(item.name for item in self.inputs)
        self.output_names = tuple(value.name for value in proto.graph.output)
        self.dropped: Mapping[str, str] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        arrays = checked(self.name, self.inputs, feeds)
        try:
            values = dict(self._evaluator.run(None, arrays, intermediate=True))
        except Exception as error:  # numpy and the evaluator raise many kinds; all concern these inputs or an op
            cause = f"can't evaluate the model ({_first_line(error)})"
            raise UsageError(self.name, cause, "check the input shapes") from error
        self.dropped = {name: "is not in the file" for name in capture if name not in values}
        result = {name: values[name] for name in self.output_names}
        for name in (name for name in values if name in set(capture)):  # values are in execution order
            if sink is not None:
                sink(name, values[name])
            else:
                result[name] = values[name]
        return result


def _proto(model: ir.Model | onnx.ModelProto | str | Path) -> onnx.ModelProto:
    """A proto of our own with every weight inside."""
    return ir.to_proto(with_weights_inside(opened_model(model)))


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    if not kind.HasField("shape"):
        return Port(value.name, dtype)
    sizes = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return Port(value.name, dtype, sizes)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
