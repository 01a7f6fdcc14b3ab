"""What an engine is built for and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from normexport.dtypes import PRECISIONS
from normexport.engine.flavor import RTX, Flavor
from normexport.engine.shapes import ShapeRange
from normexport.errors import UsageError

#: Called with the name of what begins: "parse", "build", or a phase of the vendor's builder.
OnStage: TypeAlias = Callable[[str], None]
#: What a build does one after the other; what is told beside them are phases of the vendor's.
STAGES = ("load", "prepare", "save", "parse", "build")


@dataclass(frozen=True)
class EngineConfig:
    """How to build. Engines are strongly typed: precision is that of the ONNX file, never a flag.

    Attributes:
        flavor: "tensorrt-rtx" (or "rtx") or "tensorrt".
        targets: "sm75" to "sm121", or "current" alone; empty: all that take any network.
        shapes: smallest, expected and largest shapes by input name; several of them make as many profiles.
        precision: demanded of the result, one of `normexport.dtypes.PRECISIONS`; None: whatever the ONNX file asks for.
        plugins: use the plugin library; False builds every norm from its body.
        plugin_library: the library; None: the one that `normexport plugins build` made, where there is one.
        embed_plugins: put the library into the plan, so that the plan is all that has to be shipped.
        workspace: most bytes of scratch memory; None: the vendor's own limit.
        timing_cache: a file of measured tactics, read where it exists and written afterwards.
        version_compatible: let later versions of TensorRT run the plan (`tensorrt` only).
        hardware_compatible: let later GPU generations run the plan (`tensorrt` only).
        optimization_level: 0 to 5; None: the vendor's own.
        weight_streaming: allow weights to be streamed from host memory.
        refit: allow weights to be replaced in the plan; building such a plan needs a GPU.
        tf32: let float32 layers multiply in TF32, with 10 bits of mantissa; faster, and no float32 any more.
        debug_tensors: let the tensors that are not fused be seen while the plan runs, and so be judged by `prove`.
        ep_context: an ONNX file to write around the plan, for ONNX Runtime's TensorRT providers; it names the plan.
        ep_context_embed: let that file hold the plan instead.
        timeout: seconds after which the build is given up; None: never.
        log: file that receives all the vendor says.
        weights_under: a folder in which external data of the ONNX file may lie too (`normexport.io.external_data`).
    """

    flavor: str = RTX.name
    targets: tuple[str, ...] = ()
    shapes: ShapeRange | Sequence[ShapeRange] = field(default_factory=ShapeRange)
    precision: str | None = None
    plugins: bool = True
    plugin_library: str | Path | None = None
    embed_plugins: bool = True
    workspace: int | None = None
    timing_cache: str | Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    optimization_level: int | None = None
    weight_streaming: bool = False
    refit: bool = False
    tf32: bool = False
    debug_tensors: bool = False
    ep_context: str | Path | None = None
    ep_context_embed: bool = False
    timeout: float | None = None
    log: str | Path | None = None
    weights_under: str | Path | None = None

    def __post_init__(self) -> None:
        if not self.ranges or not all(isinstance(each, ShapeRange) for each in self.ranges):
            raise UsageError(
                f"shapes={self.shapes!r}", "is no range of shapes", "give ShapeRange(...), or a list of them"
            )
        if self.precision is not None and self.precision not in PRECISIONS:
            raise UsageError(
                f"precision {self.precision!r}", "does not exist", f"choose one of {', '.join(PRECISIONS)}"
            )
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise UsageError(f"optimization level {self.optimization_level}", "does not exist", "choose 0 to 5")
        if self.workspace is not None and self.workspace < 0:
            raise UsageError(f"workspace {self.workspace}", "is negative", "give bytes")
        if self.ep_context_embed and self.ep_context is None:
            raise UsageError("--ep-context-embed", "has no file to embed the plan in", "add --ep-context FILE.onnx")
        if self.timeout is not None and self.timeout <= 0:
            raise UsageError(f"timeout {self.timeout:g}", "leaves no time at all", "give seconds above 0")

    @property
    def ranges(self) -> tuple[ShapeRange, ...]:
        """`shapes`, one for each profile."""
        return (self.shapes,) if isinstance(self.shapes, ShapeRange) else tuple(self.shapes)

    def side_files(self) -> list[tuple[Path, str]]:
        """What a build writes beside plan and manifest, each in words."""
        named = {
            "the log": self.log,
            "the timing cache": self.timing_cache,
            "the ONNX file around the plan": self.ep_context,
        }
        return [(Path(path), words) for words, path in named.items() if path is not None]

    @property
    def data_folder(self) -> Path | None:
        """`weights_under` as a path.

        Raises:
            UsageError: it is no folder.
        """
        from normexport.io.external_data import weights_folder  # numpy takes 60 ms to load

        return weights_folder(self.weights_under)


def check_options(which: Flavor, config: EngineConfig) -> None:
    """Refuse options that the flavour would ignore or stumble over.

    Raises:
        UsageError: one of them is set.
    """
    for name in which.lacks:
        if getattr(config, name):
            raise UsageError(f"--{name.replace('_', '-')}", f"is not an option of {which.title}", "leave it out")
