"""`normexport bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from normexport.errors import ExitCode, UsageError
from normexport.timing.config import BENCH_RUNTIMES, PERCENTILES, BenchConfig
from normexport_cli import options
from normexport_cli.groups import grouped
from normexport_cli.help import complete_list
from normexport_cli.image_options import DrawnImageOptions
from normexport_cli.options import ReadOptions, is_plan
from normexport_cli.pages import PagedOutputOptions, end, tell, write_page
from normexport_cli.screen import json_text, working
from normexport_cli.where_options import WhereOptions

if TYPE_CHECKING:
    from normexport.timing.result import Benchmark
    from normexport.verbs.bench import Measured

_USUAL = BenchConfig()

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="ONNX files, checkpoints, plans.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="PATH", help="Real inputs: an .npz by input names, a folder of images.")
]


@dataclass(frozen=True)
class GridOptions:
    """What is measured: each file on each runtime, with each number of threads, at each batch size.

    Raises:
        UsageError: text that is no list of numbers; see `BenchConfig`.
    """

    PANEL: ClassVar = "What is measured"

    runtimes: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            metavar="A,B",
            help=f"What files run on, of {', '.join(BENCH_RUNTIMES)}.",
            autocompletion=complete_list(*BENCH_RUNTIMES),
        ),
    ] = None
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="N,M", help="Threads of an inference; 0: the runtime's choice.")
    ] = None
    batches: Annotated[str | None, typer.Option("--batches", metavar="SIZES", help="Batch sizes: 1,8.")] = None
    shapes: Annotated[
        str | None,
        typer.Option("--shapes", metavar="SHAPES", help="Whole shapes, as trtexec writes them: x:8x3x224x224."),
    ] = None

    def __post_init__(self) -> None:
        self.given()
        if self.shapes is not None and self.batches is not None:
            raise UsageError("--shapes", "says the batch size too", "leave --batches out")

    def given(self) -> dict[str, Any]:
        """Fields of `BenchConfig`."""
        runtimes = None if self.runtimes is None else tuple(each.strip() for each in self.runtimes.split(","))
        numbers = {"threads": _numbers("--threads", self.threads), "batches": _numbers("--batches", self.batches)}
        given: dict[str, Any] = {
            name: value for name, value in {"runtimes": runtimes, **numbers}.items() if value is not None
        }
        BenchConfig(**given)
        return given


@dataclass(frozen=True)
class LengthOptions:
    """For how long is measured: the names are trtexec's.

    Raises:
        UsageError: see `BenchConfig`.
    """

    PANEL: ClassVar = "For how long"

    warm_up: Annotated[
        float, typer.Option("--warmUp", metavar="MS", help="Milliseconds of calls before any counts, at least.")
    ] = _USUAL.warm_up
    duration: Annotated[
        float, typer.Option("--duration", metavar="S", help="Seconds of counted calls of each case, at least.")
    ] = _USUAL.duration
    iterations: Annotated[
        int, typer.Option("--iterations", metavar="N", help="Counted calls of each case, at least.")
    ] = _USUAL.iterations
    openings: Annotated[
        int,
        typer.Option("--openings", metavar="N", help="How often files are opened anew, for a ratio each."),
    ] = _USUAL.openings

    def __post_init__(self) -> None:
        BenchConfig(**vars(self))


@dataclass(frozen=True)
class ToldOptions:
    """Which numbers are told of what was measured, and where: the names are trtexec's.

    Raises:
        UsageError: text that is no list of numbers; see `BenchConfig`.
    """

    PANEL: ClassVar = "What is told"

    percentile: Annotated[
        str | None,
        typer.Option(
            "--percentile",
            metavar="P,Q",
            show_default=",".join(f"{each:g}" for each in PERCENTILES),
            help="Which percentiles of the latencies to tell: 0 is the shortest, 100 the longest.",
        ),
    ] = None
    average_of: Annotated[
        int | None, typer.Option("--avgRuns", metavar="N", help="Tell the means of N calls one after another too.")
    ] = BenchConfig.average_of
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the latencies: FILE.svg, .png or .pdf.")
    ] = None
    times: Annotated[
        Path | None,
        typer.Option("--exportTimes", metavar="FILE", help="Write all results, and every latency, as JSON."),
    ] = None

    def __post_init__(self) -> None:
        BenchConfig(**self.given())

    def given(self) -> dict[str, Any]:
        """Fields of `BenchConfig`."""
        given: dict[str, Any] = {"average_of": self.average_of}
        if self.percentile is not None:
            try:
                given["percentiles"] = tuple(dict.fromkeys(float(part) for part in self.percentile.split(",")))
            except ValueError as error:
                place, remedy = f"--percentile {self.percentile}", "write it as 90,95,99"
                raise UsageError(place, "is not a list of numbers", remedy) from error
        return given


@grouped
def bench(
    files: Files,
    *,
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    grid: GridOptions,
    length: LengthOptions,
    data: Data = None,
    images: DrawnImageOptions,
    told: ToldOptions,
    where: WhereOptions,
    how: ReadOptions,
    shown: PagedOutputOptions,
) -> None:
    """Measure how long files take, and whether one takes longer than the first.

    Files take turns, each in a process of its own that is opened anew several times; a difference is told only where
    its interval, of 99 %, is beyond 1 %. With one thread on a CPU the ratio is that of processor time.

    \b
      normexport bench a.onnx b.onnx --batches 1,8
      normexport bench model.onnx --runtime onnxruntime,openvino --threads 1,2
    """
    with working("Measuring", shown) as on_stage:
        how.require_reader(*files)
        how.check_early(*files, inputs=inputs, data=[data])
        _check_outputs(told.plot, told.times, shown.html, files)
        import normexport
        from normexport.engine.shapes import parse_shapes
        from normexport.verbs.bench import shapes_as_inputs

        read: list[Any] = list(inputs)
        asked: dict[str, Any] = {
            **grid.given(),
            **vars(length),
            **told.given(),
            "data": data,
            "preprocess": images.prepared(),
            **images.given(),
            "on": where.where(),
        }
        if grid.shapes is not None:
            if inputs:
                raise UsageError("--shapes", "says the shapes that --input says too", "give one of them")
            specs, batch = shapes_as_inputs(parse_shapes(grid.shapes, "--shapes"))
            read, asked["batches"] = list(specs), (batch,)
        config = BenchConfig(**asked, weights_under=how.weights_under, load=how.keywords())
        named: list[Measured] = [options.load_plan(file, how.trust) if is_plan(file) else file for file in files]
        result = normexport.bench(named, read, config, on_stage)
    from normexport.reports.bench_table import show_benchmark

    drawn = files[0] if len(files) == 1 else None
    troubles = tell(
        shown,
        result.as_dict,
        lambda console: show_benchmark(console, result),
        lambda: _write_times(result, told.times),
        lambda: _write_plot(result, told.plot),
        lambda: write_page(result, shown.html, drawn, how.weights_under),
    )
    end(ExitCode.GOOD, troubles, shown.debug)


def _write_times(result: Benchmark, path: Path | None) -> None:
    if path is not None:
        from normexport.io.atomic import write_text

        write_text(path, json_text(result.as_dict(times=True)))


def _write_plot(result: Benchmark, path: Path | None) -> None:
    if path is not None:
        from normexport.reports.bench_plot import write_plot

        write_plot(result, path)


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError(f"{option} {text}", "is not a list of numbers", "write it as 1,8")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _check_outputs(plot: Path | None, times: Path | None, html: Path | None, files: list[Path]) -> None:
    """Refuse, before minutes of work, what can't be written or drawn."""
    from normexport.io.atomic import check_writable
    from normexport.io.overwriting import check_outputs
    from normexport.reports.bench_plot import require_plots

    asked = ((plot, "the plot"), (times, "the times"), (html, "the page"))
    outputs = [(path, words) for path, words in asked if path is not None]
    for path, _ in outputs:
        options.require_file_name(path)
        check_writable(path.parent)
    check_outputs(outputs, [(file, "a model") for file in files])
    if plot is not None:
        require_plots(plot)
