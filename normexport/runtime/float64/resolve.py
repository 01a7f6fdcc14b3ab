"""What computes a node: a function of the model, an operator written here, ONNX's own definition, or onnx.reference."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from normexport.errors import FoldError
from normexport.io.onnx_domain import is_onnx_domain, plain_domain
from normexport.runtime.float64 import operators
from normexport.runtime.float64.reference_ops import from_onnx_reference
from normexport.runtime.float64.registry import Kernel, kernel_of

for _module in pkgutil.iter_modules(operators.__path__):
    importlib.import_module(f"{operators.__name__}.{_module.name}")

_REMEDY = "compare on another runtime"
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")


def schema_of(node: ir.Node, version: int, place: str) -> Any:
    """The operator's definition at that version, None where ONNX has none.

    Raises:
        FoldError: the operator is of a later version.
    """
    domain = plain_domain(node.domain)
    try:
        return onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        if onnx.defs.has(node.op_type, domain=domain):
            cause = f"no float64 reference: operator {node.op_type} is not in opset {version}"
            raise FoldError(place, cause, "check it with onnx.checker") from None
        return None


def own_kernel(node: ir.Node, version: int, place: str) -> Kernel | None:
    """The function written for an operator here, or onnx.reference's where that was found right; None for neither.

    Raises:
        FoldError: its results are random.
    """
    if is_onnx_domain(node.domain) and node.op_type in _RANDOM:
        raise FoldError(place, f"no float64 reference: operator {node.op_type} draws random numbers", _REMEDY)
    kernel = kernel_of(plain_domain(node.domain), node.op_type, version)
    return kernel if kernel is not None else from_onnx_reference(plain_domain(node.domain), node.op_type)


def unknown(node: ir.Node, place: str) -> FoldError:
    """The error for an operator that nothing here computes."""
    name = f"{node.domain}.{node.op_type}" if not is_onnx_domain(node.domain) else node.op_type
    return FoldError(place, f"no float64 reference: operator {name}", _REMEDY)


def is_defined(schema: Any) -> bool:
    """Whether ONNX defines the operator by a graph of others."""
    return bool(schema.has_function or schema.has_context_dependent_function)


def definition(schema: Any, node: ir.Node, version: int, inputs: Sequence[Any]) -> ir.Function:
    """ONNX's own definition of a node for inputs of these types (arrays or lists of arrays, None: left out)."""
    if schema.has_function:
        usable = [each for each in schema.function_opset_versions if each <= version]
        content = schema.get_function_with_opset_version(max(usable, default=schema.since_version))
    else:
        usable = [each for each in schema.context_dependent_function_opset_versions if each <= version]
        types = [_type_of(value).SerializeToString() for value in inputs]
        proto = ir.serde.serialize_node(node)
        content = schema.get_context_dependent_function_with_opset_version(
            max(usable, default=schema.since_version), proto.SerializeToString(), types
        )
    return ir.serde.deserialize_function(_with_all_outputs(onnx.FunctionProto.FromString(content)))


def _with_all_outputs(function: onnx.FunctionProto) -> onnx.FunctionProto:
    """A definition made for one node leaves out what makes the outputs that the node has not: they become 0."""
    made = {name for node in function.node for name in node.output} | set(function.input)
    for name in function.output:
        if name not in made:
            function.node.append(onnx.helper.make_node("Constant", [], [name], value_int=0))
    return function


def _type_of(value: Any) -> onnx.TypeProto:
    if value is None:
        return onnx.TypeProto()
    if isinstance(value, list):
        inner = _type_of(value[0] if value else np.zeros(0))
        return onnx.helper.make_sequence_type_proto(inner)
    kind = onnx.TensorProto.STRING if value.dtype == object else ir.DataType.from_numpy(value.dtype)
    return onnx.helper.make_tensor_type_proto(int(kind), value.shape)
