"""Options of the commands that build engines, and the EngineConfig that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normexport.engine import FLAVORS, EngineConfig, ShapeRange, flavor, parse_shapes

#: What is built for where nothing is said.
FLAVOR = flavor(EngineConfig.flavor).short

Flavor = Annotated[
    str,
    typer.Option(
        "--flavor",
        metavar="|".join(each.short for each in FLAVORS.values()),
        help="TensorRT for RTX, or enterprise TensorRT.",
    ),
]
Targets = Annotated[
    list[str],
    typer.Option("--target", metavar="SM", help="GPU to build for, sm89, or current; may be repeated. Default: all."),
]
NoPlugins = Annotated[bool, typer.Option("--no-plugins", metavar="", help="Build live norms from their bodies.")]
DebugTensors = Annotated[
    bool,
    typer.Option("--debug-tensors", metavar="", help="Let `prove` see tensors inside the engine that are not fused."),
]
_SHAPE_METAVAR = "NAME:1x3x224x224,..."
MinShapes = Annotated[
    str | None, typer.Option("--minShapes", metavar=_SHAPE_METAVAR, help="Smallest shapes, as trtexec writes them.")
]
OptShapes = Annotated[str | None, typer.Option("--optShapes", metavar=_SHAPE_METAVAR, help="Shapes to tune for.")]
MaxShapes = Annotated[str | None, typer.Option("--maxShapes", metavar=_SHAPE_METAVAR, help="Largest shapes.")]


def engine_config(
    named: str,
    targets: list[str],
    no_plugins: bool,
    shapes: tuple[str | None, str | None, str | None] = (None, None, None),
    **others: str | int | float | bool | Path | None,
) -> EngineConfig:
    """From the words of the command line; `others` are fields of EngineConfig.

    Raises:
        UsageError: shapes or values that are not understood.
    """
    names = ("--minShapes", "--optShapes", "--maxShapes")
    parsed = [parse_shapes(text, name) if text else {} for text, name in zip(shapes, names, strict=True)]
    return EngineConfig(
        flavor=named,
        targets=tuple(dict.fromkeys(target.lower() for target in targets)),
        shapes=ShapeRange(*parsed),
        plugins=not no_plugins,
        **others,  # type: ignore[arg-type]
    )
