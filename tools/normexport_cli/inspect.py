"""`normexport inspect`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from normexport.errors import ExitCode, UsageError
from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.options import OutputOptions, ReadOptions, is_checkpoint, is_plan
from normexport_cli.pages import PagedOutputOptions, end, require_page, tell, write_page
from normexport_cli.screen import print_json, result_console, working

Source = Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint of any kind, an ONNX file, or a plan.")]


@grouped
def inspect(
    source: Source,
    *,
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    how: ReadOptions,
    shown: PagedOutputOptions,
) -> None:
    """Show the norms of a checkpoint, the health of their statistics, what would fold and why not; or a plan.

    \b
      normexport inspect model.pt2
      normexport inspect weights.pth --model resnet:resnet18 --input 3x224x224
    """
    if is_plan(source) and shown.html is not None:
        raise UsageError("--html", "means nothing here: a plan has a manifest and no norms", "leave it out")
    how.require_reader(source)
    how.check_early(source, inputs=inputs)
    if inputs and not is_checkpoint(source):
        raise UsageError("--input", "means nothing here: it is for a checkpoint", "leave it out")
    require_page(shown.html, (source,))
    if is_plan(source):
        _inspect_plan(source, shown)
        return
    with working("Inspecting", shown):
        import normexport

        result = normexport.inspect(how.load_unless_onnx(source), inputs, weights_under=how.weights_under)
    from normexport.reports.terminal import show_inspection

    page = partial(write_page, result, shown.html, source, how.weights_under)
    end(ExitCode.GOOD, tell(shown, result.as_dict, lambda console: show_inspection(console, result), page), shown.debug)


def _inspect_plan(plan: Path, shown: OutputOptions) -> None:
    """The manifest, once the plan is known to be the one it describes; the plan itself is not opened."""
    with working("Inspecting", shown):
        from normexport.verbs.inspect import inspect_plan

        manifest = inspect_plan(plan)
    if shown.json:
        print_json(manifest.as_dict())
        return
    from normexport.reports.engine_table import show_engine

    show_engine(result_console(), plan, manifest, every_layer=True)
