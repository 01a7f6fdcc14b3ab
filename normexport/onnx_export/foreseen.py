"""What can be told of an ONNX file before it is made: the modules that it is made of, and what it returns.

A program says both in its graph. A module says its parts by their paths; what it returns is seen by running a copy of
it once, on zeros, which takes a hundredth of what tracing it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from normexport.checkpoint.loose import copy_of_model
from normexport.io.quiet import silence
from normexport.onnx_export.calls import call_of, plain
from normexport.onnx_export.inputs import InputSpec
from normexport.onnx_export.torch_export import TRACE_BATCH, names_of_leaves, output_names, sample_of

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from normexport.checkpoint import Checkpoint


@dataclass(frozen=True)
class ForeseenOutput:
    """One output of the file.

    Attributes:
        name: as the file will call it.
        shape: at the batch that is looked at; None: it hangs on sizes that are still open.
        dtype: "float32", "int64", ...
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str


@dataclass(frozen=True)
class Foreseen:
    """What the file returns for so many samples."""

    samples: int
    outputs: tuple[ForeseenOutput, ...]


def modules_foreseen(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Paths of the modules that can have nodes in the file, "layer1.0.bn1", each behind those that it lies in."""
    paths: Iterable[str] = ()
    if checkpoint.program is not None:
        stacks = (node.meta.get("nn_module_stack") or {} for node in checkpoint.program.graph.nodes)
        paths = (str(path) for stack in stacks for path, *_ in stack.values())
    elif checkpoint.model is not None:
        paths = (path for path, _ in checkpoint.model.named_modules(remove_duplicate=False))
    parts = (path.split(".") for path in paths if path)
    return tuple(dict.fromkeys(".".join(each[:end]) for each in parts for end in range(1, len(each) + 1)))


def outputs_foreseen(checkpoint: Checkpoint, specs: Sequence[InputSpec]) -> Foreseen | None:
    """What the file returns; None where that is not sure: it fails, or its inputs hold no samples on their first axis.

    Args:
        specs: its inputs, see `inputs_to_export`.
    """
    samples = _samples(specs)
    if samples is None:
        return None
    if checkpoint.program is not None:
        outputs = _of_program(checkpoint.program, samples)
    else:
        outputs = None if checkpoint.model is None else _of_module(checkpoint.model, specs)
    return None if outputs is None else Foreseen(samples, outputs)


def _samples(specs: Sequence[InputSpec]) -> int | None:
    """How many samples the inputs hold, as they are looked at: the batch of a trace, or the fixed one."""
    if any(spec.open or (spec.batched and (spec.axes, spec.batch.length(1)) != ((0,), 1)) for spec in specs):
        return None
    if all(spec.batched and spec.batch.holds(TRACE_BATCH) for spec in specs):
        return TRACE_BATCH if specs else None
    sizes = {spec.shape[:1] for spec in specs if not spec.batched}
    return next(iter(sizes))[0] if len(sizes) == 1 and () not in sizes and not any(s.batched for s in specs) else None


def _of_program(program: ExportedProgram, samples: int) -> tuple[ForeseenOutput, ...] | None:
    batch, returned = _first_symbol(program), _returned(program)
    if returned is None:
        return None
    found = []
    for node, name in zip(returned, output_names(program), strict=True):
        value: Any = node.meta.get("val")
        sizes = [_at(size, batch, samples) for size in value.shape] if isinstance(value, torch.Tensor) else [None]
        shape = None if None in sizes else tuple(size for size in sizes if size is not None)
        found.append(ForeseenOutput(name, shape, _name_of(value)))
    return tuple(found)


def _returned(program: ExportedProgram) -> list[torch.fx.Node] | None:
    """The nodes of the outputs, in the order of their names; None where one is no tensor, which export refuses."""
    by_name = {node.name: node for node in program.graph.nodes}
    names = [str(name) for name in program.graph_signature.user_outputs if name is not None]
    return [by_name[name] for name in names] if by_name.keys() >= set(names) else None


def _first_symbol(program: ExportedProgram) -> Any:
    """The symbol of the inputs' first axis; None where that is a number."""
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value: Any = node.meta.get("val")
        if node.op == "placeholder" and node.name in names and isinstance(value, torch.Tensor) and value.ndim:
            return None if isinstance(value.shape[0], int) else value.shape[0].node.expr
    return None


def _at(size: Any, batch: Any, samples: int) -> int | None:
    """A size where the batch is so many; None where another symbol is in it."""
    if isinstance(size, int):
        return size
    number = size.node.expr if batch is None else size.node.expr.subs(batch, samples)
    return int(number) if number.is_Integer else None


def _of_module(model: nn.Module, specs: Sequence[InputSpec]) -> tuple[ForeseenOutput, ...] | None:
    try:
        copied = copy_of_model(model)  # some make buffers in their first forward
        with torch.no_grad(), torch.random.fork_rng(devices=()), silence():
            arguments, named = call_of(copied, specs).arguments([sample_of(spec) for spec in specs])
            leaves = names_of_leaves(plain(copied(*arguments, **named)))
    except Exception:  # a model's code can raise anything; the export tells what in its own words
        return None
    if not all(isinstance(leaf, torch.Tensor) for leaf in leaves.values()):
        return None
    return tuple(ForeseenOutput(name, tuple(leaf.shape), _name_of(leaf)) for name, leaf in leaves.items())


def _name_of(value: Any) -> str:
    return str(getattr(value, "dtype", "")).removeprefix("torch.")
