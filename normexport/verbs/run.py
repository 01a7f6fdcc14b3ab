"""The verb `run`: a plan on the arrays of a file, on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from normexport import proof
from normexport.engine import manifest_path, read_manifest
from normexport.engine.plan_inputs import plan_inputs
from normexport.io.atomic import replacing
from normexport.io.overwriting import check_outputs
from normexport.runtime.tensorrt_runtime import Plan


def run(plan: Plan | str | Path, inputs: str | Path, output: str | Path) -> dict[str, tuple[int, ...]]:
    """Run a plan on the arrays of an .npz file, write its outputs to another; returns their shapes by name.

    Args:
        plan: a plan, or the path of one that holds no code for the host.
        inputs: .npz of arrays by input name.
        output: the .npz to write.

    Raises:
        UsageError: the arrays are not what the plan reads, or the output can't be written.
        MissingComponent, EngineError: see `TensorRTRuntime`.
    """
    plan = plan if isinstance(plan, Plan) else Plan(Path(plan))
    inputs, output = Path(inputs), Path(output)
    given = [(plan.path, "the plan"), (manifest_path(plan.path), "the plan's manifest"), (inputs, "the inputs")]
    if plan.plugin_library is not None:
        given.append((plan.plugin_library, "the plugin library"))
    check_outputs([(output, "the outputs")], given)
    arrays = proof.load_arrays(inputs, plan_inputs(read_manifest(plan.path)))
    results = plan.runtime().run(arrays)
    with replacing(output) as temporary, temporary.open("wb") as file:
        np.savez(file, **results)  # type: ignore[arg-type]
    return {name: tuple(array.shape) for name, array in results.items()}
