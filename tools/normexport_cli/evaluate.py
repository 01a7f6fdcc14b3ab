"""`normexport evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from normexport.errors import ExitCode
from normexport.verbs.config import RUNTIMES, require_runtime
from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.image_options import ImageOptions
from normexport_cli.options import ReadOptions, is_plan
from normexport_cli.pages import PagedOutputOptions, end, require_page, tell, write_page
from normexport_cli.precision_options import LimitOptions
from normexport_cli.screen import working
from normexport_cli.where_options import DrawOptions, WhereOptions

Evaluated = Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint, an ONNX file, or a plan.")]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Inputs by name and an array `labels`, a folder with one of images per class, tar shards, Parquet.",
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option("--reference", metavar="REF", help="A checkpoint or ONNX file to compare outputs with."),
]
LabelsFor = Annotated[
    str | None,
    typer.Option(
        "--labels-for",
        "--output",
        metavar="OUTPUT",
        help="The output that labels belong to, where they fit several.",
    ),
]


@dataclass(frozen=True)
class PlacedLimits(WhereOptions, DrawOptions, LimitOptions):
    """What may be lost, on how many samples, and where that is measured."""

    def __post_init__(self) -> None:
        LimitOptions.__post_init__(self)
        DrawOptions.__post_init__(self)
        WhereOptions.__post_init__(self)


@grouped
def evaluate(
    model: Evaluated,
    *,
    data: Data,
    reference: Reference = None,
    labels_for: LabelsFor = None,
    images: ImageOptions,
    lost: PlacedLimits,
    runtime: options.Runtime = RUNTIMES[0],
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    how: ReadOptions,
    shown: PagedOutputOptions,
) -> None:
    """Measure accuracy with its confidence interval, every output's distance from a reference, and throughput.

    With --reference the last line is EVALUATION and the verdict: PASSED, FAILED (exit code 1) or INCONCLUSIVE (7).

    \b
      normexport evaluate out/model.onnx --data test.npz --reference model.pt2
    """
    with working("Evaluating", shown):
        how.require_reader(model, *([] if reference is None else [reference]))
        require_page(shown.html, (model, reference, data))
        how.check_early(model, reference, inputs=inputs, data=[data])
        require_runtime(runtime)
        if reference is None:
            from normexport.verbs.real_data import require_labels

            require_labels(data)
        import normexport

        side = options.load_plan(model, how.trust) if is_plan(model) else how.load_unless_onnx(model)
        against = None if reference is None else how.load_unless_onnx(reference)
        result = normexport.evaluate(
            side,
            data,
            against,
            inputs,
            labels_for=labels_for,
            metric=lost.metric,
            limits=lost.limits(),
            runtime=runtime,
            weights_under=how.weights_under,
            preprocess=images.prepared(),
            on=lost.where(),
            samples=lost.samples,
            seed=lost.seed or 0,
            skip_bad=lost.skip_bad or 0,
        )
    from normexport.reports.precision_table import show_accuracy

    code = ExitCode.GOOD if result.judgement is None else result.judgement.verdict.exit_code
    page = partial(write_page, result, shown.html, model, how.weights_under, model.name)
    end(code, tell(shown, result.as_dict, lambda console: show_accuracy(console, result), page), shown.debug)
