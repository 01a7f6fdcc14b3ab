"""The yardstick moves weights, and changes no meaning: masks and sizes stay what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from normexport.proof import compare
from normexport.runtime import OnnxRuntime
from normexport.runtime.baseline_weights import jitter_model, jitter_module

LARGEST = float(np.finfo(np.float32).max)


def model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[str, int, int, int] = ("N", 1, 4, 4),
    out: tuple[str, int, int, int] | None = None,
) -> ir.Model:
    value = onnx.helper.make_tensor_value_info
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    made = onnx.helper.make_graph(nodes, "g", [value("x", 1, shape)], [value("y", 1, out or shape)], tensors)
    opset = [onnx.helper.make_opsetid("", 17)]
    return ir.from_proto(onnx.helper.make_model(made, opset_imports=opset, ir_version=10))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("value", [-np.inf, np.inf, LARGEST, -LARGEST])
def test_masks_stay_in_onnx_and_in_torch(seed: int, value: float) -> None:
    mask = np.full((4, 4), value, np.float32)
    mask[0] = 1.5
    found = jitter_model(model([onnx.helper.make_node("Add", ["x", "m"], ["y"])], {"m": mask}), seed)
    moved = found.graph.initializers["m"].const_value.numpy()
    np.testing.assert_allclose(moved, mask, rtol=1e-7)  # infinities are equal, the largest number has not overflowed
    assert (moved[0] != 1.5).any(), "weights beside a mask are moved"
    module: Any = nn.Module()
    module.register_buffer("m", torch.from_numpy(mask))
    jitter_module(module, seed)
    assert not module.m.isnan().any()
    assert bool((module.m[0] != 1.5).any())


def test_a_causal_mask_of_infinities_passes_against_itself() -> None:
    mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    nodes = [
        onnx.helper.make_node("Add", ["x", "m"], ["masked"]),
        onnx.helper.make_node("Softmax", ["masked"], ["y"], axis=-1),
    ]
    found = model(nodes, {"m": mask})
    assert compare(found, found).passed


@pytest.mark.parametrize("seed", range(5))
def test_scales_of_a_resize_give_the_same_size(seed: int) -> None:
    nodes = [onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")]
    found = model(nodes, {"scales": np.array([1, 1, 2, 1.5], np.float32)}, out=("N", 1, 8, 6))
    y = OnnxRuntime(found, jitter=seed).run({"x": np.ones((2, 1, 4, 4), np.float32)})["y"]
    assert y.shape == (2, 1, 8, 6)
