"""What was read of a folder of samples, for people: how its images were prepared, what its classes are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from normexport.reports.layout import words_line
from normexport.text import shortened

if TYPE_CHECKING:
    from normexport.proof.inputs.folders import FolderRead

_CLASSES = 6  # shown; JSON has all


def show_data(console: Console, data: FolderRead | None) -> None:
    """Nothing for what is no folder."""
    if data is None:
        return
    words_line(console, f"data {data.path}: {data.words}")
    if data.classes:
        words_line(console, f"classes by folder: {classes_words(data.classes)}")
    if data.note:
        words_line(console, f"note: {data.note}")


def show_calibration_data(console: Console, known: Mapping[str, Any] | None) -> None:
    """The same of what calibrated, whose note is among the others; `known` is what its report holds."""
    if known is not None and known["images"] is not None:
        words_line(console, f"calibration data {known['path']}: {known['images']['words']}")


def classes_words(classes: Sequence[str]) -> str:
    """ "0 cat, 1 dog"."""
    return shortened([f"{number} {name}" for number, name in enumerate(classes)], _CLASSES)
