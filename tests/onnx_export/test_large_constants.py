"""Constants that a program only describes are not computed to tidy its graph, however large they would be."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from torch import nn

from normexport.onnx_export.tidy import clean
from normexport.onnx_export.torch_export import onnx_of

COUNT = 10**7  # 80 MB as int64


class Offset(nn.Module):
    """Adds one element of a vector that takes a few bytes to describe."""

    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, x):
        return x + self.make()[5]


def graph_of(make):
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
def test_a_vector_larger_than_the_model_is_not_computed(make):
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


def test_a_small_one_is():
    model = graph_of(lambda: torch.arange(10) * 2.0)
    clean(model)
    assert [node.op_type for node in model.graph] == ["Add"]
