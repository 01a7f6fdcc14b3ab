"""`normexport build`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from normexport.dtypes import SHORT
from normexport.engine import EngineConfig, ranges_of
from normexport.engine.config import STAGES, OnStage
from normexport.errors import UsageError
from normexport.progress import say
from normexport_cli import engine_options, options
from normexport_cli.groups import grouped
from normexport_cli.help import one_of
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working
from normexport_cli.watching import Watched

Source = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX file; folded, if its norms can fold.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.plan", help="The plan to write.")]

_SHAPE_METAVAR = "NAME:1x3x224x224,..."
_LONG = {short: name for name, short in SHORT.items()}


@dataclass(frozen=True)
class BuildOptions:
    """What to build for, and how: `EngineConfig` in the words of the command line."""

    PANEL: ClassVar = "The engine"

    flavor: engine_options.Flavor = engine_options.FLAVOR
    targets: engine_options.Targets = field(default_factory=list)
    min_shapes: Annotated[
        list[str],
        typer.Option(
            "--minShapes",
            metavar=_SHAPE_METAVAR,
            help="Smallest shapes, as trtexec writes them; repeat per profile. Alone they are the only shapes.",
        ),
    ] = field(default_factory=list)
    opt_shapes: Annotated[
        list[str], typer.Option("--optShapes", metavar=_SHAPE_METAVAR, help="Shapes to tune for; repeat per profile.")
    ] = field(default_factory=list)
    max_shapes: Annotated[
        list[str], typer.Option("--maxShapes", metavar=_SHAPE_METAVAR, help="Largest shapes; repeat per profile.")
    ] = field(default_factory=list)
    no_plugins: engine_options.NoPlugins = not EngineConfig.plugins
    require: Annotated[
        str | None,
        typer.Option(
            "--require",
            metavar="fp16|bf16|int8|fp8",
            help="Fail unless layers compute in that precision.",
            autocompletion=one_of(*_LONG),
        ),
    ] = None
    plugin_library: Annotated[
        Path | None,
        typer.Option("--plugin-library", metavar="FILE.so", help="The plugin library, if not the one built."),
    ] = None
    no_embed: Annotated[
        bool, typer.Option("--no-embed", metavar="", help="Leave the plugin library out of the plan; ship it beside.")
    ] = not EngineConfig.embed_plugins
    timing_cache: Annotated[
        Path | None, typer.Option("--timing-cache", metavar="FILE", help="Reuse and keep measured tactics.")
    ] = None
    workspace: Annotated[int | None, typer.Option("--workspace", metavar="MIB", help="Most MiB of scratch memory.")] = (
        None
    )
    optimization_level: Annotated[
        int | None, typer.Option("--optimization-level", metavar="0-5", help="How hard the builder tries.")
    ] = EngineConfig.optimization_level
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", metavar="", help="Let later versions run the plan (tensorrt only)."),
    ] = EngineConfig.version_compatible
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", metavar="", help="Let later GPUs run the plan (tensorrt only).")
    ] = EngineConfig.hardware_compatible
    weight_streaming: Annotated[
        bool, typer.Option("--weight-streaming", metavar="", help="Allow weights to be streamed from host memory.")
    ] = EngineConfig.weight_streaming
    refit: Annotated[bool, typer.Option("--refit", metavar="", help="Allow weights to be replaced (needs a GPU).")] = (
        EngineConfig.refit
    )
    tf32: Annotated[bool, typer.Option("--tf32", metavar="", help="Let float32 layers multiply in TF32.")] = (
        EngineConfig.tf32
    )
    debug_tensors: engine_options.DebugTensors = EngineConfig.debug_tensors
    ep_context: Annotated[
        Path | None,
        typer.Option("--ep-context", metavar="FILE.onnx", help="Write an ONNX file around the plan, for ONNX Runtime."),
    ] = None
    ep_context_embed: Annotated[
        bool, typer.Option("--ep-context-embed", metavar="", help="Put the plan into that file, not only its name.")
    ] = EngineConfig.ep_context_embed
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="S", help="Give up after so many seconds.")] = (
        EngineConfig.timeout
    )
    weights_under: options.WeightsUnder = None
    log: Annotated[Path | None, typer.Option("--log", metavar="FILE", help="Keep all that TensorRT says.")] = None

    def __post_init__(self) -> None:
        numbers = {"--workspace": (self.workspace, "MiB"), "--timeout": (self.timeout, "seconds")}
        for option, (number, unit) in numbers.items():
            if number is not None and not number > 0:
                raise UsageError(f"{option} {number:g}", "is not above 0", f"give {unit}")
        if self.require is not None and self.require not in (*_LONG, *_LONG.values()):
            *first, last = _LONG
            raise UsageError(f"--require {self.require}", "is not a precision", f"choose {', '.join(first)} or {last}")
        level = self.optimization_level
        if level is not None and not 0 <= level <= 5:
            raise UsageError(f"--optimization-level {level}", "does not exist", "choose 0 to 5")

    def config(self) -> EngineConfig:
        """The same in the library's terms.

        Raises:
            UsageError: shapes or values that are not understood.
        """
        return EngineConfig(
            flavor=self.flavor,
            targets=engine_options.each_once(self.targets),
            shapes=ranges_of(self.min_shapes, self.opt_shapes, self.max_shapes),
            precision=_LONG.get(self.require or "", self.require),
            plugins=not self.no_plugins,
            plugin_library=self.plugin_library,
            embed_plugins=not self.no_embed,
            workspace=None if self.workspace is None else self.workspace << 20,
            timing_cache=self.timing_cache,
            version_compatible=self.version_compatible,
            hardware_compatible=self.hardware_compatible,
            optimization_level=self.optimization_level,
            weight_streaming=self.weight_streaming,
            refit=self.refit,
            tf32=self.tf32,
            debug_tensors=self.debug_tensors,
            ep_context=self.ep_context,
            ep_context_embed=self.ep_context_embed,
            timeout=self.timeout,
            log=self.log,
            weights_under=self.weights_under,
        )


@grouped
def build(context: typer.Context, source: Source, output: Output, how: BuildOptions, shown: OutputOptions) -> None:
    """Build a TensorRT engine from an ONNX file; no GPU is needed with --flavor rtx.

    Writes MODEL.plan and its manifest MODEL.plan.json. Live norms become plugins where their library is built.

    \b
      normexport build out/model.onnx -o model.plan --target sm89
      normexport build model.onnx -o model.plan --maxShapes x:8x3x224x224
    """
    with working("Building", shown) as on_stage:
        options.require_file_name(output)
        import normexport

        manifest = normexport.build(source, output, how.config(), _told_by(on_stage), context.obj)
    if shown.json:
        print_json(manifest.as_dict())
        return
    from normexport.reports.engine_table import show_built

    show_built(result_console(), output, manifest, [how.ep_context] if how.ep_context is not None else [])


def _told_by(watched: Watched) -> OnStage:
    """Our stages as such, the phases of TensorRT as steps of the last one."""
    return lambda stage: watched(stage) if stage in STAGES else say(stage.removeprefix("Building ").lower())
