"""The networks that these norms and quantised layers were published with, in their projects' layouts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

import normexport
import normexport.nn as nxnn
from normexport.verdicts import Verdict
from tests.checkpoint import layouts
from tests.checkpoint.own_norms import Counting, Inheriting, OwnMax
from tests.models import authors, quantised
from tests.models.authors import NETWORKS

_LAYOUTS: Any = layouts.NORMS
#: Every norm: the projects' layouts, torch's, ours, running and live, and such as people write.
NORMS: dict[str, Any] = {
    **{f"{row[0].__name__}{i}": partial(row[0], **row[1]) for i, row in enumerate(_LAYOUTS)},
    "torch": nn.BatchNorm2d,
    **{name: getattr(nxnn, name) for name in ("L1BatchNorm2d", "LinfBatchNorm2d", "TopKBatchNorm2d")},
    "RangeBatchNorm2d": nxnn.RangeBatchNorm2d,
    "live": nxnn.L1InstanceNorm2d,
    "none": lambda _: nn.Identity(),
    **{own.__name__: own for own in (Counting, OwnMax, Inheriting)},
}
#: Pairs of quantised layers: convolution, norm, Linear.
QUANTISED: dict[str, Any] = {
    "newer": (quantised.RangeQConv2d, quantised.RangeBN, quantised.RangeQLinear),
    "older": (quantised.MinMaxQConv2d, quantised.OlderRangeBN, quantised.MinMaxQLinear),
    "newer with float norms": (quantised.RangeQConv2d, nn.BatchNorm2d, quantised.RangeQLinear),
    "older with L1 norms": (quantised.MinMaxQConv2d, layouts.MeanBnL1, quantised.MinMaxQLinear),
}


def _each_norm() -> Iterator[Any]:
    """Every norm in two networks, every network with several norms: the product takes minutes and shows no more."""
    names = list(NETWORKS)
    for index, norm in enumerate(NORMS):
        first, second = index % 7, (index * 3 + 4) % 7
        for number in (first, second if second != first else (first + 1) % 7):
            yield pytest.param(names[number], norm, id=f"{names[number]}-{norm}")


def saved(tmp_path: Path, net: nn.Module) -> Path:
    torch.save(net, tmp_path / "m.pt")
    return tmp_path / "m.pt"


def run_onnx(file: Path, x: torch.Tensor) -> Any:
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.float().numpy()})[0]


X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "norm"), _each_norm())
def test_a_published_network_converts_with_every_norm(tmp_path: Path, network: str, norm: str) -> None:
    torch.manual_seed(2)
    net = authors.trained(NETWORKS[network](nn.Conv2d, NORMS[norm], nn.Linear))
    bare = copy.deepcopy(net).double()
    for module in bare.modules():  # what is random or rounds parameters in these layouts is left out, and said below
        if "quantize_input" in module._modules:
            module._modules["quantize_input"], module.rounded = nn.Identity(), lambda v: v  # type: ignore[assignment]  # a method
    quantises = any("quantize_input" in module._modules for module in net.modules())
    checkpoint = normexport.load(saved(tmp_path, net), trust=True, unquantised=quantises)
    conversion = normexport.convert(checkpoint, tmp_path / "out", ["3x12x12"])
    assert conversion.judgement.verdict is (Verdict.INCONCLUSIVE if quantises else Verdict.PASSED)
    with torch.no_grad():
        expected = bare(X.clone()).numpy()
    got = run_onnx(tmp_path / "out" / "model.onnx", X)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("project", QUANTISED)
def test_a_published_quantised_network_keeps_its_grids_or_is_never_passed(
    tmp_path: Path, network: str, project: str
) -> None:
    torch.manual_seed(1)
    net = authors.trained(NETWORKS[network](*QUANTISED[project]))
    checkpoint = normexport.load(saved(tmp_path, net), trust=True)
    assert not any("left out" in note or "own forward" in note for note in checkpoint.notes)
    normexport.export(checkpoint, ["3x12x12"], tmp_path / "m.onnx")
    operators = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    observers = sum("running_range" in m._buffers or "running_max" in m._buffers for m in net.modules())
    assert operators.count("QuantizeLinear") == observers > 0
    conversion = normexport.convert(checkpoint, tmp_path / "out", ["3x12x12"])
    assert conversion.judgement.verdict is not Verdict.FAILED  # a number at a half of a step is no error
    got, exact = run_onnx(tmp_path / "out" / "model.onnx", X), _noiseless(net)
    off = np.median(np.abs(got - exact)) / np.abs(exact).max()
    substituted = [reason for reason in conversion.judgement.reasons if "layers of ours" in reason]
    if network == "densenet" and project == "newer":  # rounds in place what others read
        assert conversion.judgement.verdict is Verdict.INCONCLUSIVE
        assert len(substituted) == 1
    else:
        # Numbers at a half go either way and move others by a step of theirs (4e-3); left out, the grids cost 5e-3.
        assert off < 2e-3
        assert not substituted


def _noiseless(net: nn.Module) -> Any:
    plain = quantised.rounded
    try:
        quantised.rounded = lambda *a, at_random=False, **options: plain(*a, **options)
        with torch.no_grad():
            return copy.deepcopy(net).double()(X.clone()).numpy()
    finally:
        quantised.rounded = plain
