"""The hazards of stored norms: silent misloads, untrained and damaged statistics, and what the records say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import normexport.nn as nxnn
from normexport.checkpoint import load
from tests.checkpoint import layouts
from tests.checkpoint.layouts import Net, trained
from tests.checkpoint.support import (
    IMAGES,
    assert_same,
    batch_norm_net,
    forward,
    l1_net,
    only_norm,
    own_forward,
    refused,
    save,
)

NAN = float("nan")


def real_batch_norm(seed: int = 0) -> Net:
    net = batch_norm_net().train()
    with torch.no_grad():
        for _ in range(3):
            net(IMAGES * 2 + 1)
        nn.init.normal_(net.bn.weight, generator=torch.Generator().manual_seed(seed))
    return net.eval()


def test_silent_misload_into_batch_norm_is_refused(tmp_path: Path) -> None:
    """Hazard 1: PyTorch itself says "all keys matched" and then reads 1/d as a variance."""
    net = Net(trained(layouts.ConvNetL1(6)))
    misled = batch_norm_net()
    assert str(misled.load_state_dict(net.state_dict())) == "<All keys matched successfully>"
    wrong = (own_forward(misled) - own_forward(net)).abs().max()
    assert wrong > 0.3 * own_forward(net).abs().max()
    message = refused(save(tmp_path / "m.pt", net.state_dict()), model=batch_norm_net)
    assert message.startswith("bn: running_var may be a variance (batchnorm) or the average of 1/d (convnet-lp")
    assert message.endswith("pass --dialect batchnorm|convnet-lp|own-divisor|range-quantized|range-convnet")


@pytest.mark.parametrize("keep_metadata", [True, False])
def test_named_dialect_replaces_the_batch_norm_of_the_factory(tmp_path: Path, keep_metadata: bool) -> None:
    net = Net(trained(layouts.ConvNetL1(6)))
    state = net.state_dict() if keep_metadata else dict(net.state_dict())
    checkpoint = load(save(tmp_path / "m.pt", state), model=batch_norm_net, dialect="convnet-lp")
    assert isinstance(checkpoint.model.bn, nxnn.RunningNorm)
    assert only_norm(checkpoint).dialect == "convnet-lp"
    assert_same(forward(checkpoint.model), own_forward(net))


def test_batch_norm_from_before_0_4_1_loads_when_it_is_named(tmp_path: Path) -> None:
    net = real_batch_norm()
    state = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    file = save(tmp_path / "m.pt", state)
    assert "--dialect batchnorm" in refused(file, model=batch_norm_net)
    checkpoint = load(file, model=batch_norm_net, dialect="batchnorm")
    assert isinstance(checkpoint.model.bn, nn.BatchNorm2d)
    assert (only_norm(checkpoint).kind, only_norm(checkpoint).dialect) == ("batchnorm", "batchnorm")
    assert_same(forward(checkpoint.model), own_forward(net))


def test_module_version_alone_proves_batch_norm(tmp_path: Path) -> None:
    """Version 2 of `_metadata` is real BatchNorm; it survives weights_only."""
    state: Any = real_batch_norm().state_dict()
    del state["bn.num_batches_tracked"]
    assert state._metadata["bn"]["version"] == 2
    checkpoint = load(save(tmp_path / "m.pt", state), model=batch_norm_net)
    assert only_norm(checkpoint).dialect == "batchnorm"


def test_real_batch_norm_is_kept_and_recorded(tmp_path: Path) -> None:
    net = real_batch_norm()
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=batch_norm_net)
    assert isinstance(checkpoint.model.bn, nn.BatchNorm2d)
    assert only_norm(checkpoint).health == ()
    assert_same(forward(checkpoint.model), own_forward(net))


def test_dialect_does_not_reach_proven_batch_norms_beside_it(tmp_path: Path) -> None:
    """A network with both: the old layer is read as named, the BatchNorm with its counter stays one."""

    def both(first: type[nn.Module]) -> Callable[..., Any]:
        return lambda: nn.Sequential(nn.Conv2d(3, 6, 3), first(6), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6))

    net = both(layouts.ConvNetL1)()
    trained(net[1])
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=both(nn.BatchNorm2d), dialect="convnet-lp")
    assert [record.dialect for record in checkpoint.norms] == ["convnet-lp", "batchnorm"]
    assert_same(forward(checkpoint.model), own_forward(net))


def test_untrained_lp_norm_gives_its_bias_and_says_so(tmp_path: Path) -> None:
    """Hazard 4: a multiplier of zero leaves beta."""
    net = Net(layouts.LpNormL1(6))
    nn.init.normal_(net.bn.mean)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: Net(layouts.LpNormL1(6)))
    assert only_norm(checkpoint).health == ("running statistics were never updated",)
    expected = torch.relu(net.bn.mean.detach().double()).reshape(1, 6, 1, 1).expand(4, 6, 5, 5)
    assert_same(forward(checkpoint.model), expected)


def test_untrained_mean_bn_is_refused_because_it_divides_by_zero(tmp_path: Path) -> None:
    """Hazard 4: the original's evaluation is Inf."""
    net = Net(layouts.MeanBnL1(6))
    assert not torch.isfinite(net.bn.eval()(torch.ones(1, 6, 2, 2))).any()
    message = refused(save(tmp_path / "m.pt", net.state_dict()), model=lambda: Net(layouts.MeanBnL1(6)))
    assert message == (
        "bn: the running statistics were never updated and 1/statistic is not finite in all 6 channels; "
        "train it, or re-estimate its running statistics"
    )


def test_constant_channel_of_mean_bn_is_refused_by_channel(tmp_path: Path) -> None:
    """Hazard 4: 0/0 in training leaves a zero scale, and NaN ever after."""
    net = Net(trained(layouts.MeanBnL1(6)))
    net.bn.running_scale[4] = 0
    message = refused(save(tmp_path / "m.pt", net.state_dict()), model=l1_net)
    assert message.startswith("bn: running_scale is zero or negative and 1/statistic is not finite in channel 4")


def test_k_beyond_the_elements_is_no_concern_of_running_statistics(tmp_path: Path) -> None:
    """Hazard 4: k > N*H*W raises in training; an evaluated checkpoint needs no k."""
    net = Net(trained(layouts.LpNormTopk(6, k=10)))
    with pytest.raises(RuntimeError):
        net.train()(torch.randn(1, 3, 4, 4))
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: Net(layouts.LpNormTopk(6, k=10)))
    assert_same(forward(checkpoint.model, IMAGES[:1, :, :3, :3]), own_forward(net.eval(), IMAGES[:1, :, :3, :3]))


@pytest.mark.parametrize("key", ["running_mean", "running_var", "weight"])
@pytest.mark.parametrize("factory", [None, batch_norm_net])
def test_nan_in_a_norm_names_path_key_and_channels(
    tmp_path: Path, key: str, factory: Callable[..., Any] | None
) -> None:
    state = real_batch_norm().state_dict()
    state[f"bn.{key}"][[1, 5]] = NAN
    message = refused(save(tmp_path / "m.pt", state), model=factory)
    assert message.startswith(f"bn: {key} is NaN in channels 1, 5; take a checkpoint from before")


def test_nan_after_one_element_per_channel_is_refused(tmp_path: Path) -> None:
    """Hazard 4: C(1) divides by ln 1 = 0, so n = 1 trains NaN into the running statistics."""
    norm: Any = layouts.LpNormTopk(6, k=1)
    norm.running_var.copy_(torch.tensor(0.0 / np.float64("nan"), dtype=torch.float32).expand(6))
    assert "running_var is NaN" in refused(save(tmp_path / "m.pt", norm.state_dict()))


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_nan_and_inf_in_weights_are_refused(tmp_path: Path, value: float) -> None:
    state = real_batch_norm().state_dict()
    state["conv.weight"][0, 0, 0, 0] = value
    word = "NaN" if value != value else "infinite"
    message = refused(save(tmp_path / "m.pt", state), model=batch_norm_net)
    assert message.startswith(f"conv.weight: is {word} in 1 of 162 elements")


def test_an_attention_mask_of_minus_infinity_is_no_fault(tmp_path: Path) -> None:
    class Masked(nn.Module):
        mask: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.bn(x) + self.mask, -1)

    assert load(save(tmp_path / "m.pt", Masked().state_dict()), model=Masked).norms[0].path == "bn"


def _health(tmp_path: Path, net: Net, **values: Any) -> tuple[str, ...]:
    state = net.state_dict()
    for key, (index, value) in values.items():
        state[f"bn.{key}"][index] = value
    return only_norm(load(save(tmp_path / "m.pt", state))).health


def test_dead_channel_is_named(tmp_path: Path) -> None:
    net = l1_net()
    net.train()(IMAGES)
    assert _health(tmp_path, net, running_scale=([2, 3], 0.0)) == (
        "channels 2, 3: running_scale is zero (dead: the input was constant in training)",
    )


def test_negative_variance_is_named(tmp_path: Path) -> None:
    assert _health(tmp_path, real_batch_norm(), running_var=(1, -1e-6)) == ("channel 1: negative variance",)


def test_huge_multiplier_is_named(tmp_path: Path) -> None:
    """1/(1e-6 + 1e-5) is 9.1e4."""
    net = l1_net()
    net.train()(IMAGES)
    assert _health(tmp_path, net, running_scale=(0, 1e-6)) == ("channel 0: 1/statistic is over 1e+04 (up to 9.1e+04)",)


def test_zero_gamma_is_named(tmp_path: Path) -> None:
    assert _health(tmp_path, real_batch_norm(), weight=(slice(None), 0.0)) == (
        "all 6 channels: gamma is zero, so only the bias is left",
    )


@pytest.mark.parametrize("make", [batch_norm_net, l1_net])
def test_statistics_that_never_moved_are_named(tmp_path: Path, make: Callable[..., Any]) -> None:
    checkpoint = load(save(tmp_path / "m.pt", make().state_dict()), model=make)
    assert only_norm(checkpoint).health == ("running statistics were never updated",)


@pytest.mark.parametrize(
    ("norm", "kind", "statistics"),
    [
        (lambda: nxnn.TopKBatchNorm2d(6, track_running_stats=False), "topk", "batch"),
        (lambda: nxnn.RangeInstanceNorm2d(6), "range", "instance"),
        (lambda: nn.BatchNorm2d(6, track_running_stats=False), "batchnorm", "batch"),
        (lambda: nxnn.LinfBatchNorm2d(6), "linf", "running"),
    ],
)
def test_records_tell_running_from_live_statistics(
    tmp_path: Path, norm: Callable[..., Any], kind: str, statistics: str
) -> None:
    checkpoint = load(save(tmp_path / "m.pt", Net(norm()).state_dict()), model=lambda: Net(norm()))
    record = only_norm(checkpoint)
    assert (record.kind, record.statistics, record.channels) == (kind, statistics, 6)


def test_our_own_norm_is_kept_and_its_kind_and_eps_come_from_the_file(tmp_path: Path) -> None:
    net = Net(nxnn.TopKBatchNorm2d(6, eps=0.5, k=3))
    net.train()(IMAGES)
    file = save(tmp_path / "m.pt", net.state_dict())
    assert (only_norm(load(file)).kind, only_norm(load(file)).dialect) == ("topk", "normexport")
    checkpoint = load(file, model=lambda: Net(nxnn.TopKBatchNorm2d(6, eps=0.5, k=3)))
    assert isinstance(checkpoint.model.bn, nxnn.TopKBatchNorm2d)
    assert_same(forward(checkpoint.model), own_forward(net))


def test_statistics_of_one_kind_do_not_load_into_another(tmp_path: Path) -> None:
    net = Net(nxnn.TopKBatchNorm2d(6))
    message = refused(save(tmp_path / "m.pt", net.state_dict()), model=l1_net)
    assert "running statistics of kind 'topk', and L1BatchNorm2d is 'l1'" in message
