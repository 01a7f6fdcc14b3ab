"""`normexport convert`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from normexport.bundle.kinds import KINDS
from normexport.errors import UsageError
from normexport.precision.config import EightBit, Half, require_samples
from normexport.verbs.config import ConvertConfig
from normexport_cli import options
from normexport_cli.engine_options import EngineOptions
from normexport_cli.failures import warn
from normexport_cli.groups import grouped
from normexport_cli.image_options import DrawnDataOptions
from normexport_cli.options import ExportOptions, OutputOptions, ReadOptions
from normexport_cli.pages import end, tell
from normexport_cli.precision_options import PrecisionOptions
from normexport_cli.screen import working
from normexport_cli.where_options import WhereOptions

if TYPE_CHECKING:
    from normexport.reports import Conversion

Source = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A checkpoint (exported program, pickled module, state_dict) or an ONNX file."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to write to; by default named after FILE.")
]

_MB = 1 << 20


def _folder_of(source: Path) -> Path:
    """What to write to where nothing is said: for the folder weights it is weights-onnx, never itself."""
    if source.is_dir():
        return Path(f"{source.resolve().name}-onnx")
    return Path(Path(source.name.removesuffix(".index.json")).stem)


@dataclass(frozen=True)
class FormOptions(ExportOptions):
    """In which form `convert` writes the network."""

    PANEL: ClassVar = "The ONNX file that is written"

    no_fold: Annotated[
        bool, typer.Option("--no-fold", metavar="", help="Keep every norm as an operator of its own.")
    ] = not ConvertConfig.fold
    inline: options.Inline = ConvertConfig.inline
    fixed_weights: options.FixedWeights = ConvertConfig.fixed_weights
    openvino: Annotated[
        bool, typer.Option("--openvino", metavar="", help="Write OpenVINO's own files too, model.xml and model.bin.")
    ] = ConvertConfig.openvino


@dataclass(frozen=True)
class CapsuleOptions:
    """The capsule that `convert` seals.

    Raises:
        UsageError: a size that is none.
    """

    PANEL: ClassVar = "Capsule"

    capsule: Annotated[
        Path | None,
        typer.Option(
            "--capsule", metavar="FILE.npz", help="Write what `normexport prove` judges by, where all passed."
        ),
    ] = None
    capsule_size: Annotated[
        float, typer.Option("--capsule-size", metavar="MB", help="The most that the capsule's arrays may take.")
    ] = ConvertConfig.capsule_bytes / _MB

    def __post_init__(self) -> None:
        if not 0 < self.capsule_size < 1 << 20:
            place = f"--capsule-size {self.capsule_size:g}"
            raise UsageError(place, "is not a size", "give megabytes, such as 64")


@dataclass(frozen=True)
class CompanionOptions(CapsuleOptions):
    """What goes with the model: the capsule, the folder that a server serves it from, what it was made of."""

    bundle: Annotated[
        str | None,
        typer.Option("--bundle", metavar="|".join(KINDS), help="Write a folder to serve it from too, below DIR."),
    ] = ConvertConfig.bundle
    bundle_name: Annotated[
        str | None,
        typer.Option("--bundle-name", metavar="NAME", help="What the server calls the model; by default as FILE is."),
    ] = ConvertConfig.bundle_name
    bom: Annotated[
        bool, typer.Option("--bom", metavar="", help="Write a bill of materials too, CycloneDX: model.cdx.json.")
    ] = ConvertConfig.bom


@dataclass(frozen=True)
class PlacedOptions(WhereOptions, PrecisionOptions):
    """What `convert` reduces the model to, and where that is measured."""

    def __post_init__(self) -> None:
        PrecisionOptions.__post_init__(self)
        WhereOptions.__post_init__(self)

    def config(self) -> Half | EightBit | None:
        """The same in the library's terms; None: float32."""
        return self.placed(PrecisionOptions.config(self))


@grouped
def convert(
    source: Source,
    *,
    output: Output = None,
    inputs: options.Inputs = [],  # noqa: B006  (typer reads the default and does not change it)
    how: ReadOptions,
    form: FormOptions,
    compared: DrawnDataOptions,
    reduced: PlacedOptions,
    built: EngineOptions,
    beside: CompanionOptions,
    shown: OutputOptions,
) -> None:
    """Convert a checkpoint or an ONNX file to a folded ONNX file, and prove that it computes the same.

    Writes model.onnx, model.layers.json, report.json and, for a browser, report.html; with --engine model.plan and
    model.plan.json. The last line is PARITY or, where --precision is not fp32, PRECISION and the verdict: PASSED,
    FAILED (exit code 1), or INCONCLUSIVE (7) where nothing was shown either way.

    \b
      normexport convert model.pt2 -o out
      normexport convert weights.pth --model resnet:resnet18 --input 3x224x224
      normexport convert any.onnx --precision fp16
      normexport convert model.pt2 --precision int8 --calibration-data images/
    """
    with working("Converting", shown) as on_stage:
        config = ConvertConfig(
            fold=not form.no_fold,
            data=compared.data,
            draw=compared.draw(),
            batches=compared.sizes,
            engine=built.config(),
            precision=reduced.config(),
            capsule=beside.capsule,
            capsule_bytes=int(beside.capsule_size * _MB),
            bundle=beside.bundle,
            bundle_name=beside.bundle_name,
            bom=beside.bom,
            labels_for=reduced.labels_for,
            metric=reduced.metric,
            runtime=compared.runtime,
            openvino=form.openvino,
            inline=form.inline,
            fixed_weights=form.fixed_weights,
            weights_under=how.weights_under,
            export=form.config(),
            preprocess=compared.prepared(),
        )
        how.require_reader(source)
        if form.fixed_weights and not options.is_onnx(source):
            raise UsageError("--fixed-weights", "means nothing here: it is for an ONNX file", "leave it out")
        folder = output if output is not None else _folder_of(source)
        folders = [folder] if beside.capsule is None else [folder, beside.capsule.parent]
        if beside.capsule is not None:
            options.require_file_name(beside.capsule)
        if isinstance(config.precision, EightBit):
            require_samples(config.precision, config.data is not None)
        data = compared.data, reduced.calibration_data
        how.check_early(source, inputs=inputs, data=data, folders=folders)
        if config.engine is not None:
            from normexport.engine import check_engine  # it brings onnx, which --help does without

            check_engine(config.engine)
        on_stage("load")  # importing torch is most of it
        import normexport

        given = source if options.is_onnx(source) else lambda: how.load(source)
        result = normexport.convert(given, folder, inputs, config, on_stage, on_stage.samples)
    from normexport.reports.terminal import show_conversion

    plot = partial(_write_plot, result, reduced.placement_plot)
    troubles = tell(shown, result.as_dict, lambda console: show_conversion(console, result), plot)
    if result.no_page:
        remedy = f"all else is written; run: normexport report {folder}"
        warn(str(folder / "report.html"), f"could not be made ({result.no_page})", remedy)
    end(result.judgement.verdict.exit_code, troubles, shown.debug)


def _write_plot(result: Conversion, path: Path | None) -> None:
    placement = None if result.precision is None else result.precision.placement
    if path is not None and placement is not None:
        from normexport.reports.placement_plot import write_placement_plot

        write_placement_plot(placement, path)
