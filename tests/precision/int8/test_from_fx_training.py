"""int8 on the integers of a network that torch.ao's FX mode prepared: it fuses and rounds without stubs in forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.ao.quantization.quantize_fx import prepare_qat_fx

import normexport
from normexport import ConvertConfig, Int8
from normexport.verdicts import Verdict
from tests.checkpoint.support import save
from tests.models.trained_integers import SHAPE, images, quietly, trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]


class Plain(nn.Module):
    """Conv, norm and ReLU, added to a second one of its input, and a Linear: nothing in it says int8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.side, self.pool, self.fc = nn.Conv2d(3, 6, 1), nn.MaxPool2d(2), nn.Linear(96, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.pool(self.relu(self.bn(self.conv(x))) + self.side(x))
        return self.fc(y.flatten(1))


def prepared() -> nn.Module:
    def make() -> Any:
        torch.manual_seed(0)
        mapping = quantization.get_default_qat_qconfig_mapping("qnnpack")
        return prepare_qat_fx(Plain().train(), mapping, (torch.zeros(1, *SHAPE),))

    net: nn.Module = quietly(make)
    return net


@pytest.mark.parametrize("way", ["module", "state"])
def test_the_file_computes_what_the_prepared_network_does(way: str, tmp_path: Path) -> None:
    net = trained(prepared())
    x = images()
    np.savez(tmp_path / "images.npz", x=x.numpy())
    source: Any = net
    if way == "state":
        source = normexport.load(save(tmp_path / "m.pt", net.state_dict()), model=prepared)
    config = ConvertConfig(precision=Int8(method="trained"), data=tmp_path / "images.npz")
    done = normexport.convert(source, tmp_path / "out", ["x=3x8x8"], config)
    assert done.judgement.verdict is Verdict.PASSED
    path = tmp_path / "out" / "model.onnx"
    layers = [node for node in onnx.load(path).graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    behind = {name: node.op_type for node in onnx.load(path).graph.node for name in node.output}
    assert [behind[node.input[1]] for node in layers] == ["DequantizeLinear"] * 3
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = net(x).numpy()
    returned: Any = net.get_submodule("activation_post_process_6")
    step = float(returned.scale)
    assert np.abs(y - expected).max() <= 1.01 * step
    assert (np.abs(y - expected) > step / 2).mean() < 0.02
