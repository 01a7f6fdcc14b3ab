"""An engine's profile from the ranges of a network's open sizes."""

from __future__ import annotations

import pytest

from normexport.engine.shapes_of_inputs import shapes_over
from normexport.errors import UsageError
from normexport.onnx_export import BatchRange, InputSpec, parse_inputs


def test_a_profile_goes_from_the_least_over_the_usual_to_the_most() -> None:
    (spec,) = specs = parse_inputs(["x=3xHxW", "H=32..512:8", "W=16..64"])
    shapes = shapes_over(specs)
    assert shapes.smallest == {"x": (1, 3, 32, 16)}
    assert shapes.expected == {"x": (8, *spec.shape)}
    assert shapes.largest == {"x": (32, 3, 512, 64)}


def test_a_batch_that_the_model_limits_stays_within_its_range() -> None:
    shapes = shapes_over([InputSpec("x", (3,), batch=BatchRange(2, 4))])
    assert [each["x"][0] for each in (shapes.smallest, shapes.expected, shapes.largest)] == [2, 4, 4]


def test_a_size_without_an_end_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"size T: has no end, .*--input T=32\.\.512"):
        shapes_over(parse_inputs(["ids=T:int64", "T=4.."]))
