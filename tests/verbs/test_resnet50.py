"""ResNet-50 with L1 norms: nothing of a norm is left, and the file is the one BatchNorm would have given."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest
import torch

import normexport
from normexport import nn as nxn
from normexport.engine import EngineConfig, build_engine
from normexport.io.onnx_model import open_onnx
from tests.models.resnet import randomise_statistics, resnet50

pytestmark = pytest.mark.slow

SIZE = 64


@pytest.fixture(scope="module")
def conversion(tmp_path_factory: pytest.TempPathFactory) -> normexport.Conversion:
    folder = tmp_path_factory.mktemp("resnet50")
    torch.manual_seed(0)
    model = randomise_statistics(resnet50(nxn.L1BatchNorm2d)).eval()
    torch.save(model.state_dict(), folder / "l1.pt")
    checkpoint = normexport.load(folder / "l1.pt", model=lambda: resnet50(nxn.L1BatchNorm2d))
    return normexport.convert(checkpoint, folder / "out", inputs=[f"3x{SIZE}x{SIZE}"])


def test_every_norm_is_folded_and_parity_holds(conversion: normexport.Conversion) -> None:
    assert Counter(outcome.fate for outcome in conversion.outcomes) == {"folded": 53}
    assert conversion.passed
    model = open_onnx(conversion.files[0])
    assert not {node.domain for node in model.graph} - {""}
    assert not model.functions


@pytest.fixture(scope="module")
def batchnorm() -> torch.onnx.ONNXProgram:
    """The same network with BatchNorm, exported by torch itself."""
    logging.getLogger("torch.onnx").setLevel(logging.CRITICAL)
    bare = torch.onnx.export(
        resnet50().eval(),
        (torch.zeros(2, 3, SIZE, SIZE),),
        dynamo=True,
        opset_version=20,
        verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert bare is not None
    return bare


def test_operator_counts_are_those_of_batchnorm_exported_by_torch(
    conversion: normexport.Conversion, batchnorm: torch.onnx.ONNXProgram
) -> None:
    ours = Counter(node.op_type for node in open_onnx(conversion.files[0]).graph)
    assert ours == Counter(node.op_type for node in batchnorm.model.graph)
    assert ours["Conv"] == 53


def test_the_engine_has_as_many_layers_as_that_of_batchnorm(
    conversion: normexport.Conversion, batchnorm: torch.onnx.ONNXProgram, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    batchnorm.save(tmp_path / "batchnorm.onnx", external_data=False)
    config = EngineConfig(targets=("sm89",))
    ours = build_engine(conversion.files[0], tmp_path / "ours.plan", config)
    theirs = build_engine(tmp_path / "batchnorm.onnx", tmp_path / "theirs.plan", config)
    assert len(ours.layers) == pytest.approx(len(theirs.layers), rel=0.02)
    assert ours.precision == theirs.precision == {"float32": 54}
