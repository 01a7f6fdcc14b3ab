"""Shapes as trtexec writes them."""

from __future__ import annotations

import pytest

from normexport.engine import EngineConfig, ShapeRange, parse_shapes, ranges_of
from normexport.errors import UsageError


def test_names_and_sizes_are_read_as_trtexec_writes_them() -> None:
    assert parse_shapes("x:1x3x224x224,mask:1x128", "--minShapes") == {"x": (1, 3, 224, 224), "mask": (1, 128)}


def test_a_name_may_hold_colons_and_dots() -> None:
    assert parse_shapes("serving_default.x:0:8x16", "--optShapes") == {"serving_default.x:0": (8, 16)}


def test_the_options_make_a_range_for_each_time_that_they_are_given() -> None:
    assert ranges_of([], [], []) == (ShapeRange(),)
    assert ranges_of([], ["x:8"], []) == (ShapeRange(expected={"x": (8,)}),)
    first, second = ranges_of(["x:1", "x:4,y:1"], [], ["x:2", "x:8"])
    assert first == ShapeRange(smallest={"x": (1,)}, largest={"x": (2,)})
    assert second == ShapeRange(smallest={"x": (4,), "y": (1,)}, largest={"x": (8,)})
    with pytest.raises(UsageError, match="--minShapes 1, --maxShapes 2; give each option once for every profile"):
        ranges_of(["x:1"], [], ["x:2", "x:3"])


def test_a_config_of_no_range_is_refused() -> None:
    for shapes in ((), [{"x": (1, 3)}]):
        with pytest.raises(UsageError, match="is no range of shapes"):
            EngineConfig(shapes=shapes)  # type: ignore[arg-type]  # what the message is for


@pytest.mark.parametrize("text", ["", "x", "x:", "x:axb", "x:1x-3", "x:1,x:2", "x:1x2,", "1x3x224x224"])
def test_anything_else_is_a_usage_error_that_names_the_option(text: str) -> None:
    with pytest.raises(UsageError, match="--maxShapes"):
        parse_shapes(text, "--maxShapes")
