"""Options of the commands that build engines, and the EngineConfig that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import typer

from normexport.engine import FLAVORS, EngineConfig, flavor
from normexport.errors import UsageError
from normexport_cli.help import one_of

#: What is built for where nothing is said.
FLAVOR = flavor(EngineConfig.flavor).short

Flavor = Annotated[
    str,
    typer.Option(
        "--flavor",
        metavar="|".join(each.short for each in FLAVORS.values()),
        help="TensorRT for RTX, or enterprise TensorRT.",
        autocompletion=one_of(*(each.short for each in FLAVORS.values())),
    ),
]
Targets = Annotated[
    list[str],
    typer.Option(
        "--target",
        metavar="SM",
        help="GPU to build for, sm89, or current; may be repeated. Default: all.",
        autocompletion=one_of(*sorted({each for known in FLAVORS.values() for each in known.targets})),
    ),
]
NoPlugins = Annotated[bool, typer.Option("--no-plugins", metavar="", help="Build live norms from their bodies.")]
DebugTensors = Annotated[
    bool,
    typer.Option("--debug-tensors", metavar="", help="Let `prove` see tensors inside the engine that are not fused."),
]


@dataclass(frozen=True)
class EngineOptions:
    """Whether `convert` builds an engine too, and how.

    Raises:
        UsageError: an option of engines without `--engine`.
    """

    PANEL: ClassVar = "Engine"

    engine: Annotated[bool, typer.Option("--engine", metavar="", help="Build a TensorRT plan of the file too.")] = False
    flavor: Flavor = FLAVOR
    targets: Targets = field(default_factory=list)
    no_plugins: NoPlugins = not EngineConfig.plugins
    debug_tensors: DebugTensors = EngineConfig.debug_tensors

    def __post_init__(self) -> None:
        asked = {"--target": self.targets, "--no-plugins": self.no_plugins, "--debug-tensors": self.debug_tensors}
        for option in (option for option, given in asked.items() if given and not self.engine):
            raise UsageError(option, "has no engine to go to", "add --engine")

    def config(self) -> EngineConfig | None:
        """What to build; None: no engine."""
        if not self.engine:
            return None
        return EngineConfig(
            flavor=self.flavor,
            targets=each_once(self.targets),
            plugins=not self.no_plugins,
            debug_tensors=self.debug_tensors,
        )


def each_once(targets: list[str]) -> tuple[str, ...]:
    """GPUs to build for, in small letters."""
    return tuple(dict.fromkeys(target.lower() for target in targets))
