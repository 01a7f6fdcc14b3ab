"""A run with `EffectiveLR` and no weight decay turns its weights as the recorded run with weight decay did."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import normexport.nn as nxn
from normexport.train import (
    ChannelNorms,
    EffectiveLR,
    effective_step_size,
    find_scale_invariant,
    read_channel_norms,
    record_channel_norms,
)
from tests.train.networks import convnet, groups, recording, train


def cosine(one: Any, other: Any) -> float:
    """The smallest of all vectors."""
    of_layers = [functional.cosine_similarity(one[i].weight.flatten(1), other[i].weight.flatten(1)) for i in (0, 3)]
    return torch.cat(of_layers).min().item()


MAKERS: dict[str, Any] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "dampened": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.5),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.005),
}


@pytest.mark.parametrize("norm", [nxn.L2BatchNorm2d, nxn.L1BatchNorm2d])
@pytest.mark.parametrize(("name", "decay"), [("sgd", 0.01), ("adamw", 0.5), ("adamw", 1.0)])
def test_directions_follow_the_run_with_weight_decay(tmp_path: Path, name: str, decay: float, norm: Any) -> None:
    torch.manual_seed(0)
    start = convnet(norm)
    decayed, plain, following = (copy.deepcopy(start) for _ in range(3))
    optimizer = MAKERS[name](groups(decayed, decay))
    with record_channel_norms(decayed, optimizer, tmp_path / "norms"):
        train(decayed, optimizer, 200)
    train(plain, MAKERS[name](groups(plain, 0.0)), 200)
    optimizer = MAKERS[name](groups(following, 0.0))
    EffectiveLR(optimizer, following, read_channel_norms(tmp_path / "norms"))
    train(following, optimizer, 200)
    lost, without = 1 - cosine(following, decayed), 1 - cosine(plain, decayed)
    assert lost <= 1e-5
    assert lost <= without / 10
    # Its own norms are not the recorded ones: they have grown.
    assert following[0].weight.norm() > 1.5 * decayed[0].weight.norm()


@pytest.mark.parametrize("norm", [nxn.L2BatchNorm2d, nxn.L1BatchNorm2d])
@pytest.mark.parametrize(("name", "decay"), [("sgd", 0.01), ("dampened", 0.02), ("adamw", 0.5), ("adamw", 1.0)])
def test_directions_are_the_recorded_ones_but_for_rounding(tmp_path: Path, name: str, decay: float, norm: Any) -> None:
    """The arithmetic of docs/training.md, under a step size that changes at every step."""
    torch.manual_seed(0)
    start = convnet(lambda channels: norm(channels, eps=1e-14))
    decayed, following = (copy.deepcopy(start) for _ in range(2))
    optimizer = MAKERS[name](groups(decayed, decay))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    with record_channel_norms(decayed, optimizer, tmp_path / "norms"):
        for _ in range(60):
            train(decayed, optimizer, 1)
            scheduler.step()
    optimizer = MAKERS[name](groups(following, 0.0))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    EffectiveLR(optimizer, following, read_channel_norms(tmp_path / "norms"))
    for _ in range(60):
        train(following, optimizer, 1)
        scheduler.step()
    assert 1 - cosine(following, decayed) <= 1e-11


@pytest.mark.parametrize("name", ["sgd", "dampened", "adamw"])
@settings(max_examples=8)
@given(stretch=st.lists(st.floats(0.1, 10), min_size=12, max_size=12), when=st.integers(0, 11))
def test_the_lengths_of_vectors_change_no_turn(name: str, stretch: list[float], when: int) -> None:
    """Were the finished step multiplied by r^2, a stretched vector would take longer steps, and run away in the end."""
    torch.manual_seed(0)
    one = convnet(lambda channels: nxn.L2BatchNorm2d(channels, eps=1e-14))
    other = copy.deepcopy(one)
    optimizers = [MAKERS[name](groups(model, 0.0)) for model in (one, other)]
    for model, optimizer in zip((one, other), optimizers, strict=True):
        EffectiveLR(optimizer, model, recording(12, decay=0.1))
        train(model, optimizer, when)
    with torch.no_grad():
        for index, factors in ((0, stretch[:6]), (3, stretch[6:])):
            other[index].weight *= torch.tensor(factors, dtype=torch.float64).reshape(-1, 1, 1, 1)
    for model, optimizer in zip((one, other), optimizers, strict=True):
        train(model, optimizer, 12 - when)
    assert 1 - cosine(one, other) <= 1e-11


class NumpySgd:
    """One step of SGD with eq. 4 on the gradient's share of every step, by hand, of one weight (C, n).

    s is what decay alone made of the recorded weights, b its buffer.
    """

    def __init__(self, momentum: float, dampening: float, nesterov: bool, decay: float = 0.0) -> None:
        self.momentum, self.dampening, self.nesterov, self.decay = momentum, dampening, nesterov, decay
        self.buffer: Any = None
        self.s, self.b = 1.0, 0.0

    def step(self, w: np.ndarray, g: np.ndarray, lr: float, reference: np.ndarray) -> np.ndarray:
        first = self.buffer is None
        r = (np.sqrt((w**2).sum(1)) / reference)[:, None]
        g, pull = self.s * r * g, self.decay * self.s
        kept = 1 if first else 1 - self.dampening
        self.buffer = g.copy() if first else self.momentum * self.buffer + kept * g
        self.b = pull if first else self.momentum * self.b + kept * pull
        direction, lost = (self.buffer, self.b) if self.momentum else (g, pull)
        if self.nesterov:
            direction, lost = g + self.momentum * self.buffer, pull + self.momentum * self.b
        self.s -= lr * lost
        return w - lr * r / self.s * direction


class NumpyAdam:
    """One step of Adam on r*g, times r, by hand."""

    def __init__(self, decay: float = 0.0) -> None:
        self.m: Any = 0.0
        self.v: Any = 0.0
        self.t, self.decay = 0, decay

    def step(self, w: np.ndarray, g: np.ndarray, lr: float, reference: np.ndarray) -> np.ndarray:
        r = (np.sqrt((w**2).sum(1)) / reference)[:, None]
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * (r * g)
        self.v = 0.999 * self.v + 0.001 * (r * g) ** 2
        corrected = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return w - r / (1 - lr * self.decay) * lr * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)


BY_HAND: dict[str, tuple[Any, Any]] = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), lambda d: NumpySgd(0, 0, False, d)),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda d: NumpySgd(0.9, 0, False, d)),
    "dampening": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3), lambda d: NumpySgd(0.9, 0.3, False, d),
    ),
    "nesterov": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), lambda d: NumpySgd(0.9, 0, True, d),
    ),
    "one by one": (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=False), lambda d: NumpySgd(0.9, 0, False, d),
    ),
    "fused": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True), lambda d: NumpySgd(0.9, 0, False, d)),
    "adamw": (lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0), NumpyAdam),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.1), lambda _: NumpyAdam(0)),
    "fused adamw": (lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0, fused=True), NumpyAdam),
}  # fmt: skip


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", BY_HAND)
def test_a_step_is_the_one_written_by_hand_and_other_parameters_step_as_ever(name: str, decay: float) -> None:
    make, by_hand = BY_HAND[name]
    torch.manual_seed(0)
    model = convnet()
    plain = copy.deepcopy(model)
    optimizers, reference = [make(each.parameters()) for each in (model, plain)], recording(5, decay=decay)
    EffectiveLR(optimizers[0], model, reference)
    hand = {index: by_hand(decay) for index in (0, 3)}
    for t in range(5):
        expected = {}
        for index, own in hand.items():
            weight = model[index].weight
            generator = np.random.default_rng(10 * t + index)
            gradient = generator.normal(size=weight.shape)
            weight.grad = torch.tensor(gradient)
            lr = optimizers[0].param_groups[0]["lr"]
            flat = weight.detach().numpy().reshape(6, -1), gradient.reshape(6, -1)
            expected[index] = own.step(*flat, lr, reference.at(t)[str(index)])
        for one, other in zip(model.parameters(), plain.parameters(), strict=True):
            other.grad = one.grad = torch.ones_like(one) if one.grad is None or one.dim() == 1 else one.grad
        gradients = [each.grad.clone() for each in model.parameters()]
        for optimizer in optimizers:
            optimizer.step()
        for index, value in expected.items():
            got = model[index].weight.detach().numpy().reshape(6, -1)
            np.testing.assert_allclose(got, value, rtol=1e-12, atol=1e-14)
        for before, parameter in zip(gradients, model.parameters(), strict=True):
            assert torch.equal(before, parameter.grad)
        optimizers[0].param_groups[0]["lr"] *= 0.7
        optimizers[1].param_groups[0]["lr"] *= 0.7
    for index in (1, 4, 8):  # norms and the Linear
        for one, other in zip(model[index].parameters(), plain[index].parameters(), strict=True):
            assert torch.equal(one, other)
    assert torch.equal(model[3].bias, plain[3].bias)


def test_vectors_of_groups_and_transposed_layers_have_their_own_ratio() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.ConvTranspose2d(4, 8, 3, groups=2, bias=False), nn.GroupNorm(4, 8)).double()
    weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reference = ChannelNorms("made up", {"0": 4}, np.array([[0.5, 1.0, 2.0, 4.0]]))
    EffectiveLR(optimizer, model, reference)
    before = weight.detach().clone().numpy()
    gradient = np.random.default_rng(0).normal(size=before.shape)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight.grad = torch.tensor(gradient)
    optimizer.step()
    # Output channel o is of the layer's group o // 4, whose inputs are 2 rows, and of the norm's group o // 2.
    norms = np.zeros(4)
    for o in range(8):
        norms[o // 2] += (before[2 * (o // 4) : 2 * (o // 4) + 2, o % 4] ** 2).sum()
    for o in range(8):
        rows = slice(2 * (o // 4), 2 * (o // 4) + 2), o % 4
        eta = 0.1 * norms[o // 2] / reference.rows[0][o // 2] ** 2
        np.testing.assert_allclose(weight.detach().numpy()[rows], before[rows] - eta * gradient[rows], rtol=1e-12)


def test_effective_step_size_is_the_rate_over_the_squared_norm() -> None:
    model = convnet()
    own = {str(i): 0.3 / (model[i].weight.detach().numpy() ** 2).sum((1, 2, 3)) for i in (0, 3)}
    for path, sizes in effective_step_size(model, 0.3).items():
        np.testing.assert_allclose(sizes.numpy(), own[path], rtol=1e-13)
    optimizer = torch.optim.SGD([{"params": [model[0].weight], "lr": 0.3}], lr=1.0)
    by_group = effective_step_size(model, optimizer, layers=find_scale_invariant(model))
    np.testing.assert_allclose(by_group["0"].numpy(), own["0"], rtol=1e-13)
    assert by_group["3"].tolist() == [0] * 6
