"""What an ONNX file reads, as far as arrays can hold it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.graphs.node_metadata import ARGUMENT
from normexport.io.onnx_scan import NAMELESS_SIZES
from normexport.onnx_export import DTYPES, BatchRange, Declared, InputSpec, Open, close_sizes, symbol_for

#: How PyTorch names sizes that another one gives: "2*s0", "s0 + 1".
_LINEAR = re.compile(r"(?:(?P<multiple>\d{1,9})\*)?(?P<symbol>[A-Za-z_]\w*)(?P<plus> [+-] \d{1,9})?")


def input_specs(
    model: ir.Model, given: Sequence[InputSpec] = (), arrays: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[InputSpec, ...]:
    """The inputs of an ONNX model; the batch is the open size that is named so, or else an open first one.

    Args:
        given, arrays: shapes that settle other open sizes, as `normexport.onnx_export.close_sizes` takes them.

    Raises:
        UsageError: a size stays open, a shape given does not fit, or an input is not a tensor of numbers.
    """
    return close_sizes(declared_by_file(model, given), given, arrays)


def declared_by_file(model: ir.Model, given: Sequence[InputSpec] = ()) -> tuple[Declared, ...]:
    """Names, sizes and types of the inputs without a default; a size below 0 is open, as one without a name is.

    Args:
        given: says by name how many axes an input has of which the file does not tell.

    Raises:
        UsageError: an input has no shape, or a type that no array of numbers has.
    """
    axes = {spec.name: len(spec.sized(spec.batch.least)) for spec in given}
    found = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        place, name = f"input {value.name}", str(value.name)
        if value.dtype is None or isinstance(value.type, (ir.SequenceType, ir.OptionalType, ir.SparseTensorType)):
            raise UsageError(place, "is not a tensor in the file", "export the model with tensors alone")
        dtype = value.dtype.name.lower()
        dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
        if dtype not in DTYPES:
            cause = f"is of the type {value.dtype}, and inputs are arrays of {', '.join(DTYPES)}"
            raise UsageError(place, cause, "export the model with one of these")
        sizes = value.shape if value.shape is not None else [-1] * axes.get(name, 0)
        if value.shape is None and not sizes:
            raise UsageError(place, "has no shape in the file", f"give that of one sample: --input {name}=3x224x224")
        whole = tuple(_size(name, axis, size) for axis, size in enumerate(sizes))
        found.append(Declared(name, whole, dtype, value.metadata_props.get(ARGUMENT, "")))
    return tuple(found)


def require_tensor_outputs(model: ir.Model) -> None:
    """Refuse a model that returns what no array holds.

    Raises:
        UsageError: an output is a sequence, a map or sparse.
    """
    for value in model.graph.outputs:
        if isinstance(value.type, ir.SequenceType | ir.SparseTensorType):
            cause = "is a sequence or sparse in the file, which nothing can be held against"
            raise UsageError(f"output {value.name}", cause, "let the model return tensors alone")


def _size(name: str, axis: int, size: int | ir.SymbolicDim) -> int | Open:
    if isinstance(size, int) and size >= 0:
        return size
    symbol = None if isinstance(size, int) else size.value
    if not symbol or symbol in NAMELESS_SIZES:
        return Open(symbol_for(name, axis))
    linear = _LINEAR.fullmatch(symbol)
    if linear is None or not int(linear["multiple"] or 1):
        return Open(symbol)
    multiple, plus = int(linear["multiple"] or 1), int((linear["plus"] or "0").replace(" ", ""))
    return Open(linear["symbol"], BatchRange(max(1, math.ceil((1 - plus) / multiple)), None, multiple, plus))
