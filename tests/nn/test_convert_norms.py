"""`convert_norms`: another kind of norm, the same network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import normexport.nn
from normexport.errors import UsageError
from normexport.nn import L1BatchNorm2d, LinfBatchNorm2d
from tests.nn.formulas import KINDS, TITLES, stat

#: What it returns has modules of the kind asked for, which its type does not tell.
convert_norms: Callable[..., Any] = normexport.nn.convert_norms

PATTERNS = torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))


def examples(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four noisy patterns of varying strength on an offset, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    strength = 0.5 + torch.rand(count, 1, 1, 1, generator=generator)
    return PATTERNS[labels] * strength + 0.7 * torch.randn(count, 3, 10, 10, generator=generator) + 1, labels


class Net(nn.Module):
    """Norms on 4-D and 2-D inputs, one without affine parameters, a residual add, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.hidden, self.norm3 = nn.Linear(8 * 25, 16), nn.BatchNorm1d(16)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = functional.max_pool2d(x + torch.relu(self.norm2(self.conv2(x))), 2)
        return self.head(self.dropout(torch.relu(self.norm3(self.hidden(x.flatten(1))))))


@pytest.fixture(scope="module")
def network() -> Net:
    """A trained Net, its running statistics settled, in evaluation."""
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for step in range(60):
        x, labels = examples(64, step)
        loss = functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for step in range(30):
            net(examples(64, 100 + step)[0])
    return net.eval()


def data(batches: int = 20) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [examples(64, 200 + i) for i in range(batches)]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


@pytest.mark.parametrize("kind", KINDS)
def test_with_data_the_converted_network_computes_the_same(network: Net, kind: str) -> None:
    x, labels = examples(256, 999)
    expected = network(x)
    converted = convert_norms(network, kind, data=data())
    y = converted(x)
    # What re-estimating BatchNorm itself on these batches costs is 3 % of the outputs.
    assert distance(y, expected) < 0.08
    accuracy = [float((each.argmax(1) == labels).float().mean()) for each in (y, expected)]
    assert accuracy[1] > 0.9
    assert accuracy[0] > accuracy[1] - 0.02


@pytest.mark.parametrize("kind", ["linf", "range"])
def test_without_matched_scales_the_same_statistics_give_another_network(network: Net, kind: str) -> None:
    x, _ = examples(256, 999)
    unmatched = convert_norms(network, kind, data=data(), match_scale=False)(x)
    matched = convert_norms(network, kind, data=data())(x)
    assert distance(unmatched, network(x)) > 2 * distance(matched, network(x))


def test_training_mode_outputs_are_matched_too(network: Net) -> None:
    x, _ = examples(64, 998)
    old, new = copy.deepcopy(network), convert_norms(network, "linf", data=data())
    for norm in (old.norm1, new.norm1):
        norm.train()
    # A maximum over one batch is noisier than a deviation; unmatched they differ by the factor 1.45.
    assert distance(new.norm1(old.conv1(x)), old.norm1(old.conv1(x))) < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_and_weights_are_the_averages_over_the_batches(kind: str) -> None:
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(3, eps=0.01)
    nn.init.uniform_(norm.weight)
    batches = [torch.randn(20, 3, 5) * torch.tensor([[1.0], [2.0], [0.1]]) + 4 for _ in range(3)]
    new = convert_norms(norm, kind, data=batches)
    channels = [[b[:, c].double().numpy().reshape(-1) for b in batches] for c in range(3)]
    spread = np.array([np.mean([stat(kind, v) for v in channel]) for channel in channels])
    variance = np.array([np.mean([v.var() for v in channel]) for channel in channels])
    ratio = (spread + 0.01) / np.sqrt(variance + 0.01)
    np.testing.assert_allclose(new.running_mean, [np.mean(channel) for channel in channels], rtol=1e-5)
    np.testing.assert_allclose(new.running_scale, spread, rtol=1e-5)
    np.testing.assert_allclose(new.weight.detach(), norm.weight.detach().numpy() * ratio, rtol=1e-5)
    assert int(new.num_batches_tracked) == 3


def test_settings_modes_and_parameters_are_kept() -> None:
    norm = nn.BatchNorm2d(4, eps=0.125, momentum=None, dtype=torch.float64)
    norm.register_parameter("bias", None)  # the argument bias=False is not in PyTorch 2.9
    norm.weight.requires_grad_(False)
    untracked = nn.BatchNorm2d(4, track_running_stats=False, dtype=torch.float64)
    model = nn.Sequential(nn.Dropout(), norm, untracked).train()
    model[1].eval()
    converted = convert_norms(model, "l1", data=[torch.randn(8, 4, 3, 3).double()])
    new = converted[1]
    assert type(new) is L1BatchNorm2d
    assert (new.eps, new.momentum, new.bias) == (0.125, None, None)
    assert (new.weight.dtype, new.running_scale.dtype) == (torch.float64, torch.float64)
    assert not new.weight.requires_grad
    assert [m.training for m in converted] == [True, False, True]
    assert converted[2].running_mean is None


def test_the_original_is_never_touched(network: Net) -> None:
    state, names = copy.deepcopy(network.state_dict()), repr(network)
    convert_norms(network, "topk", data=data(2))
    assert repr(network) == names
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_options_reach_the_new_norms(network: Net) -> None:
    assert convert_norms(network, "topk", data=data(1), k=4, eps=0.5).norm2.k == 4
    assert convert_norms(network, "range", data=data(1), chunks=7, correction=1.5).norm3.chunks == 7
    with pytest.raises(TypeError, match="no parameter 'k'"):
        convert_norms(network, "l1", k=4)


def test_a_norm_without_weight_gets_a_frozen_one_for_the_scale(network: Net) -> None:
    converted = convert_norms(network, "linf", data=data(2))
    assert converted.norm2.affine
    assert not converted.norm2.weight.requires_grad
    # Of Gaussians C(n)*max is 1.42 to 1.46 sigma; these activations are not far from it.
    assert 1 < float(converted.norm2.weight.mean()) < 2
    assert convert_norms(network, "linf", data=data(2), match_scale=False).norm2.weight is None


def test_without_data_a_warning_says_what_is_missing(network: Net) -> None:
    with pytest.warns(UserWarning, match="3 linf norms stay at mean 0 and scale 1.*pass data="):
        converted = convert_norms(network, "linf")
    assert converted.norm1.running_scale.tolist() == [1.0] * 8
    assert torch.equal(converted.norm1.weight, network.norm1.weight)


def test_a_shared_norm_stays_shared_and_a_lone_norm_is_converted() -> None:
    shared = nn.BatchNorm2d(3)
    model = convert_norms(
        nn.ModuleDict({"a": shared, "b": shared, "c": nn.Sequential(shared)}),
        "linf",
        data=[1],
        forward=lambda m, _: m["b"](torch.randn(4, 3, 2, 2)),
    )
    assert type(model["a"]) is LinfBatchNorm2d
    assert model["a"] is model["b"] is model["c"][0]
    assert int(model["a"].num_batches_tracked) == 1
    assert type(convert_norms(shared, "linf", data=[torch.randn(4, 3, 2, 2)])) is LinfBatchNorm2d


@pytest.mark.parametrize("kind", KINDS)
def test_instance_norms_are_converted_on_request_alone(kind: str) -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.InstanceNorm1d(4, affine=True, track_running_stats=True), nn.BatchNorm1d(4)
    )
    inputs = [torch.randn(8, 3, 40, generator=torch.Generator().manual_seed(i)) for i in range(30)]
    assert type(convert_norms(model, kind, data=inputs)[1]) is nn.InstanceNorm1d
    converted = convert_norms(model, kind, data=inputs, instance_norms=True)
    assert type(converted[1]).__name__ == f"{TITLES[kind]}InstanceNorm1d"
    z = model[0](inputs[0])
    assert distance(converted[1].train()(z), model[1].train()(z)) < 0.15
    assert torch.isfinite(converted.eval()(inputs[0][0:1])).all()


def test_unbatched_input_of_instance_norms_is_measured_like_batched() -> None:
    norm, x = nn.InstanceNorm2d(3, affine=True), torch.randn(3, 6, 6)
    one, many = (convert_norms(norm, "l1", data=[each], instance_norms=True) for each in (x, x.unsqueeze(0)))
    assert torch.equal(one.weight, many.weight)
    assert not torch.equal(one.weight, norm.weight)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.norm(left + right)


def test_batches_may_be_tensors_tuples_and_dicts() -> None:
    x = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    zero, expected = torch.zeros(16, 2), x.mean(0).tolist()
    batch: Any
    for batch in (x, (x, "label"), [x], {"x": x}):
        model = nn.Sequential(nn.BatchNorm1d(2)) if not isinstance(batch, dict) else None
        if model is not None:
            assert convert_norms(model, "l1", data=[batch])[0].running_mean.tolist() == pytest.approx(expected)
    for batch in (((x, zero), "label"), {"left": x, "right": zero, "labels": 1}):
        assert convert_norms(Named(), "l1", data=iter([batch])).norm.running_mean.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "data holds no batch"),
        ([3], "a batch is int"),
        ([{"image": 1}], "none of the entries image is an argument of Named.forward"),
        ([((torch.ones(1, 2), torch.ones(1, 2)), 0)], "norm: a batch has one element per channel"),
        ([((torch.full((4, 2), np.nan), torch.ones(4, 2)), 0)], "norm: its statistics on the data are not finite"),
    ],
)
def test_unusable_data_is_refused_in_words(batches: list[Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        convert_norms(Named(), "l1", data=batches)


def test_k_beyond_the_batch_names_the_layer() -> None:
    with pytest.raises(UsageError, match="norm: Top-k asks for the 10 largest of the 4"):
        convert_norms(Named(), "topk", data=[((torch.randn(4, 2), torch.randn(4, 2)), 0)])


def test_data_that_is_one_tensor_is_refused_instead_of_being_read_row_by_row() -> None:
    with pytest.raises(UsageError, match=r"data is one tensor; pass a list of batches: data=\[x\]"):
        convert_norms(nn.BatchNorm2d(2), "l1", data=torch.randn(4, 2, 3, 3))


def test_models_without_batchnorm_and_lazy_ones_are_refused() -> None:
    with pytest.raises(UsageError, match="Sequential: has no norm to convert"):
        convert_norms(nn.Sequential(nn.Linear(2, 2), nn.InstanceNorm1d(2)), "l1")
    with pytest.raises(UsageError, match="1: is lazy"):
        convert_norms(nn.Sequential(nn.ReLU(), nn.LazyBatchNorm2d()), "l1")
    with pytest.raises(UsageError, match="not a norm kind"):
        convert_norms(nn.BatchNorm2d(2), "l7")


def test_norms_that_no_batch_reaches_are_named() -> None:
    model = nn.ModuleDict({"used": nn.BatchNorm1d(2), "spare": nn.BatchNorm1d(2)})
    with pytest.warns(UserWarning, match="spare: no batch reached"):
        converted = convert_norms(model, "l1", data=[torch.randn(4, 2)], forward=lambda m, b: m["used"](b))
    assert converted["spare"].running_scale.tolist() == [1.0, 1.0]


class NormAndRelu(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(super().forward(x))


class Renamed(nn.BatchNorm2d):
    pass


def test_subclasses_are_converted_unless_they_compute_something_else() -> None:
    model = nn.Sequential(NormAndRelu(3), Renamed(3))
    with pytest.warns(UserWarning, match="0: NormAndRelu has a forward of its own"):
        converted = convert_norms(model, "l1", data=[torch.randn(4, 3, 2, 2)])
    assert [type(m) for m in converted] == [NormAndRelu, L1BatchNorm2d]


def test_nothing_is_warned_where_nothing_is_wrong(network: Net) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert_norms(network, "l1", data=data(1))
