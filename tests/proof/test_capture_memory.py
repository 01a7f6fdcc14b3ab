"""How much of a model's inner values a comparison asks a runtime to hold at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import numpy as np
import pytest

from normexport.onnx_export import Layer
from normexport.proof import Batch, check
from normexport.runtime import Port
from normexport.runtime.base import Array, Feeds, Sink

VALUES = {f"v{i}": 1000 * (1 + i % 7) for i in range(60)}  # float32 numbers per sample
LAYERS = [Layer(f"layer{i}", 0, "Conv1d", f"v{i}") for i in range(60)]


class Counting:
    """A runtime of 60 inner values that keeps the most bytes which one run was asked to hold."""

    passive_capture = False
    inputs = (Port("x", "float32", (None, 3)),)
    input_names, output_names = ("x",), ("y",)
    dropped: Mapping[str, str] = {}

    def __init__(self, name: str, seen: list[int]) -> None:
        self.name, self._seen = name, seen

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        x = feeds["x"]
        values: dict[str, Array] = {
            name: np.full((len(x), VALUES[name]), 0.5, np.float32) for name in capture if name in VALUES
        }
        self._seen.append(sum(value.nbytes for value in values.values()))
        if sink is not None:
            for name, value in values.items():
                sink(name, value)
            values = {}
        return {"y": x[:, :2].astype(np.float32), **values}


@pytest.mark.parametrize("most", [100_000, 400_000])
def test_no_run_is_asked_for_more_than_the_limit(most: int) -> None:
    assert sum(VALUES.values()) * 4 > 2 * most
    seen: list[int] = []
    make = partial(Counting, "counting", seen)
    batches = [Batch("one", 1, {"x": np.random.default_rng(0).standard_normal((1, 3))})]
    report = check(make, make, make, batches, LAYERS, capture_bytes=most)
    assert [row.tensor for row in report.layers] == list(VALUES)
    assert max(seen) <= 1.25 * most  # a value may be larger than those before it
