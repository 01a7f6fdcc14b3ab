"""`normexport run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport.errors import UsageError
from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file, or a plan with its manifest beside it.")]
Inputs = Annotated[
    Path, typer.Option("--inputs", metavar="IN.npz", help="One array per input, by its name, batch included.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT.npz", help="Where to write the outputs.")]
TrustPlan = Annotated[
    bool, typer.Option("--trust", metavar="", help="Run the plugin code that the plan holds, from authors you trust.")
]
Library = Annotated[
    Path | None, typer.Option("--plugin-library", metavar="FILE.so", help="The library a plan without it needs.")
]
RuntimeCache = Annotated[
    Path | None,
    typer.Option(
        "--runtime-cache", metavar="FILE", help="Keep kernels that RTX compiles for this GPU, and reuse them."
    ),
]


@grouped
def run(
    model: Model,
    *,
    inputs: Inputs,
    output: Output,
    trust: TrustPlan = False,
    plugin_library: Library = None,
    runtime_cache: RuntimeCache = None,
    weights_under: options.WeightsUnder = None,
    shown: OutputOptions,
) -> None:
    """Run an ONNX file on the CPU, or a TensorRT plan on the GPU of this machine.

    \b
      normexport run model.onnx --inputs in.npz -o out.npz
      normexport run model.plan --inputs in.npz -o out.npz
    """
    with working("Running", shown) as on_stage:
        options.require_file_name(output)
        is_plan = model.suffix.lower() != ".onnx"  # a plan may have any name, as the verb has it
        of_plans = {"--trust": trust, "--plugin-library": plugin_library is not None}
        of_plans["--runtime-cache"] = runtime_cache is not None
        of_files = {"--weights-under": weights_under is not None}
        for option, given in (of_files if is_plan else of_plans).items():
            if given:
                kind = "an ONNX file" if is_plan else "a plan"
                raise UsageError(option, f"means nothing here: it is for {kind}", "leave it out")
        on_stage("load")
        import normexport

        subject = normexport.Plan(model, trust, plugin_library, runtime_cache) if is_plan else model
        shapes = normexport.run(subject, inputs, output, weights_under=weights_under)
    if shown.json:
        print_json({"file": str(output), "outputs": {name: list(shape) for name, shape in shapes.items()}})
        return
    from normexport.reports.engine_table import show_run

    show_run(result_console(), output, shapes)
