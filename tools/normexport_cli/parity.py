"""`normexport parity`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.image_options import DrawnDataOptions
from normexport_cli.options import ReadOptions, is_plan
from normexport_cli.pages import PagedOutputOptions, end, require_page, tell, write_page
from normexport_cli.precision_options import SnrOptions
from normexport_cli.screen import working
from normexport_cli.where_options import WhereOptions

Reference = Annotated[Path, typer.Argument(metavar="REF", help="What is right: a checkpoint or an ONNX file.")]
Candidate = Annotated[
    Path, typer.Argument(metavar="CAND", help="What is judged: a checkpoint, an ONNX file or a plan.")
]
Layers = Annotated[bool, typer.Option("--layers", metavar="", help="Show every module boundary, not only the worst.")]


@grouped
def parity(
    reference: Reference,
    candidate: Candidate,
    *,
    layers: Layers = False,
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    compared: DrawnDataOptions,
    lost: SnrOptions,
    where: WhereOptions,
    how: ReadOptions,
    shown: PagedOutputOptions,
) -> None:
    """Judge whether a candidate computes what a reference computes, within the error of its own precision.

    The reference runs in float64; the options of checkpoints are for those among the two. A plan needs its GPU. An int8
    file is judged by the SNR of its outputs, on --data or, which proves less, on random inputs.

    \b
      normexport parity model.pt2 out/model.onnx --layers
      normexport parity original.onnx folded.onnx
    """
    with working("Comparing", shown):
        how.require_reader(reference, candidate)
        require_page(shown.html, (reference, candidate, compared.data))
        how.check_early(reference, candidate, inputs=inputs, data=[compared.data])
        import normexport

        side = options.load_plan(candidate, how.trust) if is_plan(candidate) else how.load_unless_onnx(candidate)
        first = how.load_unless_onnx(reference)
        result = normexport.check(
            first,
            side,
            inputs,
            data=compared.data,
            layers=layers,
            batches=compared.sizes,
            limits=lost.limits(),
            runtime=compared.runtime,
            weights_under=how.weights_under,
            preprocess=compared.prepared(),
            on=where.where(),
            draw=compared.draw(),
        )
    from normexport.reports.snr_table import show_any_parity

    title = f"{candidate.name} against {reference.name}"
    page = partial(write_page, result, shown.html, candidate, how.weights_under, title)
    troubles = tell(shown, result.as_dict, lambda console: show_any_parity(console, result, every_layer=layers), page)
    end(result.judgement.verdict.exit_code, troubles, shown.debug)
