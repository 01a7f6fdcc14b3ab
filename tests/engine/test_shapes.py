"""Shapes as trtexec writes them."""

from __future__ import annotations

import pytest

from normexport.engine import parse_shapes
from normexport.errors import UsageError


def test_names_and_sizes_are_read_as_trtexec_writes_them() -> None:
    assert parse_shapes("x:1x3x224x224,mask:1x128", "--minShapes") == {"x": (1, 3, 224, 224), "mask": (1, 128)}


def test_a_name_may_hold_colons_and_dots() -> None:
    assert parse_shapes("serving_default.x:0:8x16", "--optShapes") == {"serving_default.x:0": (8, 16)}


@pytest.mark.parametrize("text", ["", "x", "x:", "x:axb", "x:1x-3", "x:1,x:2", "x:1x2,", "1x3x224x224"])
def test_anything_else_is_a_usage_error_that_names_the_option(text: str) -> None:
    with pytest.raises(UsageError, match="--maxShapes"):
        parse_shapes(text, "--maxShapes")
