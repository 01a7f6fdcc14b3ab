"""Networks whose norms are the original projects' own arithmetic, exported with nothing of ours in between."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from normexport.folding import FoldResult, fold
from tests.models.original import NaiveL1BatchNorm2d, NaiveMeanBN, NaiveScaleL1BatchNorm2d
from tests.models.resnet import RESNET50_ADDS, RESNET50_CONVS, randomise_statistics, resnet50, resnet_tiny
from tests.narrow import present

pytestmark = pytest.mark.slow

# The folded float32 network does the same roundings as the float32 network in PyTorch (fewer: the norms' own are
# gone, and the weights' one rounding is added), in another order. Their errors against float64 are therefore two
# draws from one distribution; over 1000 logits the ratio of their root mean squares stays within a small factor.
ERROR_RATIO = 3.0

TINY_CONVS, TINY_ADDS = 17, 4


def exported(model: torch.nn.Module, x: torch.Tensor) -> ir.Model:
    return present(torch.onnx.export(model, (x,), dynamo=True, opset_version=20, verbose=False)).model


def counts(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def on_onnxruntime(model: ir.Model, x: torch.Tensor) -> np.ndarray:
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def assert_as_exact_as_torch(folded: ir.Model, model: torch.nn.Module, x: torch.Tensor) -> None:
    """ONNX Runtime's float32 output errs from torch's float64 no more than torch's float32 does."""
    with torch.no_grad():
        exact = deepcopy(model).double()(x.double()).numpy()
        single = model(x).numpy()
    got = on_onnxruntime(folded, x)
    assert got.shape == exact.shape
    assert rms(single - exact) > 0
    assert rms(got - exact) <= ERROR_RATIO * rms(single - exact)


@pytest.fixture(scope="module")
def network() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = randomise_statistics(resnet50(NaiveL1BatchNorm2d), seed=1).eval()
    return model, torch.randn(2, 3, 64, 64)


@pytest.fixture(scope="module")
def naive(network: tuple[torch.nn.Module, torch.Tensor]) -> ir.Model:
    return exported(*network)


@pytest.fixture(scope="module")
def result(naive: ir.Model) -> FoldResult:
    return fold(naive)


@pytest.mark.xdist_group("resnet50_naive")  # one export serves all
class TestResNet50:
    def test_raw_export_has_four_nodes_per_norm(self, naive: ir.Model) -> None:
        before = counts(naive)
        assert before["Conv"] == RESNET50_CONVS
        assert before["Sub"] + before["Mul"] + before["Add"] - RESNET50_ADDS == 212

    def test_only_convolutions_and_residual_adds_are_left(self, naive: ir.Model, result: FoldResult) -> None:
        expected = counts(naive)
        del expected["Sub"], expected["Mul"]
        expected["Add"] = RESNET50_ADDS
        assert counts(result.model) == expected

    def test_every_norm_is_told_as_folded_into_its_own_convolution(self, result: FoldResult) -> None:
        assert len(result.norms) == RESNET50_CONVS
        assert {outcome.fate for outcome in result.norms} == {"folded"}
        by_path = {outcome.path: outcome for outcome in result.norms}
        assert len(by_path) == RESNET50_CONVS
        assert {"bn1", "layer1.0.bn1", "layer1.0.downsample.1", "layer4.2.bn3"} <= set(by_path)
        targets = [name for outcome in result.norms for name in outcome.into]
        assert sorted(targets) == sorted(present(n.name) for n in result.model.graph if n.op_type == "Conv")

    def test_folded_output_is_as_exact_as_torch(
        self, network: tuple[torch.nn.Module, torch.Tensor], result: FoldResult
    ) -> None:
        assert_as_exact_as_torch(result.model, *network)


@pytest.mark.parametrize(
    ("norm", "per_norm"), [(NaiveL1BatchNorm2d, 4), (NaiveScaleL1BatchNorm2d, 4), (NaiveMeanBN, 2)]
)
def test_each_original_layer_vanishes_from_a_small_resnet(norm: type[torch.nn.Module], per_norm: int) -> None:
    torch.manual_seed(0)
    model = randomise_statistics(resnet_tiny(norm), seed=2).eval()
    x = torch.randn(3, 3, 48, 48)
    raw = exported(model, x)
    arithmetic = sum(counts(raw)[op] for op in ("Sub", "Mul", "Div", "Add"))
    assert arithmetic == per_norm * TINY_CONVS + TINY_ADDS
    folded = fold(raw)
    after = counts(folded.model)
    assert [after[op] for op in ("Conv", "Sub", "Mul", "Div", "Add")] == [TINY_CONVS, 0, 0, 0, TINY_ADDS]
    assert_as_exact_as_torch(folded.model, model, x)
