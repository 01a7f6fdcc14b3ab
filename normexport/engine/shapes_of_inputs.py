"""The profile of an engine from what is known of a network's inputs."""

from __future__ import annotations

from collections.abc import Sequence

from normexport.engine.shapes import DEFAULT_BATCH, Shape, ShapeRange
from normexport.errors import UsageError
from normexport.onnx_export import InputSpec


def shapes_over(inputs: Sequence[InputSpec]) -> ShapeRange:
    """Every input from the least of its open sizes over the usual ones to the most; batches of `DEFAULT_BATCH`.

    Raises:
        UsageError: a range has no end.
    """
    smallest: dict[str, Shape] = {}
    expected: dict[str, Shape] = {}
    largest: dict[str, Shape] = {}
    for spec in inputs:
        ends = {each.symbol: each.range.most for each in spec.open}
        endless = next((symbol for symbol, most in ends.items() if most is None), None)
        if endless is not None:
            remedy = f"give one: --input {endless}=32..512, or shapes with --maxShapes"
            raise UsageError(f"size {endless}", "has no end, and an engine's memory has", remedy)
        one, usual, most = (min(max(size, spec.batch.least), spec.batch.most or size) for size in DEFAULT_BATCH)
        smallest[spec.name] = spec.at({each.symbol: each.range.least for each in spec.open}).sized(one)
        expected[spec.name] = spec.sized(usual)
        largest[spec.name] = spec.at({symbol: end for symbol, end in ends.items() if end is not None}).sized(most)
    return ShapeRange(smallest, expected, largest)
