"""Judge a TensorRT plan against the model that it was built from, by the rule of its precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from normexport.dtypes import FLOAT32, HALVES
from normexport.engine import Manifest, read_manifest
from normexport.engine.plan_inputs import plan_inputs
from normexport.onnx_export import InputSpec
from normexport.proof.check import Factory, check
from normexport.proof.inputs.ladder import choose_batches
from normexport.proof.judge import JITTER
from normexport.proof.verdict import ParityReport
from normexport.runtime import Array, Float64Runtime, OnnxRuntime, Runtime
from normexport.runtime.tensorrt_runtime import Plan

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_SIZES = (1, 2, 7)  # batch sizes judged, as far as the profile has them; its largest comes last


def check_plan(
    reference: nn.Module | ExportedProgram | ir.Model,
    plan: Plan,
    inputs: Sequence[InputSpec] = (),
    *,
    data: Mapping[str, Array] | None = None,
    sizes: Sequence[int] | None = None,
) -> ParityReport:
    """Judge a plan against the model it came from, by the rule for its precision; outputs alone.

    Raises:
        MissingComponent, EngineError, UsageError: see `TensorRTRuntime`.
    """
    manifest = read_manifest(plan.path)
    specs = plan_inputs(manifest, inputs, {name: array.shape for name, array in (data or {}).items()})
    precision = precision_of(manifest)
    outputs = [each.name for each in manifest.outputs]
    exact, baseline = _sides(reference, specs, outputs, precision)
    graph = reference if isinstance(reference, ir.Model) else None
    _, own = _sides(reference, specs, outputs, "float32")
    sizes = sizes or batch_sizes(manifest)
    tried = choose_batches(specs, data, sizes=sizes, graph=graph, own=own, exact=exact)
    report = check(exact, baseline, plan.runtime, tried.batches, precision=precision)
    return replace(report, notes=(*tried.notes, *report.notes))


def batch_sizes(manifest: Manifest) -> tuple[int, ...]:
    """The usual sizes that the profile has, and its largest."""
    ends = [(each.smallest or each.shape)[:1] + (each.largest or each.shape)[:1] for each in manifest.inputs]
    ends = [both for both in ends if both] or [(1, 1)]  # an input without axes has no batch
    least, most = max(low for low, _ in ends), min(high for _, high in ends)
    return tuple(dict.fromkeys([size for size in _SIZES if least <= size <= most] + [most]))


def precision_of(manifest: Manifest) -> str:
    """The precision a plan is held to: half where most of its layers compute in it, else float32."""
    most = max(manifest.precision, key=lambda name: manifest.precision[name], default="float32")
    return most if most in HALVES else FLOAT32.name


def _sides(
    reference: nn.Module | ExportedProgram | ir.Model,
    specs: Sequence[InputSpec],
    outputs: Sequence[str],
    precision: str,
) -> tuple[Factory, Factory]:
    if isinstance(reference, ir.Model):
        model = reference
        return lambda: Float64Runtime(model), lambda: OnnxRuntime(model, jitter=JITTER)
    from normexport.runtime import TorchRuntime

    torch_model = reference

    def exact() -> Runtime:
        return TorchRuntime(torch_model, specs, outputs, "float64")

    def baseline() -> Runtime:
        return TorchRuntime(torch_model, specs, outputs, precision, jitter=JITTER)

    return exact, baseline
