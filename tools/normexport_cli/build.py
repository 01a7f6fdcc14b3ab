"""`normexport build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport.dtypes import SHORT
from normexport_cli import engine_options, options
from normexport_cli.engine_options import engine_config
from normexport_cli.screen import print_json, result_console, working

Source = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX file; folded, if its norms can fold.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.plan", help="The plan to write.")]
Precision = Annotated[
    str | None,
    typer.Option("--require", metavar="fp16|bf16|int8", help="Fail unless layers compute in that precision."),
]
Library = Annotated[
    Path | None, typer.Option("--plugin-library", metavar="FILE.so", help="The plugin library, if not the one built.")
]
NoEmbed = Annotated[
    bool, typer.Option("--no-embed", metavar="", help="Leave the plugin library out of the plan; ship it beside.")
]
Timing = Annotated[Path | None, typer.Option("--timing-cache", metavar="FILE", help="Reuse and keep measured tactics.")]
Workspace = Annotated[int | None, typer.Option("--workspace", metavar="MIB", help="Most MiB of scratch memory.")]
Level = Annotated[int | None, typer.Option("--optimization-level", metavar="0-5", help="How hard the builder tries.")]
Versions = Annotated[
    bool, typer.Option("--version-compatible", metavar="", help="Let later versions run the plan (tensorrt only).")
]
Hardware = Annotated[
    bool, typer.Option("--hardware-compatible", metavar="", help="Let later GPUs run the plan (tensorrt only).")
]
Streaming = Annotated[
    bool, typer.Option("--weight-streaming", metavar="", help="Allow weights to be streamed from host memory.")
]
Refit = Annotated[bool, typer.Option("--refit", metavar="", help="Allow weights to be replaced (needs a GPU).")]
Tf32 = Annotated[bool, typer.Option("--tf32", metavar="", help="Let float32 layers multiply in TF32.")]
Timeout = Annotated[float | None, typer.Option("--timeout", metavar="S", help="Give up after so many seconds.")]
Log = Annotated[Path | None, typer.Option("--log", metavar="FILE", help="Keep all that TensorRT says.")]

_LONG = {short: name for name, short in SHORT.items()}


def build(
    context: typer.Context,
    source: Source,
    output: Output,
    flavor: engine_options.Flavor = engine_options.FLAVOR,
    targets: engine_options.Targets = [],  # noqa: B006  (typer reads the default and does not change it)
    min_shapes: engine_options.MinShapes = None,
    opt_shapes: engine_options.OptShapes = None,
    max_shapes: engine_options.MaxShapes = None,
    no_plugins: engine_options.NoPlugins = False,
    require: Precision = None,
    plugin_library: Library = None,
    no_embed: NoEmbed = False,
    timing_cache: Timing = None,
    workspace: Workspace = None,
    optimization_level: Level = None,
    version_compatible: Versions = False,
    hardware_compatible: Hardware = False,
    weight_streaming: Streaming = False,
    refit: Refit = False,
    tf32: Tf32 = False,
    debug_tensors: engine_options.DebugTensors = False,
    timeout: Timeout = None,
    weights_under: options.WeightsUnder = None,
    log: Log = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Build a TensorRT engine from an ONNX file; no GPU is needed with --flavor rtx.

    Writes MODEL.plan and its manifest MODEL.plan.json. Live norms become plugins where their library is built.

    \b
      normexport build out/model.onnx -o model.plan --target sm89
      normexport build model.onnx -o model.plan --minShapes x:1x3x224x224 --optShapes x:8x3x224x224
    """
    with working("Building", json=json, debug=debug) as on_stage:
        options.require_file_name(output)
        import normexport

        config = engine_config(
            flavor,
            targets,
            no_plugins,
            (min_shapes, opt_shapes, max_shapes),
            precision=_LONG.get(require or "", require),
            plugin_library=plugin_library,
            embed_plugins=not no_embed,
            timing_cache=timing_cache,
            workspace=None if workspace is None else workspace << 20,
            optimization_level=optimization_level,
            version_compatible=version_compatible,
            hardware_compatible=hardware_compatible,
            weight_streaming=weight_streaming,
            refit=refit,
            tf32=tf32,
            debug_tensors=debug_tensors,
            timeout=timeout,
            weights_under=weights_under,
            log=log,
        )
        manifest = normexport.build(source, output, config, on_stage, context.obj)
    if json:
        print_json(manifest.as_dict())
        return
    from normexport.reports.engine_table import show_built

    show_built(result_console(), output, manifest)
