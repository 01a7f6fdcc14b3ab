"""`normexport calibrate collect` and `merge`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from normexport.errors import UsageError
from normexport.workers import LOCAL
from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.help import CommandWithChoices, Group, show_help_alone
from normexport_cli.image_options import ImageOptions
from normexport_cli.options import OutputOptions, ReadOptions
from normexport_cli.screen import print_json, result_console, working
from normexport_cli.where_options import WhereOptions

app = typer.Typer(
    cls=Group,
    name="calibrate",
    help="What a network's tensors are on samples, in parts that add up: for convert --calibration-cache.",
)

_PART = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)

Source = Annotated[Path, typer.Argument(metavar="FILE", help="What `convert` takes: a checkpoint or an ONNX file.")]
Data = Annotated[
    Path,
    typer.Option("--data", metavar="PATH", help="Samples: .npz, .npy, a folder, tar shards, Parquet, or a pattern."),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.json", help="The state to write.")]
States = Annotated[list[Path], typer.Argument(metavar="STATE...", help="Two or more states of one network.")]


@dataclass(frozen=True)
class PartOptions:
    """Which samples are seen, and how.

    Raises:
        UsageError: no such part.
    """

    batch: Annotated[
        int | None,
        typer.Option("--batch", metavar="N", show_default="8", help="Samples run at a time; the same in all parts."),
    ] = None
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", help="Only as many, drawn by --seed. All of them.")
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", metavar="S", show_default="0", help="Of the draw.")] = None
    part: Annotated[
        str | None, typer.Option("--part", metavar="I/N", help="Only part I of N of the batches: 1/4, ... 4/4.")
    ] = None
    skip_bad: Annotated[
        int | None,
        typer.Option(
            "--skip-bad", metavar="N", show_default="0", help="Leave out samples that can't be read, N at most."
        ),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Go on from the state at -o, where there is one.")
    ] = False

    def __post_init__(self) -> None:
        self.parted()  # has refusals of its own

    def parted(self) -> tuple[int, int] | None:
        """(i, n) of --part."""
        if self.part is None:
            return None
        found = _PART.fullmatch(self.part)
        if found is None:
            raise UsageError(f"--part {self.part}", "is no part", "write it as 1/4")
        return int(found[1]), int(found[2])


@app.callback(invoke_without_command=True)
@grouped
def group(context: typer.Context, shown: OutputOptions) -> None:
    """What runs before each: nothing, but the bare `normexport calibrate` prints its help."""
    show_help_alone(context)


@app.command(cls=CommandWithChoices)
@grouped
def collect(
    source: Source,
    *,
    data: Data,
    output: Output,
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    seen: PartOptions,
    images: ImageOptions,
    where: WhereOptions,
    how: ReadOptions,
    shown: OutputOptions,
) -> None:
    """Run the float32 network on samples, or a part of them, and write what its tensors were as a state.

    The file has the same bytes wherever it was computed, and however many processes took part.

    \b
      normexport calibrate collect model.pt2 --data images/ -o all.json
      normexport calibrate collect model.pt2 --data images/ --part 1/2 -o a.json
      normexport calibrate collect model.pt2 --data images/ --on ray -o all.json
    """
    with working("Calibrating", shown) as on_stage:
        how.require_reader(source)
        on_stage("load")
        import normexport
        from normexport.verbs.calibrate import CalibrateConfig

        given_here = {"batch": seen.batch, "samples": seen.samples, "seed": seen.seed, "skip_bad": seen.skip_bad}
        config = CalibrateConfig(
            **{name: value for name, value in given_here.items() if value is not None},
            part=seen.parted(),
            on=where.where() or LOCAL,
            resume=seen.resume,
            preprocess=images.prepared(),
            weights_under=how.weights_under,
        )
        given = source if options.is_onnx(source) else lambda: how.load(source)
        state = normexport.calibrate(given, data, output, inputs, config, on_stage.samples)
    if shown.json:
        print_json(state.as_dict())
    else:
        result_console().print(f"{output}: {state.words}", markup=False)


@app.command(cls=CommandWithChoices)
@grouped
def merge(states: States, *, output: Output, shown: OutputOptions) -> None:
    """Add up states of parts of the samples: the bytes of one run over them all, whatever the order.

    \b
      normexport calibrate merge a.json b.json -o all.json
    """
    with working("Merging", shown):
        import normexport

        state = normexport.merge_calibrations(list(states), output)
    if shown.json:
        print_json(state.as_dict())
    else:
        result_console().print(f"{output}: {state.words}", markup=False)
