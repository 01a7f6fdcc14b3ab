"""Files without functions go through the quantisers of others, and come out right in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from torch import nn

import normexport
from normexport import ConvertConfig, norms
from normexport import nn as nxn
from tests.foreign import needs_modelopt, needs_nncf

pytestmark = pytest.mark.slow

SAMPLES = [np.random.default_rng(seed).standard_normal((1, 3, 16, 16)).astype(np.float32) for seed in range(20)]


def inlined(kind: str, folder: Path) -> Path:
    """Two convolutions, a live norm behind the first and one that folds behind the second."""
    live = getattr(nxn, f"{norms.KINDS[kind].title}InstanceNorm2d")(8, affine=True)
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    net = nn.Sequential(first, live, nn.ReLU(), second, nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 10))
    normexport.convert(net.eval(), folder, ["3x16x16"], ConvertConfig(inline=True))
    return folder / "model.onnx"


def output(path: Path) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray[Any, Any] = session.run(None, {session.get_inputs()[0].name: SAMPLES[0]})[0]
    return found


def check(before: Path, after: Path) -> None:
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(after).graph.node)
    exact, found = output(before), output(after)
    assert np.sum((found - exact) ** 2) < 0.03 * np.sum(exact**2)  # 15 dB; 23 to 39 were seen


@needs_nncf
@pytest.mark.parametrize("kind", list(norms.KINDS))
def test_nncf_quantises_them(kind: str, tmp_path: Path) -> None:
    import nncf

    path = inlined(kind, tmp_path / "out")
    model = onnx.load(path)
    data = nncf.Dataset(SAMPLES, lambda sample: {model.graph.input[0].name: sample})
    onnx.save(nncf.quantize(model, data, subset_size=len(SAMPLES)), tmp_path / "quantised.onnx")
    check(path, tmp_path / "quantised.onnx")


@needs_modelopt
@pytest.mark.parametrize("kind", list(norms.KINDS))
def test_modelopt_quantises_them(kind: str, tmp_path: Path) -> None:
    from modelopt.onnx.quantization import quantize

    path = inlined(kind, tmp_path / "out")
    data = {onnx.load(path).graph.input[0].name: np.concatenate(SAMPLES)}
    target = str(tmp_path / "quantised.onnx")
    quantize(str(path), calibration_data=data, output_path=target, calibration_eps=["cpu"], quantize_mode="int8")
    check(path, Path(target))
