"""What a plan reads, told by its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from normexport.engine import Manifest
from normexport.errors import UsageError
from normexport.onnx_export import DTYPES, Declared, InputSpec, Open, close_sizes, symbol_for


def plan_inputs(
    manifest: Manifest, given: Sequence[InputSpec] = (), arrays: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[InputSpec, ...]:
    """What a plan reads; an open first size is the batch.

    Args:
        given, arrays: shapes that settle other open sizes, as `normexport.onnx_export.close_sizes` takes them.

    Raises:
        UsageError: another size stays open, or the type is none that arrays have.
    """
    return close_sizes(declared_by_plan(manifest), given, arrays)


def declared_by_plan(manifest: Manifest) -> tuple[Declared, ...]:
    """Names, sizes and types of a plan's inputs.

    Raises:
        UsageError: the type is none that arrays have.
    """
    declared = []
    for each in manifest.inputs:
        if each.dtype not in DTYPES:
            raise UsageError(f"input {each.name}", f"is of the unknown type {each.dtype}", "build the plan again")
        sizes = [Open(symbol_for(each.name, axis)) if size < 0 else size for axis, size in enumerate(each.shape)]
        declared.append(Declared(each.name, tuple(sizes), each.dtype))
    return tuple(declared)
