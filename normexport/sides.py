"""What a verb can be given: a checkpoint, an ONNX model, a plan, or the path of one; and what each of them reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import onnx_ir as ir
from torch import nn
from torch.export import ExportedProgram

from normexport import onnx_export, parity
from normexport.checkpoint import Checkpoint, load
from normexport.engine import read_manifest
from normexport.errors import UsageError
from normexport.onnx_export import InputSpec, parse_inputs
from normexport.onnx_files import opened_model
from normexport.parity.torch_candidate import count_outputs
from normexport.plans import Plan, plan_inputs
from normexport.runtime import OnnxRuntime, Runtime
from normexport.runtime.torch_runtime import TorchRuntime

Inputs: TypeAlias = Sequence[str | InputSpec]


def is_onnx(path: str | Path) -> bool:
    """By its name."""
    return Path(path).suffix.lower() == ".onnx"


def opened(
    source: Checkpoint | ir.Model | str | Path, weights_under: str | Path | None = None
) -> Checkpoint | ir.Model:
    """Opened, where it is a path; external data of an ONNX file may lie under `weights_under` too."""
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, ir.Model) or is_onnx(source):
        return opened_model(source, weights_under)
    return load(source)


def torch_of(side: Any) -> nn.Module | ExportedProgram:
    """The torch model of a checkpoint.

    Raises:
        UsageError: it holds weights alone.
    """
    model = side.program if side.program is not None else side.model
    if model is None:
        raise UsageError(str(side.path), "holds weights but no model", "name its code: --model package.module:factory")
    assert isinstance(model, (nn.Module, ExportedProgram))
    return model


def known_inputs(side: Checkpoint | ir.Model | Plan) -> tuple[InputSpec, ...]:
    """What it reads; empty where it does not say."""
    if isinstance(side, Plan):
        return plan_inputs(read_manifest(side.path))
    if isinstance(side, ir.Model):
        return parity.input_specs(side)
    return onnx_export.inputs_of_program(side.program) if side.program is not None else ()


def specs_of(inputs: Inputs) -> tuple[InputSpec, ...]:
    """Specs from specs or from their texts."""
    if all(isinstance(item, InputSpec) for item in inputs):
        return tuple(item for item in inputs if isinstance(item, InputSpec))
    return parse_inputs([str(item) for item in inputs])


def runtime_of(side: Checkpoint | ir.Model | Plan, specs: Sequence[InputSpec]) -> Runtime:
    """Ready to run: torch in float32, an ONNX model on ONNX Runtime, a plan on this machine's GPU.

    Raises:
        UsageError: this machine has not the memory that one sample takes.
    """
    if isinstance(side, Plan):
        return side.runtime()
    if isinstance(side, ir.Model):
        parity.require_room(side, ())
        return OnnxRuntime(side)
    model = torch_of(side)
    return TorchRuntime(model, specs, [f"output_{i}" for i in range(count_outputs(model, specs))])
