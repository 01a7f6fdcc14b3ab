"""Checkpoints of every dialect go on training in our modules: the same evaluation, statistics that move as theirs."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import normexport.nn as nxn
from normexport.checkpoint import DIALECTS
from normexport.errors import CheckpointError, UsageError
from normexport.train import load_trainable
from normexport.train.conventions import CONVENTIONS
from tests.checkpoint import layouts
from tests.checkpoint.layouts import Net, trained
from tests.checkpoint.support import own_forward, save
from tests.models import original

AUTHORS, RECIPROCALS = 0.9, "an average of reciprocals"  # 1 - 0.1, what they keep of the old value

#: Layout, our norm of the same formula, dialect, PyTorch's momentum, whether the average is one of reciprocals.
CASES: list[tuple[Any, dict[str, Any], Any, str, float, str]] = [
    (layouts.LpNormL1, {}, lambda: nxn.L1BatchNorm2d(6), "lp-norm", AUTHORS, RECIPROCALS),
    (
        layouts.LpNormL1, {"normalized": False}, lambda: nxn.L1BatchNorm2d(6, correction=1.0), "lp-norm", AUTHORS,
        RECIPROCALS,
    ),
    (layouts.LpNorm, {"p": 2}, lambda: nxn.L2BatchNorm2d(6), "lp-norm", AUTHORS, RECIPROCALS),
    (layouts.LpNormTopk, {"k": 1}, lambda: nxn.LinfBatchNorm2d(6), "lp-norm", AUTHORS, RECIPROCALS),
    (layouts.LpNormTopk, {"k": 10}, lambda: nxn.TopKBatchNorm2d(6), "lp-norm", AUTHORS, RECIPROCALS),
    (layouts.MeanBnL1, {}, lambda: nxn.L1BatchNorm2d(6, eps=0.0), "mean-bn-l1", AUTHORS, ""),
    (layouts.ConvNetL1, {}, lambda: nxn.L1BatchNorm2d(6), "convnet-lp", AUTHORS, RECIPROCALS),
    (layouts.ConvNetTopk, {}, lambda: nxn.TopKBatchNorm2d(6), "convnet-lp", AUTHORS, RECIPROCALS),
    (layouts.ConvNetRangeBN, {}, lambda: nxn.RangeBatchNorm2d(6), "range-convnet", AUTHORS, ""),
    (layouts.QuantizedRangeBN, {}, lambda: nxn.RangeBatchNorm2d(6), "range-quantized", AUTHORS, RECIPROCALS),
    (layouts.Elektronn3L1, {}, lambda: nxn.L1BatchNorm2d(6), "elektronn3", 0.1, ""),
    (layouts.RunningMad, {}, lambda: nxn.L1BatchNorm2d(6), "running-mad", 0.1, ""),
    (layouts.RunningMaxdev, {}, lambda: nxn.LinfBatchNorm2d(6), "running-maxdev", 0.1, ""),
]  # fmt: skip
IDS = [f"{cls.__name__}{options or ''}" for cls, options, *_ in CASES]


@pytest.mark.parametrize(("cls", "options", "make", "dialect", "momentum", "averaged"), CASES, ids=IDS)
def test_a_checkpoint_goes_on_in_our_module(
    cls: Any, options: dict[str, Any], make: Any, dialect: str, momentum: float, averaged: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    theirs: Any = Net(trained(cls(6, **options)))
    with torch.no_grad():
        for parameter in (theirs.bn.weight, theirs.bn.bias) if hasattr(theirs.bn, "weight") else ():
            parameter.mul_(2)
    file = save(tmp_path / "m.pt", {"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}})
    if "quantize_input" in theirs.bn._modules:  # of which the record says that it is left out
        theirs.bn.quantize_input, theirs.bn.rounded = nn.Identity(), lambda v: v
    ours: Any = Net(make())
    done = load_trainable(file, ours, dialect=dialect)
    (norm,) = done.norms
    assert (norm.path, norm.dialect) == ("bn", dialect)
    assert norm.momentum == ours.bn.momentum == pytest.approx(momentum)
    assert any("reciprocals" in words for words in norm.lost) == bool(averaged)
    # Evaluation: in float64 arithmetic on the float32 numbers of either.
    x = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1)) + 0.3
    with torch.no_grad():
        assert_near(copy.deepcopy(ours).eval().double()(x.double()), own_forward(theirs, x), 2e-6)
    # One step in training: the same output, and statistics that move as theirs.
    old = mean_and_divisor(theirs)
    theirs, ours = theirs.train().double(), ours.train().double()
    with torch.no_grad():
        batch = ours.conv(x.double()).transpose(0, 1).reshape(6, -1)
        assert_near(ours(x.double()), theirs(x.double()), 2e-5)
    new = mean_and_divisor(theirs)
    np.testing.assert_allclose(ours.bn.running_mean.numpy(), new[0], rtol=1e-6, atol=1e-6)
    divisor = ours.bn.running_scale.numpy() + ours.bn.eps
    if ours.bn.kind in ("l1", "linf") and dialect.startswith("running"):  # theirs has a factor, which is in our weight
        divisor = divisor / theirs.bn.scale.numpy()
    if not averaged:
        np.testing.assert_allclose(divisor, new[1], rtol=1e-5)
    else:  # the plain average of the divisors; theirs is the harmonic one
        observed = theirs.bn.denominator(batch - batch.mean(1, keepdim=True)).numpy()
        np.testing.assert_allclose(divisor, (1 - momentum) * old[1] + momentum * observed, rtol=3e-5)


def mean_and_divisor(net: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the original's evaluation takes off and divides by, float64."""
    bn = net.bn
    multiplier = bn.multiplier(getattr(bn, bn.stat_key).double())
    return bn.running_mean.double().numpy().copy(), (1 / multiplier).numpy().copy()


def assert_near(got: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=share * float(expected.abs().max()))


def test_a_ghost_average_is_named_and_evaluates_the_same() -> None:
    theirs: Any = Net(trained(layouts.GhostTopk(6)))
    ours: Any = Net(nxn.TopKBatchNorm2d(6))
    (norm,) = load_trainable(theirs.state_dict(), ours).norms
    assert norm.dialect == "ghost-topk"
    assert "meanTOPK" in norm.lost[1]
    x = torch.randn(4, 3, 7, 7)
    with torch.no_grad():
        assert_near(ours.eval().double()(x.double()), own_forward(theirs, x), 2e-6)


def test_every_dialect_that_divides_says_how_it_trained() -> None:
    divides = {name for name, dialect in DIALECTS.items() if dialect.kind != "mean"}
    assert set(CONVENTIONS) == divides


def test_the_authors_layers_evaluate_the_same() -> None:
    torch.manual_seed(0)
    for layer, dialect, options in (
        (original.NaiveL1BatchNorm2d(4), "lp-norm", {}),
        (original.NaiveScaleL1BatchNorm2d(4), "mean-bn-l1", {"eps": 0.0}),
    ):
        with torch.no_grad():
            for value in layer.state_dict().values():
                value.copy_(torch.rand(4) + 0.2)
        ours = nxn.L1BatchNorm2d(4, **options)  # type: ignore[arg-type]  # floats
        assert load_trainable({"": 0} | dict(layer.state_dict()), ours, dialect=dialect).norms[0].path == ""
        x = torch.randn(3, 4, 5, 5)
        torch.testing.assert_close(ours.eval()(x), layer(x), rtol=1e-5, atol=1e-5)


def test_batch_norm_goes_on_as_l2_and_keeps_its_momentum() -> None:
    theirs: Any = Net(trained(nn.BatchNorm2d(6)))
    ours: Any = Net(nxn.L2BatchNorm2d(6, momentum=0.3))
    (norm,) = load_trainable(theirs.state_dict(), ours).norms
    assert (norm.dialect, norm.momentum, ours.bn.momentum) == ("batchnorm", 0.3, 0.3)
    assert "variance" in norm.lost[0]
    assert ours.bn.num_batches_tracked == 3
    x = torch.randn(4, 3, 7, 7)
    torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_our_own_files_load_as_ever() -> None:
    theirs: Any = Net(trained(nxn.TopKBatchNorm2d(6)))
    ours: Any = Net(nxn.TopKBatchNorm2d(6))
    done = load_trainable(theirs.state_dict(), ours)
    assert [(each.dialect, each.momentum, each.lost) for each in done.norms] == [("normexport", 0.1, ())]
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name])


def test_a_running_norm_of_ours_becomes_one_that_trains() -> None:
    theirs: Any = Net(trained(layouts.MeanBnL1(6)))
    dialect = DIALECTS["mean-bn-l1"]
    arrays = {key: value.double().numpy() for key, value in theirs.bn.state_dict().items()}
    running: Any = Net(nxn.RunningNorm(dialect.decode(arrays, 0.0), "l1"))
    running.conv.load_state_dict(theirs.conv.state_dict())
    ours: Any = Net(nxn.L1BatchNorm2d(6))
    (norm,) = load_trainable(running.state_dict(), ours).norms
    assert norm.dialect == "normexport-running"
    assert "no layer that trains" in norm.lost[0]
    x = torch.randn(4, 3, 7, 7)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-4)


def test_momentum_is_converted_from_what_the_layers_were_built_with() -> None:
    theirs: Any = Net(trained(layouts.LpNormL1(6, momentum=0.4)))
    ours: Any = Net(nxn.L1BatchNorm2d(6))
    assert load_trainable(theirs.state_dict(), ours, momentum=0.4).norms[0].momentum == pytest.approx(0.6)
    with pytest.raises(UsageError, match="momentum = 4 is no share"):
        load_trainable(theirs.state_dict(), ours, momentum=4)


def test_an_epsilon_that_was_not_there_is_told() -> None:
    theirs: Any = Net(trained(layouts.MeanBnL1(6)))
    assert "without an epsilon" in load_trainable(theirs.state_dict(), Net(nxn.L1BatchNorm2d(6))).norms[0].lost[0]
    assert load_trainable(theirs.state_dict(), Net(nxn.L1BatchNorm2d(6, eps=0.0))).norms[0].lost == ()


def test_constants_of_other_projects_are_set() -> None:
    ours: Any = Net(nxn.L1BatchNorm2d(6))
    load_trainable(Net(trained(layouts.Elektronn3L1(6))).state_dict(), ours)
    assert ours.bn.correction == math.sqrt(3.1416 / 2)


def broken(**changes: Any) -> dict[str, Any]:
    state = dict(Net(trained(layouts.LpNormL1(6))).state_dict())
    return state | {f"bn.{key}": torch.full((6,), float(value)) for key, value in changes.items()}


REFUSED: dict[str, tuple[Any, Any, str | None, str]] = {
    "another kind": (
        lambda: Net(trained(layouts.Elektronn3L1(6))).state_dict(), lambda: nxn.LinfBatchNorm2d(6), None,
        "bn: was trained as kind 'l1', the model's LinfBatchNorm2d is of kind 'linf'",
    ),
    "another kind of ours": (
        lambda: Net(trained(nxn.L1BatchNorm2d(6))).state_dict(), lambda: nxn.L2BatchNorm2d(6), None, "kind 'l1'",
    ),
    "no division": (
        lambda: Net(trained(layouts.MeanBN(6))).state_dict(), lambda: nxn.L1BatchNorm2d(6), None, "divides by nothing",
    ),
    "ambiguous": (
        lambda: dict(Net(trained(layouts.ConvNetL1(6))).state_dict()), lambda: nxn.L1BatchNorm2d(6), None, "--dialect",
    ),
    "another dialect": (lambda: broken(), lambda: nxn.L1BatchNorm2d(6), "elektronn3", "contradicts its keys"),
    "never trained": (lambda: broken(running_var=0), lambda: nxn.L1BatchNorm2d(6), None, "it was never trained"),
    "not a number": (lambda: broken(running_var=math.nan), lambda: nxn.L1BatchNorm2d(6), None, "bn"),
    "torch's norm": (lambda: broken(), lambda: nn.BatchNorm2d(6), None, "the model has torch's BatchNorm"),
    "other channels": (lambda: broken(), lambda: nxn.L1BatchNorm2d(5), None, "6"),
    "no affine": (lambda: broken(scale=2), lambda: nxn.L1BatchNorm2d(6, affine=False), None, "has a weight"),
    "no norm": (lambda: broken(), lambda: nn.Identity(), None, "which the model lacks"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_on_is_refused_and_the_model_stays(name: str) -> None:
    state, make, dialect, cause = REFUSED[name]
    model: Any = Net(make())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError, match=cause) as caught:
        load_trainable(state(), model, dialect=dialect)
    assert "\n" not in str(caught.value)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert getattr(model.bn, "momentum", 0.1) == 0.1
