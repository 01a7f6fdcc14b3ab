"""`normexport export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.options import ExportOptions, LoadOptions, OutputOptions
from normexport_cli.screen import print_json, result_console, working

if TYPE_CHECKING:
    from normexport.onnx_export import Exported

Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT.onnx", help="The ONNX file to write.")]


@grouped
def export(
    checkpoint: options.Checkpoint,
    *,
    output: Output,
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    inline: options.Inline = False,
    how: LoadOptions,
    asked: ExportOptions,
    shown: OutputOptions,
) -> None:
    """Export a checkpoint to ONNX with its norms as operators, neither folded nor compared.

    \b
      normexport export model.pt2 -o model.onnx
    """
    with working("Exporting", shown) as on_stage:
        options.require_file_name(output)
        how.check_early(checkpoint, inputs=inputs, folders=[output.parent])
        on_stage("load")
        import normexport

        loaded = how.load(checkpoint)
        on_stage("export")
        result = normexport.export(loaded, inputs, output, asked.config(), inline=inline)
    if shown.json:
        print_json(_as_dict(result))
        return
    from normexport.reports.terminal import show_export

    show_export(result_console(), checkpoint, result, result.files)


def _as_dict(exported: Exported) -> dict[str, Any]:
    """What a program wants to know of the file: where it is, what it reads, which module boundaries it has."""
    inputs = [asdict(spec) for spec in exported.inputs]
    layers = [asdict(layer) for layer in exported.layers]
    return {"files": [str(file) for file in exported.files], "inputs": inputs, "layers": layers}
