"""What an exported program reads, with the ranges that its sizes were declared for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from normexport.errors import UsageError
from normexport.onnx_export.inputs import BatchRange, InputSpec
from normexport.onnx_export.open_sizes import Declared, Open, close_sizes

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_UNBOUNDED = 1 << 40  # torch says "no upper end" with numbers beyond any memory, too


def inputs_of_program(
    program: ExportedProgram,
    given: Sequence[InputSpec] = (),
    arrays: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[InputSpec, ...]:
    """The inputs an exported program was made for; a symbolic size of axis 0 is the batch, within its declared range.

    Args:
        given, arrays: shapes that settle other symbolic sizes, as `settle` takes them. Names that are none of the
            program's own stand for its inputs in their order.

    Raises:
        UsageError: an input is not a tensor, or a size other than the batch stays symbolic.
    """
    declared = declared_by_program(program)
    if renames(declared, given):
        given = [replace(spec, name=each.name) for spec, each in zip(given, declared, strict=True)]
    return close_sizes(declared, given, arrays)


def renames(declared: Sequence[Declared], given: Sequence[InputSpec]) -> bool:
    """Whether the user gives the inputs of a program names of their own."""
    new = tuple(spec.name for spec in given)
    own = {each.name for each in declared}
    return len(new) == len(own) and not set(new) & own and all(spec.named for spec in given)


def declared_by_program(program: ExportedProgram) -> tuple[Declared, ...]:
    """Names, sizes and types of a program's inputs; None, numbers and words given at export are part of it.

    Raises:
        UsageError: an input is not a tensor, or a size is a product or quotient of symbols.
    """
    import torch
    from torch.export.graph_signature import ConstantArgument, InputKind

    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    found = []
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT or isinstance(spec.arg, ConstantArgument):
            continue
        name = spec.arg.name
        value: Any = placeholders[name].meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise UsageError(f"input {name}", "of the exported program is not a tensor", "export it with tensors only")
        sizes = tuple(_size(name, program, size) for size in value.shape)
        found.append(Declared(name, sizes, str(value.dtype).removeprefix("torch.")))
    return tuple(found)


def _size(name: str, program: ExportedProgram, size: Any) -> int | Open:
    """A number, or one symbol k as multiple * k + plus with multiple > 0."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    symbols = sorted(expression.free_symbols, key=str)
    if not symbols:
        return int(expression)
    multiple = expression.coeff(symbols[0])
    plus = (expression - multiple * symbols[0]).expand()
    if len(symbols) > 1 or not (multiple.is_Integer and plus.is_Integer and multiple > 0):
        cause = f"has a size of {expression}, which no one number gives"
        raise UsageError(f"input {name}", cause, "export it with sizes that are free, or twice, thrice, ... a free one")
    least, most = _range(program, symbols[0])
    least = max(least, math.ceil((1 - int(plus)) / int(multiple)))  # an axis is 1 long at least
    return Open(str(symbols[0]), BatchRange(least, most, int(multiple), int(plus)))


def _range(program: ExportedProgram, symbol: Any) -> tuple[int, int | None]:
    declared: Any = program.range_constraints.get(symbol)
    if declared is None:
        return 1, None
    try:
        least, most = int(declared.lower), int(declared.upper) if declared.upper.is_Integer else None
    except (TypeError, ValueError, AttributeError, OverflowError):  # an infinity
        return 1, None
    return max(1, least), None if most is None or most >= _UNBOUNDED else most
