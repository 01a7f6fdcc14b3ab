"""Whether a torch model is a function of its inputs that a graph can hold: by what it says and by what it does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from normexport.checkpoint.loose import copy_of_model
from normexport.errors import NormExportError
from normexport.onnx_export import InputSpec
from normexport.onnx_export.calls import call_of
from normexport.onnx_export.state_in_graph import doubts_of_program
from normexport.onnx_export.torch_export import program_of
from normexport.proof.inputs.batches import Batch
from normexport.runtime.python_reads import count_reads, count_traced_reads
from normexport.runtime.repeatable import doubts_of_model

_LOOKS = "its Python looks at numbers that it computes, and a traced graph has taken one way of what follows"


def doubts_of(
    model: nn.Module | ExportedProgram,
    inputs: Sequence[InputSpec],
    outputs: Sequence[str],
    dtype: str,
    batches: Sequence[Batch],
) -> tuple[str, ...]:
    """Why `model` is no function of its inputs that a graph holds, in words: empty where it is, as far as can be seen.

    Args:
        model, inputs, outputs, dtype: as `normexport.runtime.TorchRuntime` takes them.
        batches: the two smallest are run.
    """
    smallest = sorted(batches, key=lambda batch: batch.size)[:2]
    found = doubts_of_model(model, inputs, outputs, dtype, [batch.feeds for batch in smallest])
    if isinstance(model, ExportedProgram):
        return (*doubts_of_program(model), *found)
    return (*found, *_looks(model, inputs, smallest[-1]))


def _looks(model: nn.Module, inputs: Sequence[InputSpec], batch: Batch) -> tuple[str, ...]:
    """Whether more numbers reach Python than a trace knows of: those it knows, its graph computes with."""
    arrays = [torch.from_numpy(np.array(batch.feeds[spec.name])) for spec in inputs]
    tensors = [array.to(getattr(torch, spec.dtype)) for array, spec in zip(arrays, inputs, strict=True)]
    try:
        reads = count_reads(copy_of_model(model), call_of(model, inputs), tensors)
    except Exception:  # a model's code can raise anything; others say so
        return ()
    if reads == 0:
        return ()
    try:
        known = count_traced_reads(program_of(model, inputs))
    except NormExportError:
        known = 0
    return () if reads <= known else (f"the model: {_LOOKS}",)
