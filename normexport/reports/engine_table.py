"""An engine for people: what the plan was made for, what is in it, which norms are plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from normexport.reports.layout import (
    last_line,
    path_cell,
    path_width,
    section,
    show_table,
    show_title,
    words_line,
)
from normexport.reports.words import count, size, tally
from normexport.text import one_line

if TYPE_CHECKING:
    from normexport.engine import Manifest
    from normexport.engine.manifest import PlanTensor


def show_engine(console: Console, plan: Path, manifest: Manifest, *, every_layer: bool = False) -> None:
    """The plan's manifest; `every_layer` lists the network's layers too."""
    show_title(console, one_line(plan.name), f"{manifest.flavor} {manifest.flavor_version}", size(plan))
    words_line(console, f"from {manifest.onnx.file} (sha256 {manifest.onnx.sha256[:12]}…)")
    words_line(console, f"for {', '.join(manifest.targets)}")
    for tensor in manifest.inputs:
        words_line(console, f"reads {_tensor(tensor)}{_profile(tensor)}")
    for tensor in manifest.outputs:
        words_line(console, f"writes {_tensor(tensor)}")
    words_line(
        console, f"{count(len(manifest.layers), 'layer')} before fusion; computing in {_tally(manifest.precision)}"
    )
    words_line(console, _plugin_words(manifest))
    if manifest.bodies:
        words_line(
            console, f"built from their bodies, at the speed of elementwise layers: {', '.join(manifest.bodies)}"
        )
    _plugins(console, manifest)
    if every_layer:
        _layers(console, manifest)
    if manifest.warnings:
        section(console, "warnings", style="bold yellow")
        for words in manifest.warnings:
            words_line(console, words)


def show_built(console: Console, plan: Path, manifest: Manifest, more: Sequence[Path] = ()) -> None:
    """What `build` made and where, `more` files beside plan and manifest; the verdict is the last line."""
    show_engine(console, plan, manifest)
    console.print()
    stages = ", ".join(f"{stage} {each:.1f}" for stage, each in manifest.seconds.items())
    show_title(console, "seconds", f"{sum(manifest.seconds.values()):.1f}", stages)
    for position, path in enumerate((plan, plan.with_name(plan.name + ".json"), *more)):
        words = Text.assemble((f"{'' if position else 'wrote':<11}", "bold"), f"{one_line(path)}  ({size(path)})")
        console.print(words, soft_wrap=True)
    console.print()
    norms = tally(op for _, op, _ in manifest.plugins)
    tail = f"{count(len(manifest.plugins), 'norm')} as plugins ({norms})" if manifest.plugins else "no plugin needed"
    last_line(console, Text.assemble(("ENGINE BUILT", "bold green"), f"  {tail}"))


def engine_words(manifest: Manifest) -> tuple[str, ...]:
    """One line on an engine, in pieces."""
    norms = count(len(manifest.plugins), "norm") + " as plugins" if manifest.plugins else ""
    bodies = f"built from bodies: {', '.join(manifest.bodies)}" if manifest.bodies else ""
    targets = f"for {', '.join(manifest.targets)}"
    return f"{manifest.flavor} {manifest.flavor_version}", targets, f"in {_tally(manifest.precision)}", norms, bodies


def show_run(console: Console, output: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """What `run` computed and where it is."""
    for name, shape in shapes.items():
        words_line(console, f"{name} {'x'.join(map(str, shape)) or 'scalar'}")
    words = Text.assemble((f"{'wrote':<11}", "bold"), f"{one_line(output)}  ({size(output)})")
    console.print(words, soft_wrap=True)


def _tensor(tensor: PlanTensor) -> str:
    sizes = "x".join("?" if each < 0 else str(each) for each in tensor.shape) or "scalar"
    return f"{tensor.name} {sizes} {tensor.dtype}"


def _profile(tensor: PlanTensor) -> str:
    is_open = any(size < 0 for size in tensor.shape)
    profiles = [each for each in tensor.profiles if each[0] != each[2] or tensor.more or is_open]
    if tensor.smallest is None or not profiles:
        return ""
    return f", {'; or '.join(map(_profile_words, profiles))}"


def _profile_words(shapes: Sequence[Sequence[int]]) -> str:
    """ "min 1x3, opt 8x3, max 32x3"; "only 8x3" of a profile that fixes an open shape."""
    smallest, expected, largest = ("x".join(map(str, each)) for each in shapes)
    return f"only {smallest}" if smallest == largest else f"min {smallest}, opt {expected}, max {largest}"


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({number})" for name, number in counts.items()) or "nothing (no computing layer)"


def _plugin_words(manifest: Manifest) -> str:
    if manifest.plugin is None:
        return "needs no plugin library"
    if manifest.embedded:
        return "holds its plugin library: open it only if you trust it (--trust)"
    return f"needs the plugin library {manifest.plugin.file} (sha256 {manifest.plugin.sha256[:12]}…)"


def _plugins(console: Console, manifest: Manifest) -> None:
    if not manifest.plugins:
        return
    width = path_width(console, [module or node for node, _, module in manifest.plugins])
    console.print()
    cells = [
        (path_cell(module or node, width), Text(op), Text(one_line(node))) for node, op, module in manifest.plugins
    ]
    show_table(console, ("norm", "plugin", "node"), cells)


def _layers(console: Console, manifest: Manifest) -> None:
    if not manifest.layers:
        return
    width = path_width(console, [layer.name for layer in manifest.layers])
    console.print()
    cells = [
        (path_cell(layer.name, width), Text(layer.type.lower()), Text(layer.dtype), Text(one_line(layer.module)))
        for layer in manifest.layers
    ]
    show_table(console, ("layer", "type", "gives", "module"), cells)
