"""A batch that is asked to be fixed, or free: of inputs, and of a graph whose batch was free."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.graphs.export_config import ExportConfig
from normexport.onnx_export.inputs import InputSpec

_SYMBOL = re.compile(r"[A-Za-z_]\w*")
_MULTIPLE = re.compile(r"(?:(\d+)\*)?([A-Za-z_]\w*)(?:\*(\d+))?")


def with_batch(specs: Sequence[InputSpec], config: ExportConfig, place: str) -> tuple[InputSpec, ...]:
    """The inputs with the batch that is asked for.

    Raises:
        UsageError: the batch is fixed already, at another size or where it should be free; it does not take the size.
    """
    free = [spec for spec in specs if spec.batched]
    fixed = [spec for spec in specs if not spec.batched]
    if config.batch is None:
        return tuple(specs)
    if config.batch == "dynamic":
        if not free and specs:
            raise UsageError("--batch dynamic", f"{place} fixes it: {_listed(fixed)}", "leave it out, or export anew")
        return tuple(specs)
    asked = f"--batch {config.batch}"
    if not free and not all(spec.shape[:1] == (config.batch,) for spec in fixed):
        raise UsageError(asked, f"{place} fixes it: {_listed(fixed)}", "leave it out")
    for spec in free:
        if not spec.batch.holds(config.batch):
            raise UsageError(asked, f"{place} takes {spec.name} at a batch of {spec.batch}", "give one of these")
    return tuple(spec.fixed(config.batch) for spec in specs)


def fix_batch(model: ir.Model, specs: Sequence[InputSpec], batch: int) -> None:
    """Give the batch of a graph in which it is free this size, in place; `specs` are its inputs with the free batch.

    A symbol of the batch becomes its number wherever it stands; a size computed from it in another way than by a
    factor is left unsaid.
    """
    numbers: dict[str, int] = {}
    for value, spec in zip(model.graph.inputs, specs, strict=True):
        sizes = list(value.shape or ())
        for axis in spec.axes if spec.batched and sizes else ():
            size = sizes[axis]
            if isinstance(size, ir.SymbolicDim):
                symbols = set(_SYMBOL.findall(size.value or ""))
                name = symbols.pop() if len(symbols) == 1 else size.value or ""  # files call it "batch size", too
                numbers[name] = batch
                sizes[axis] = spec.batch.length(batch)
        value.shape = ir.Shape(sizes) if sizes else value.shape
    for graph in model.graphs():
        for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
            if value.shape is not None and any(isinstance(size, ir.SymbolicDim) for size in value.shape):
                value.shape = ir.Shape([_at(size, numbers) for size in value.shape])


def _at(size: int | ir.SymbolicDim, numbers: Mapping[str, int]) -> int | str | None:
    """A size where these symbols are numbers; None where they stand in it in another way than as a multiple."""
    if isinstance(size, int) or size.value is None:
        return size if isinstance(size, int) else None
    if size.value in numbers:
        return numbers[size.value]
    if not numbers.keys() & set(_SYMBOL.findall(size.value)):
        return size.value
    found = _MULTIPLE.fullmatch(size.value)
    return None if found is None else int(found[1] or 1) * numbers[found[2]] * int(found[3] or 1)


def _listed(specs: Sequence[InputSpec]) -> str:
    return ", ".join(map(str, specs))
