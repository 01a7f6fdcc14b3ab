"""`normexport bisect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport.errors import UsageError
from normexport.verbs.config import RUNTIMES
from normexport_cli import options
from normexport_cli.failures import warn
from normexport_cli.groups import grouped
from normexport_cli.image_options import DrawnDataOptions
from normexport_cli.options import OutputOptions, ReadOptions, is_onnx
from normexport_cli.precision_options import SnrOptions
from normexport_cli.screen import print_json, result_console, working

Reference = Annotated[Path, typer.Argument(metavar="REF", help="What is right: a checkpoint or an ONNX file.")]
Candidate = Annotated[Path, typer.Argument(metavar="CAND", help="What is judged: an ONNX file of any precision.")]
Folder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for bisect.onnx, input.npz and show.py.")
]


@grouped
def bisect(
    reference: Reference,
    candidate: Candidate,
    *,
    output: Folder = Path("bisect"),
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    compared: DrawnDataOptions,
    lost: SnrOptions,
    how: ReadOptions,
    shown: OutputOptions,
) -> None:
    """Find the few nodes, and the small input, for which a candidate leaves its budget; write what shows it alone.

    The part is tried on what the reference gives in float64 where it begins. `python show.py` in the folder shows the
    fault with ONNX Runtime and numpy. Nothing is written where nothing differs.

    \b
      normexport bisect model.onnx optimised.onnx
      normexport bisect model.pt2 out/model.onnx --data images.npz
    """
    with working("Narrowing down", shown) as on_stage:
        if compared.runtime != RUNTIMES[0]:
            raise UsageError(f"--runtime {compared.runtime}", "is none that a part is shown on", "leave it out")
        if not is_onnx(candidate):
            raise UsageError(str(candidate), "is no ONNX file", "give the ONNX file that it was made from")
        how.require_reader(reference, candidate)
        how.check_early(reference, candidate, inputs=inputs, data=[compared.data], folders=[output])
        import normexport

        result = normexport.bisect(
            how.load_unless_onnx(reference),
            candidate,
            output,
            inputs,
            data=compared.data,
            batches=compared.sizes,
            limits=lost.limits(),
            weights_under=how.weights_under,
            preprocess=compared.prepared(),
            draw=compared.draw(),
            on_stage=on_stage,
        )
    if shown.json:
        print_json(result.as_dict())
    else:
        from normexport.reports.bisect_table import show_bisection

        show_bisection(result_console(), result)
    if result.no_files:
        warn(str(output), f"has not got the files ({result.no_files})", "all that was found is told above")
    raise typer.Exit(result.judgement.verdict.exit_code)
