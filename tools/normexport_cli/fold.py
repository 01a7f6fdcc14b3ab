"""`normexport fold`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working

Source = Annotated[Path, typer.Argument(metavar="IN.onnx", help="Any ONNX file.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT.onnx", help="The ONNX file to write.")]

LiveOperators = Annotated[
    bool,
    typer.Option(
        "--live-operators",
        help="Make one operator of each live norm that ordinary operators compute: for native kernels, int8, TensorRT.",
    ),
]


@grouped
def fold(
    source: Source,
    *,
    output: Output,
    live_operators: LiveOperators = False,
    inline: options.Inline = False,
    fixed_weights: options.FixedWeights = False,
    weights_under: options.WeightsUnder = None,
    shown: OutputOptions,
) -> None:
    """Fold the norms of any ONNX file into their neighbours: operators, BatchNormalization and raw chains.

    A file in which nothing can be folded is copied byte for byte.

    \b
      normexport fold model.onnx -o folded.onnx
    """
    with working("Folding", shown):
        options.require_file_name(output)
        import normexport

        result = normexport.fold(
            source,
            output,
            weights_under=weights_under,
            live_operators=live_operators,
            inline=inline,
            fixed_weights=fixed_weights,
        )
    if shown.json:
        print_json(result.as_dict())
        return
    from normexport.reports.terminal import show_folding

    show_folding(result_console(), result, source)
