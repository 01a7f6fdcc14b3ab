"""Placements of int8 as a table and as a picture."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from normexport.errors import UsageError
from normexport.precision import Precision
from normexport.precision.int8.placement import Placement, PlacementPoint
from normexport.reports.placement_plot import write_placement_plot
from normexport.reports.precision_table import show_precision

FOUND = Placement(
    "onnxruntime",
    16,
    (
        PlacementPoint((), 42.15, 0.1, True),
        PlacementPoint(("stem", "head"), 43.53, 0.0, True, 0.863, 0.852, 0.876),
        PlacementPoint(("a",), -math.inf, None, False, 1.2, 0.0, math.inf),
    ),
    1,
    1.59,
)


def test_the_table_says_what_was_tried_what_was_kept_and_what_float32_takes() -> None:
    screen = io.StringIO()
    show_precision(Console(file=screen, width=160), Precision("int8", placement=FOUND))
    lines = [" ".join(line.split()) for line in screen.getvalue().splitlines()]
    assert "int8 everywhere 42.1 dB 0.10" in lines
    assert "2 modules in float32 0.86 (0.85 to 0.88) 43.5 dB 0.00 kept" in lines
    assert any(line.startswith("1 module in float32") and line.endswith("beyond the limit") for line in lines)
    assert any("float32 takes 1.59 times as long" in line for line in lines)


def test_the_picture_has_every_placement_that_has_a_level(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'normexport[plot]'")
    write_placement_plot(FOUND, tmp_path / "found.svg")
    text = (tmp_path / "found.svg").read_text()
    assert "2 modules in float32, kept" in text
    assert "int8 everywhere" in text
    assert "1 module in float32" not in text.replace("2 modules in float32", "")
    with pytest.raises(UsageError, match="no format"):
        write_placement_plot(FOUND, tmp_path / "found.txt")


def test_the_placement_kept_says_what_is_in_float32() -> None:
    assert FOUND.excluded == ("stem", "head")
    assert json.dumps(FOUND.points[0].excluded) == "[]"
