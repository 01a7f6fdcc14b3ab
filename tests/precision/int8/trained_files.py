"""int8 files of networks that trained with fake quantisation, and what stands in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import normexport
from normexport import ConvertConfig, Int8
from tests.checkpoint.support import save
from tests.models.trained_integers import FULL, prepared

TRAINED = Int8(method="trained")


def int8_of(
    net: Any, folder: Path, data: Path | None, backend: str = FULL, **options: Any
) -> tuple[Any, onnx.ModelProto]:
    """What converting its state_dict gives, with a factory that prepares the network anew."""
    config = ConvertConfig(precision=Int8(method="trained", **options), data=data)
    file = save(folder / "m.pt", net.state_dict())
    checkpoint = normexport.load(file, model=lambda: prepared(backend))
    conversion = normexport.convert(checkpoint, folder / "out", ["x=3x8x8"], config)
    model = onnx.load(folder / "out" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    return conversion, model


class Graph:
    """An int8 file by what its nodes read: the grids in front of layers."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self.made = {name: node for node in model.graph.node for name in node.output}
        self.nodes = list(model.graph.node)

    def layers(self) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in ("Conv", "Gemm", "MatMul")]

    def weight(self, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Integers, scale and zero point."""
        behind = self.made[node.input[1]]
        assert behind.op_type == "DequantizeLinear"
        whole, scale, zero = (self.arrays[name] for name in behind.input)
        return whole, scale, zero

    def grids(self) -> list[tuple[float, int]]:
        """(scale, zero point) of every tensor that is rounded, in order, each once."""
        pairs = [node for node in self.nodes if node.op_type == "QuantizeLinear"]
        found = [(float(self.arrays[node.input[1]]), int(self.arrays[node.input[2]])) for node in pairs]
        return list(dict.fromkeys(found))
