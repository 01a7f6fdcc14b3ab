"""Does this torch model compute what that torch model, or that ONNX file, does? Outputs only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import onnx_ir as ir

from normexport.errors import UsageError
from normexport.io.quiet import silence
from normexport.onnx_export import InputSpec, smallest_batch
from normexport.proof.check import check
from normexport.proof.doubts.random_numbers import random_nodes, without_repeats
from normexport.proof.inputs.ladder import choose_batches
from normexport.proof.judge import JITTER
from normexport.proof.not_compared import not_compared
from normexport.proof.verdict import ParityReport
from normexport.runtime import Array, Float64Runtime, OnnxRuntime, Runtime

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


def check_torch(
    reference: nn.Module | ExportedProgram | ir.Model,
    candidate: nn.Module | ExportedProgram,
    inputs: Sequence[InputSpec],
    *,
    data: Mapping[str, Array] | None = None,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    unproven: Sequence[str] = (),
    graphs: tuple[ir.Model, ir.Model] | None = None,
) -> ParityReport:
    """Judge a torch model in float32 against a reference in float64.

    Args:
        reference: a torch model, or an ONNX model (then the float64 interpreter is the reference and ONNX
            Runtime the float32 baseline).
        inputs, data, sizes, seed, unproven: as in `check_model`.
        graphs: what the two compute, exported. What they ask of numbers is known then: it is tried, or told.
    """
    from normexport.proof.doubts.steady import doubts_of
    from normexport.runtime import TorchRuntime

    exact: Callable[[], Runtime]
    own: Callable[[], Runtime]
    baseline: Callable[[], Runtime]
    if isinstance(reference, ir.Model):
        names = [str(value.name) for value in reference.graph.outputs]
        exact = partial(Float64Runtime, reference)
        own = partial(OnnxRuntime, reference)
        baseline = partial(OnnxRuntime, reference, jitter=JITTER)
    else:
        names = [f"output_{i}" for i in range(count_outputs(reference, inputs))]
        exact = partial(TorchRuntime, reference, inputs, names, "float64")
        own = partial(TorchRuntime, reference, inputs, names, "float32")
        baseline = partial(TorchRuntime, reference, inputs, names, "float32", (), JITTER)
    graph = reference if isinstance(reference, ir.Model) else None
    compared = graphs or (() if graph is None else (graph,))
    tried = choose_batches(inputs, data, sizes=sizes, seed=seed, graph=graph, own=own, exact=exact, compared=compared)
    doubts = [*unproven, *doubts_of(candidate, inputs, names, "float32", tried.batches)]
    if isinstance(reference, ir.Model):
        doubts += random_nodes(reference)
    else:
        doubts += doubts_of(reference, inputs, names, "float32", tried.batches)
    notes = tried.notes
    if graphs is not None:
        unseen = not_compared(*graphs, tried.batches)
        notes, doubts = (*notes, *unseen.notes), [*doubts, *unseen.doubts]
    theirs = partial(TorchRuntime, candidate, inputs, names, "float32")
    report = check(exact, baseline, theirs, tried.batches, unproven=without_repeats(*doubts))
    return replace(report, notes=(*notes, *report.notes))


def count_outputs(model: nn.Module | ExportedProgram, inputs: Sequence[InputSpec]) -> int:
    """How many tensors a torch model returns, by running it on zeros."""
    import torch
    from torch.export import ExportedProgram

    from normexport.onnx_export.calls import call_of, outputs_of
    from normexport.runtime.control_flow import nothing_compiled
    from normexport.runtime.torch_runtime import flat_module, is_output

    runnable = flat_module(model) if isinstance(model, ExportedProgram) else model
    size = max(2, smallest_batch(inputs))
    size = size if all(spec.batch.holds(size) for spec in inputs) else smallest_batch(inputs)
    zeros = [torch.zeros(spec.sized(size), dtype=getattr(torch, spec.dtype)) for spec in inputs]
    call = call_of(model, inputs)
    try:
        with torch.no_grad(), silence(), nothing_compiled():
            args, kwargs = call.arguments(zeros)
            return sum(is_output(leaf) for leaf in outputs_of(runnable(*args, **kwargs)))
    except Exception as error:  # a model's code, or a program that somebody else wrote, can raise anything
        cause = f"the model does not run on zeros ({type(error).__name__})"
        raise UsageError("PyTorch", cause, "check the input shapes and types") from error
