"""`normexport plugins list`, `build` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport.errors import ExitCode
from normexport_cli.groups import grouped
from normexport_cli.help import CommandWithChoices, Group, show_help_alone
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working

app = typer.Typer(
    cls=Group,
    name="plugins",
    help="The native libraries: kernels of the norms that stay live. Without them the bodies in the file serve.",
)

Cuda = Annotated[
    bool | None,
    typer.Option(
        "--cuda/--no-cuda",
        metavar="",
        help="The CUDA kernels too: minutes of compiling. Without either: as in the last build, at first without.",
    ),
]
TensorRT = Annotated[
    bool | None,
    typer.Option("--tensorrt/--no-tensorrt", metavar="", help="The plugin library of TensorRT; brings --cuda along."),
]
OnnxRuntime = Annotated[
    bool, typer.Option("--onnxruntime/--no-onnxruntime", metavar="", help="The library for ONNX Runtime.")
]
Architectures = Annotated[
    list[str],
    typer.Option("--arch", metavar="SM", help="Only for GPUs of this architecture, 86 or 120; repeat."),
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", help="Compilers at a time. One per core.")]
Quick = Annotated[bool, typer.Option("--quick", metavar="", help="Leave out the smoke test.")]
TrustLibrary = Annotated[
    bool, typer.Option("--trust", metavar="", help="Load and try a library from elsewhere, which runs its code.")
]
Given = Annotated[Path, typer.Argument(metavar="LIB", help="A library, or the name of a component.")]


@app.callback(invoke_without_command=True)
@grouped
def group(context: typer.Context, shown: OutputOptions) -> None:
    """What runs before each: nothing, but the bare `normexport plugins` prints its help."""
    show_help_alone(context)


@app.command("list", cls=CommandWithChoices)
@grouped
def list_(shown: OutputOptions) -> None:
    """Show what is built, what it says of itself, and what is missing.

    \b
      normexport plugins list
    """
    with working("Looking", shown):
        from normexport.plugins.overview import overview

        found = overview()
    if shown.json:
        print_json(found.as_dict())
        return
    from normexport.reports.plugins_table import show_overview

    show_overview(result_console(), found)


@app.command(cls=CommandWithChoices)
@grouped
def build(
    *,
    cuda: Cuda = None,
    tensorrt: TensorRT = None,
    onnxruntime: OnnxRuntime = True,
    arch: Architectures = [],  # noqa: B006  (typer reads the default and does not change it)
    jobs: Jobs = None,
    shown: OutputOptions,
) -> None:
    """Build the libraries with CMake, into the folder where normexport looks for them.

    No network is used: a wheel carries the headers, and in a checkout `make headers` fetches them.

    \b
      normexport plugins build
      normexport plugins build --cuda --arch 86
    """
    with working("Building", shown) as on_stage:
        from normexport.plugins.compile import BuildConfig
        from normexport.plugins.compile import build as build_libraries

        config = BuildConfig(
            cuda=cuda, tensorrt=tensorrt, architectures=tuple(arch), onnxruntime=onnxruntime, jobs=jobs
        )
        built = build_libraries(config, on_stage)
    if shown.json:
        print_json(
            {"libraries": [str(path) for path in built.libraries], "seconds": built.seconds, "log": str(built.log)}
        )
        return
    from normexport.reports.plugins_table import show_built

    show_built(result_console(), built)


@app.command(cls=CommandWithChoices)
@grouped
def doctor(
    library: Given,
    *,
    quick: Quick = False,
    trust: TrustLibrary = False,
    shown: OutputOptions,
) -> None:
    """Say what is wrong with a library: format, symbols, interface, what it needs, GPUs it has code for, a trial run.

    The library in use here is also loaded, in a process of its own; any other with --trust. Exit code 6 where a check
    fails.

    \b
      normexport plugins doctor onnxruntime
      normexport plugins doctor build/plugins/lib/libnormexport_kernels.so
    """
    with working("Examining", shown):
        from normexport import plugins
        from normexport.plugins.doctor import examine

        by_name = str(library) in plugins.COMPONENTS and not library.exists()
        diagnosis = examine(plugins.require(str(library)) if by_name else library, quick=quick, trust=trust)
    if shown.json:
        print_json(diagnosis.as_dict())
    else:
        from normexport.reports.plugins_table import show_diagnosis

        show_diagnosis(result_console(), diagnosis)
    if not diagnosis.healthy:
        raise typer.Exit(ExitCode.MISSING)
