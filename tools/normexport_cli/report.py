"""`normexport report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working

Source = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The folder that `convert` wrote, or a JSON report: report.json, or of --json."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page; by default report.html in DIR.")
]
Model = Annotated[
    Path | None, typer.Option("--onnx", metavar="FILE", help="The ONNX file to draw; by default model.onnx in DIR.")
]


@grouped
def report(
    source: Source,
    *,
    output: Output = None,
    model: Model = None,
    weights_under: options.WeightsUnder = None,
    shown: OutputOptions,
) -> None:
    """Write a report as a page for a browser: one file that needs no network and nothing beside it.

    `convert` writes report.html itself; parity, evaluate, bench and inspect do with --html FILE.

    \b
      normexport report out
      normexport parity a.onnx b.onnx --json > parity.json
      normexport report parity.json
    """
    with working("Drawing", shown):
        from normexport.reports.words import size
        from normexport.verbs.report import report as write_report

        if output is not None:
            options.require_file_name(output)
        file = write_report(source, output, model=model, weights_under=weights_under)
    if shown.json:
        print_json({"file": str(file)})
    else:
        from normexport.text import one_line

        result_console().print(f"wrote {one_line(file)}  ({size(file)})", soft_wrap=True, markup=False)
