"""Plans where other verbs take ONNX files: run one on a file of arrays, judge one against a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from normexport import parity
from normexport.engine import Manifest, manifest_path, read_manifest
from normexport.errors import UsageError
from normexport.files import replacing
from normexport.onnx_export import DTYPES, Declared, InputSpec, Open, settle, unnamed
from normexport.overwriting import check_outputs
from normexport.parity.check import Factory
from normexport.parity.judge import JITTER
from normexport.runtime import Array, Float64Runtime, OnnxRuntime, Runtime, TensorRTRuntime

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_SIZES = (1, 2, 7)  # batch sizes judged, as far as the profile has them; its largest comes last


@dataclass(frozen=True)
class Plan:
    """A plan to be opened, and how far its holder trusts it."""

    path: Path
    trust: bool = False
    plugin_library: Path | None = None

    def runtime(self, *, graphs: bool = False) -> TensorRTRuntime:
        """Opened on this machine's GPU. Raises what `TensorRTRuntime` raises."""
        return TensorRTRuntime(self.path, trust=self.trust, plugin_library=self.plugin_library, graphs=graphs)


def plan_inputs(
    manifest: Manifest, given: Sequence[InputSpec] = (), arrays: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[InputSpec, ...]:
    """What a plan reads; an open first size is the batch.

    Args:
        given, arrays: shapes that settle other open sizes, as `normexport.onnx_export.settle` takes them.

    Raises:
        UsageError: another size stays open, or the type is none that arrays have.
    """
    return settle(declared_by_plan(manifest), given, arrays)


def declared_by_plan(manifest: Manifest) -> tuple[Declared, ...]:
    """Names, sizes and types of a plan's inputs.

    Raises:
        UsageError: the type is none that arrays have.
    """
    declared = []
    for each in manifest.inputs:
        if each.dtype not in DTYPES:
            raise UsageError(f"input {each.name}", f"is of the unknown type {each.dtype}", "build the plan again")
        sizes = [Open(unnamed(each.name, axis)) if size < 0 else size for axis, size in enumerate(each.shape)]
        declared.append(Declared(each.name, tuple(sizes), each.dtype))
    return tuple(declared)


def run_plan(plan: Plan, inputs: Path, output: Path) -> dict[str, tuple[int, ...]]:
    """Run a plan on the arrays of an .npz file, write its outputs to another; returns their shapes by name.

    Raises:
        UsageError: the arrays are not what the plan reads, or the output can't be written.
        MissingComponent, EngineError: see `TensorRTRuntime`.
    """
    given = [(plan.path, "the plan"), (manifest_path(plan.path), "the plan's manifest"), (inputs, "the inputs")]
    if plan.plugin_library is not None:
        given.append((plan.plugin_library, "the plugin library"))
    check_outputs([(output, "the outputs")], given)
    arrays = parity.load_arrays(inputs, plan_inputs(read_manifest(plan.path)))
    results = plan.runtime().run(arrays)
    with replacing(output) as temporary, temporary.open("wb") as file:
        np.savez(file, **results)  # type: ignore[arg-type]
    return {name: tuple(array.shape) for name, array in results.items()}


def check_plan(
    reference: nn.Module | ExportedProgram | ir.Model,
    plan: Plan,
    inputs: Sequence[InputSpec] = (),
    *,
    data: Mapping[str, Array] | None = None,
    sizes: Sequence[int] | None = None,
) -> parity.ParityReport:
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
    tried = parity.choose_batches(specs, data, sizes=sizes, graph=graph, own=own, exact=exact)
    report = parity.check(exact, baseline, plan.runtime, tried.batches, precision=precision)
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
    return most if most in ("float16", "bfloat16") else "float32"


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
