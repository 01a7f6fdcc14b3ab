"""The plots of docs/norm-matters.md, made of the results. Lines are medians over seeds, bands their range."""

from __future__ import annotations

import io
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from examples.norm_matters import networks, precision, runs, tables
from examples.norm_matters.tables import ARM_NAMES, Runs
from normexport.errors import MissingComponent
from normexport.io.atomic import replacing

#: Of arms and of the norms of figure (d); told apart in grey, too, by their line.
STYLES = ("-", "--", ":", "-.")


def draw_accuracy(done: Runs, path: Path) -> None:
    """(a): accuracy on the test images over the steps."""
    figure, (axes,) = _figure(1)
    for style, (arm, name) in zip(STYLES, ARM_NAMES.items(), strict=True):
        curves = np.array([result[arm]["accuracy"] for _, result in done])
        _band(axes, tables.decay_steps(done), curves, style, name)
    axes.set(xlabel="step", ylabel="accuracy on test images", ylim=(0.4, None))
    axes.legend(fontsize=8)
    _save(figure, path)


def draw_growth(done: Runs, path: Path) -> None:
    """(b): norm, effective step size and turn over the steps, medians over the layers."""
    figure, panels = _figure(3)
    words = {"norm": "||w||", "step_size": "effective step size", "turn": "turn of a step (rad)"}
    for axes, (quantity, word) in zip(panels, words.items(), strict=True):
        for style, (arm, name) in zip(STYLES, ARM_NAMES.items(), strict=True):
            curves = np.array([[statistics.median(layers) for layers in result[arm][quantity]] for _, result in done])
            _band(axes, tables.decay_steps(done)[: curves.shape[1]], curves, style, name)
        axes.set(xlabel="step", title=word, yscale="log")
    panels[0].legend(fontsize=7)
    _save(figure, path)


def draw_kinds(done: Runs, path: Path) -> None:
    """(c): accuracy of each variant at its best step size, a dot per seed."""
    figure, (axes,) = _figure(1)
    for row, variant in enumerate(networks.VARIANTS):
        chosen = tables.of(done, variant=variant, rate=tables.best_rate(done, variant))
        values = [result["test"] for _, result in chosen]
        axes.plot(values, [row] * len(values), "o", color="C0", alpha=0.6)
        axes.plot([statistics.median(values)] * 2, [row - 0.3, row + 0.3], color="C0")
    axes.set(xlabel="accuracy on test images", yticks=range(len(networks.VARIANTS)))
    axes.set_yticklabels(list(networks.VARIANTS))
    axes.invert_yaxis()
    _save(figure, path)


def draw_precision(done: Runs, path: Path) -> None:
    """(d): accuracy by the length of the weights, a panel per type."""
    types = list(dict.fromkeys(type_name for _, type_name, _ in precision.SETTINGS))
    figure, panels = _figure(len(types))
    for axes, wanted in zip(panels, types, strict=True):
        for norm, type_name, eps in precision.SETTINGS:
            if type_name == wanted:
                curves = np.array(
                    [
                        [
                            result["test"]
                            for _, result in tables.of(done, norm=norm, type=type_name, eps=eps, length=length)
                        ]
                        for length in precision.LENGTHS
                    ]
                ).T
                _band(axes, list(precision.LENGTHS), curves, "-" if "L1" in norm else "--", f"{norm}, eps {eps:g}")
        axes.set(xlabel="log2 of the weights' length", title=wanted, ylim=(0, 1))
        axes.legend(fontsize=7)
    _save(figure, path)


def draw_all(folder: Path) -> None:
    """Every plot, of the results that are kept, into a folder.

    Raises:
        MissingComponent: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw_accuracy(runs.read("decay"), folder / "accuracy.png")
    draw_growth(runs.read("decay"), folder / "growth.png")
    draw_kinds(runs.read("kinds"), folder / "kinds.png")
    draw_precision(runs.read("precision"), folder / "precision.png")


def _band(axes: Any, x: list[int], curves: np.ndarray[Any, Any], style: str, name: str) -> None:
    """curves (seeds, len(x))."""
    (line,) = axes.plot(x, np.median(curves, 0), style, label=name)
    axes.fill_between(x, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.15, linewidth=0)


def _figure(panels: int) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingComponent.of("matplotlib", "plot") from error
    figure = Figure(figsize=(3.6 * panels if panels > 1 else 6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _save(figure: Any, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90, metadata={"Software": None})
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
