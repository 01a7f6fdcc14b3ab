"""The verb `run`: a plan or an ONNX file on the arrays of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from normexport import proof
from normexport.engine import manifest_path, read_manifest
from normexport.engine.plan_inputs import plan_inputs
from normexport.io.atomic import replacing
from normexport.io.numpy_files import write_arrays
from normexport.io.onnx_model import opened_model
from normexport.io.overwriting import check_outputs
from normexport.io.weight_files import data_of_model
from normexport.runtime import Array, OnnxRuntime
from normexport.runtime.tensorrt_runtime import Plan
from normexport.verbs.subjects import guarded_if_files, is_onnx


def run(
    model: Plan | str | Path, inputs: str | Path, output: str | Path, *, weights_under: str | Path | None = None
) -> dict[str, tuple[int, ...]]:
    """Run a plan or an ONNX file on the arrays of an .npz file, write its outputs to another; returns their shapes.

    Args:
        model: a plan, the path of one that holds no code for the host, or the path of an ONNX file. A plan's runtime
            cache is written too, where it names one.
        inputs: .npz of arrays by input name.
        output: the .npz to write, one array an output.
        weights_under: a folder in which external data of an ONNX file may lie too, as `open_onnx` takes it.

    Raises:
        UsageError: the arrays are not what the model reads, or the output can't be written.
        FoldError: a damaged ONNX file, or one that ONNX Runtime can't run.
        MissingComponent, EngineError: see `TensorRTRuntime`, `OnnxRuntime`.
    """
    inputs, output = Path(inputs), Path(output)
    if not isinstance(model, Plan) and is_onnx(model):
        results = _run_onnx(Path(model), inputs, output, weights_under)
    else:
        results = _run_plan(model if isinstance(model, Plan) else Plan(Path(model)), inputs, output)
    with replacing(output) as temporary, temporary.open("wb") as file:
        write_arrays(file, results)
    return {name: tuple(array.shape) for name, array in results.items()}


def _run_plan(plan: Plan, inputs: Path, output: Path) -> Mapping[str, Array]:
    given = [(plan.path, "the plan"), (manifest_path(plan.path), "the plan's manifest")]
    if plan.plugin_library is not None:
        given.append((plan.plugin_library, "the plugin library"))
    _check_output(output, inputs, given, plan.runtime_cache)
    arrays = proof.load_arrays(inputs, plan_inputs(read_manifest(plan.path)))
    runtime = plan.runtime()
    results = runtime.run(arrays)
    runtime.save_runtime_cache()
    return results


def _run_onnx(path: Path, inputs: Path, output: Path, weights_under: str | Path | None) -> Mapping[str, Array]:
    model = opened_model(path, weights_under)
    data = [(file, f"the data of {path.name}") for file in data_of_model(model)]
    _check_output(output, inputs, [(path, "the model"), *data])
    names = [each.name for each in proof.declared_by_file(model)]
    arrays = proof.load_arrays(inputs, proof.input_specs(model, (), proof.shapes_in(inputs, names)))
    return guarded_if_files(lambda: OnnxRuntime(model).run(arrays), path)


def _check_output(output: Path, inputs: Path, given: Sequence[tuple[Path, str]], cache: Path | None = None) -> None:
    caches = [(cache, "the runtime cache")] if cache is not None else []
    check_outputs([(output, "the outputs"), *caches], [*given, (inputs, "the inputs")])
