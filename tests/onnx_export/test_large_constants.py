"""Constants that a program only describes are not computed to tidy its graph, however large they would be."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from normexport.onnx_export.tidy import clean
from normexport.onnx_export.torch_export import onnx_of

pytestmark = pytest.mark.slow

COUNT = 10**7  # 80 MB as int64


class Offset(nn.Module):
    """Adds one element of a vector that takes a few bytes to describe."""

    def __init__(self, make: Callable[..., Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.make()[5]


def graph_of(make: Callable[..., Any]) -> ir.Model:
    """The exported graph, as it is before it is tidied."""
    return onnx_of(torch.export.export(Offset(make).eval(), (torch.ones(2, 3),)), ["x"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(COUNT),
        lambda: torch.full((COUNT,), 2.0) + 1,
        lambda: torch.ones(5, 3).repeat(COUNT // 10, 1)[:, 0],
    ],
    ids=["range", "full", "repeat"],
)
def test_a_vector_larger_than_the_model_is_not_computed(make: Callable[..., Any]) -> None:
    clean(graph_of(lambda: torch.ones(10)))  # imports
    model = graph_of(make)
    tracemalloc.start()
    try:
        clean(model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < COUNT
    assert len(model.graph) > 1


def test_a_small_one_is() -> None:
    model = graph_of(lambda: torch.arange(10) * 2.0)
    clean(model)
    assert [node.op_type for node in model.graph] == ["Add"]


@pytest.mark.parametrize("count", [8, COUNT])
@pytest.mark.parametrize("op", ["Expand", "Tile", "ConstantOfShape", "Range"])
def test_a_result_whose_shape_the_graph_does_not_tell_is_computed_where_it_is_small(op: str, count: int) -> None:
    numbers = {
        "Expand": [np.ones(1, np.float32), np.array([count])],
        "Tile": [np.ones(1, np.float32), np.array([count])],
        "ConstantOfShape": [np.array([count])],
        "Range": [np.array(0), np.array(count), np.array(1)],
    }[op]
    constants = [ir.node("Constant", [], {"value": ir.tensor(each)}) for each in numbers]
    grown = ir.node(op, [each.outputs[0] for each in constants])
    model = ir.Model(ir.Graph([], grown.outputs, nodes=[*constants, grown], opset_imports={"": 20}), ir_version=10)
    model.graph.name, model.graph.outputs[0].name = "g", "y"
    tracemalloc.start()
    try:
        clean(model)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < COUNT
    assert [node.op_type for node in model.graph] == ([] if count == 8 and op != "Range" else [op])
