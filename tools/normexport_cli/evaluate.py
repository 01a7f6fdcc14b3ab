"""`normexport evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport_cli import options
from normexport_cli.options import LoadOptions, is_plan
from normexport_cli.screen import print_json, result_console, working

Evaluated = Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint, an ONNX file, or a plan.")]
Data = Annotated[
    Path, typer.Option("--data", metavar="FILE.npz", help="Inputs by name, and whole numbers in an array `labels`.")
]
Reference = Annotated[
    Path | None, typer.Option("--reference", metavar="REF", help="A checkpoint or ONNX file to compare decisions with.")
]


def evaluate(
    model: Evaluated,
    data: Data,
    reference: Reference = None,
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    factory: options.Model = None,
    model_kwargs: options.ModelKwargs = None,
    dialect: options.Dialect = None,
    trust: options.Trust = False,
    weights_under: options.WeightsUnder = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Measure accuracy with its confidence interval, agreement with a reference, and throughput.

    \b
      normexport evaluate out/model.onnx --data test.npz --reference model.pt2
    """
    with working("Evaluating", json=json, debug=debug):
        how = LoadOptions.of(factory, model_kwargs, dialect, trust)
        from normexport import pipeline

        side = options.load_plan(model, trust) if is_plan(model) else how.load_unless_onnx(model)
        against = None if reference is None else how.load_unless_onnx(reference)
        result = pipeline.evaluate(side, data, against, inputs, weights_under=weights_under)
    if json:
        print_json(result.as_dict())
        return
    from normexport.report.precision_table import show_accuracy

    show_accuracy(result_console(), result)
