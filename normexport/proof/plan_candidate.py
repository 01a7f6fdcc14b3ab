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
    sizes, skipped = (sizes, ()) if sizes else batch_sizes(manifest, specs)
    compared = () if graph is None else (graph,)
    tried = choose_batches(specs, data, sizes=sizes, graph=graph, own=own, exact=exact, compared=compared)
    report = check(exact, baseline, plan.runtime, tried.batches, precision=precision)
    return replace(report, notes=(*tried.notes, *skipped, *report.notes))


def batch_sizes(manifest: Manifest, specs: Sequence[InputSpec]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The usual sizes that each profile has, what it expects, and its largest; and which profiles no size is in.

    Args:
        specs: what the plan reads. A profile of other heights and widths than theirs is not judged, and that is noted.
    """
    shapes = {spec.name: spec for spec in specs}
    found: list[int] = []
    notes = []
    number = len(manifest.inputs[0].profiles) if manifest.inputs else 1
    for index in range(number):
        profile = [(each.profiles[index], shapes[each.name]) for each in manifest.inputs if each.shape]
        if number > 1 and not all(_is_inside(spec, low, high) for (low, _, high), spec in profile):
            notes.append(f"profile {index + 1} of {number} was not judged: it has other sizes than the inputs given")
            continue
        ends = [(low[0], usual[0], high[0]) for (low, usual, high), _ in profile] or [(1, 1, 1)]
        least, most = max(low for low, _, _ in ends), min(high for _, _, high in ends)
        usual = [ends[0][1]] if number > 1 else []
        found += [size for size in (*_SIZES, *usual) if least <= size <= most] + [most]
    return tuple(dict.fromkeys(found)) or (1,), tuple(notes)


def _is_inside(spec: InputSpec, low: Sequence[int], high: Sequence[int]) -> bool:
    """Whether every size but the batch lies between the ends."""
    sizes = spec.sized(low[0]) if spec.batched else spec.shape
    return len(sizes) == len(low) and all(a <= b <= c for a, b, c in zip(low[1:], sizes[1:], high[1:], strict=True))


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
