"""A run with `EffectiveLR` and no weight decay turns its weights as the recorded run with weight decay did."""

from __future__ import annotations

import copy
import json
import re
import warnings
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
from normexport.errors import UsageError
from normexport.train import (
    ChannelNorms,
    EffectiveLR,
    effective_step_size,
    find_scale_invariant,
    read_channel_norms,
    record_channel_norms,
)
from tests.train.networks import convnet, groups, loss_of


def recording(steps: int, seed: int = 0, channels: int = 6, decay: float = 0.0) -> ChannelNorms:
    rows = np.random.default_rng(seed).uniform(0.3, 2, (steps, 2 * channels))
    return ChannelNorms("made up", {"0": channels, "3": channels}, rows, {"0": decay, "3": decay})


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


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
@pytest.mark.parametrize(("name", "decay"), [("sgd", 0.01), ("adamw", 0.5)])
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
@pytest.mark.parametrize(("name", "decay"), [("sgd", 0.01), ("dampened", 0.02), ("adamw", 0.5)])
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
@settings(max_examples=8, deadline=None)
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


@pytest.mark.parametrize("before", [True, False])
def test_schedulers_made_before_or_after_work_and_do_not_warn(before: bool) -> None:
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    make = torch.optim.lr_scheduler.StepLR
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = make(optimizer, 1, 0.5) if before else None
        effective = EffectiveLR(optimizer, model, recording(4))
        scheduler = scheduler or make(optimizer, 1, 0.5)
        for _ in range(3):
            train(model, optimizer, 1)
            scheduler.step()
        assert effective.state_dict()["step"] == 3
        effective.remove()
        train(model, optimizer, 1)
        scheduler.step()
    assert effective.state_dict()["step"] == 3
    EffectiveLR(optimizer, model, recording(1))  # there is room for another one


def test_hooks_see_the_weights_whenever_they_were_registered() -> None:
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[torch.Tensor] = []

    def look(*_: Any) -> None:
        seen.append(model[0].weight.detach().clone())

    optimizer.register_step_pre_hook(look)
    optimizer.register_step_post_hook(look)
    EffectiveLR(optimizer, model, recording(1))
    optimizer.register_step_pre_hook(look)
    optimizer.register_step_post_hook(look)
    start = model[0].weight.detach().clone()
    train(model, optimizer, 1)
    assert [torch.equal(each, start) for each in seen] == [True, True, False, False]
    assert all(torch.equal(each, model[0].weight) for each in seen[2:])


@pytest.mark.parametrize("keyword", [True, False])
def test_a_closure_is_evaluated_on_the_weights(keyword: bool) -> None:
    torch.manual_seed(0)
    one = convnet()
    other = copy.deepcopy(one)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (one, other)]
    for optimizer, model in zip(optimizers, (one, other), strict=True):
        EffectiveLR(optimizer, model, recording(2))

    def closure() -> torch.Tensor:
        optimizers[0].zero_grad()
        loss = loss_of(one)
        loss.backward()
        return loss

    for _ in range(2):
        expected = loss_of(other).detach()
        loss = optimizers[0].step(closure=closure) if keyword else optimizers[0].step(closure)
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-12, atol=0)
        train(other, optimizers[1], 1)
    torch.testing.assert_close(one[0].weight, other[0].weight, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("fused", [True, False])
def test_steps_that_a_grad_scaler_skips_are_none(tmp_path: Path, fused: bool) -> None:
    torch.manual_seed(0)
    model = convnet().float()
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    effective = EffectiveLR(optimizer, model, recording(3))
    recorder = record_channel_norms(model, optimizer, tmp_path / "norms")
    gradients = [torch.full_like(each, 0.5) for each in model.parameters()]
    for t in range(4):
        start = model[0].weight.detach().clone()
        scale = scaler.scale(torch.ones(()))
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient * scale
        if t == 1:
            model[8].weight.grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(start, model[0].weight) == (t == 1)
    assert effective.state_dict()["step"] == 3
    assert recorder.steps == 3
    recorder.close()
    plain = torch.optim.SGD(other.parameters(), lr=0.1)
    EffectiveLR(plain, other, recording(3))
    for _ in range(3):
        for parameter, gradient in zip(other.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        plain.step()
    torch.testing.assert_close(model[0].weight, other[0].weight, rtol=1e-5, atol=1e-6)


def test_a_run_that_is_resumed_in_the_middle_ends_as_one_that_was_not() -> None:
    torch.manual_seed(0)
    whole = convnet()
    halves = copy.deepcopy(whole)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1, momentum=0.9)
    EffectiveLR(optimizer, whole, recording(6, decay=0.1))
    train(whole, optimizer, 6)
    first = torch.optim.SGD(halves.parameters(), lr=0.1, momentum=0.9)
    effective = EffectiveLR(first, halves, recording(6, decay=0.1))
    train(halves, first, 3)
    kept = json.loads(json.dumps(effective.state_dict()))
    resumed = convnet()
    resumed.load_state_dict(halves.state_dict())
    second = torch.optim.SGD(resumed.parameters(), lr=0.1, momentum=0.9)
    second.load_state_dict(first.state_dict())
    EffectiveLR(second, resumed, recording(6, decay=0.1)).load_state_dict(kept)
    train(resumed, second, 3)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


def test_a_step_that_fails_leaves_weights_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    effective = EffectiveLR(optimizer, model, recording(1))
    loss_of(model).backward()
    start = [each.detach().clone() for each in (model[0].weight, model[3].weight)]
    gradient = model[0].weight.grad
    optimizer.param_groups[0]["lr"] = "none"
    with pytest.raises(TypeError):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(start, (model[0].weight, model[3].weight), strict=True))
    assert model[0].weight.grad is gradient
    assert effective.state_dict() == {"step": 0, "shrunk": {}}


def test_a_vector_without_a_direction_steps_as_ever() -> None:
    model, reference = convnet(), recording(1)
    reference.rows[0, 1] = 0
    with torch.no_grad():
        model[0].weight[0] = 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    effective = EffectiveLR(optimizer, model, reference)
    ratios = effective.ratios()["0"]
    assert ratios[:2].tolist() == [1, 1]
    assert (ratios[2:] != 1).all()


def test_weights_without_gradients_stay() -> None:
    model = convnet()
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    EffectiveLR(optimizer, model, recording(1))
    start = model[0].weight.clone()
    train(model, optimizer, 1)
    assert torch.equal(model[0].weight, start)


def test_what_can_not_be_followed_is_refused_in_one_line() -> None:
    model = convnet()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    refusals: list[tuple[Any, Any, str]] = [
        (torch.optim.SGD(groups(model, 0.01), lr=0.1), recording(1), "0.weight: has weight decay 0.01"),
        (torch.optim.RMSprop(model.parameters()), recording(1), "RMSprop: takes steps that depend"),
        (torch.optim.Adam(model.parameters(), differentiable=True), recording(1), "differentiable"),
        (sgd, recording(1, channels=5), "records 5 vectors of 0, which has 6"),
        (sgd, ChannelNorms("a", {"8": 2}, np.ones((1, 2))), "records 8, which is not scale invariant here"),
        (sgd, ChannelNorms("a", {"0": 6}, np.ones((1, 6))), "a: does not record 3"),
    ]
    for optimizer, reference, cause in refusals:
        with pytest.raises(UsageError, match=re.escape(cause)) as caught:
            EffectiveLR(optimizer, model, reference)
        assert "\n" not in str(caught.value)
    EffectiveLR(sgd, model, recording(1))
    with pytest.raises(UsageError, match="follows a recording already"):
        EffectiveLR(sgd, model, recording(1))
    train(model, sgd, 1)
    start = model[0].weight.detach().clone()
    with pytest.raises(UsageError, match="has 1 steps and no step 1"):
        train(model, sgd, 1)
    assert torch.equal(start, model[0].weight)
    sgd.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(UsageError, match=r"has weight decay 0\.1"):
        train(model, sgd, 1)


def test_effective_step_size_is_the_rate_over_the_squared_norm() -> None:
    model = convnet()
    own = {str(i): 0.3 / (model[i].weight.detach().numpy() ** 2).sum((1, 2, 3)) for i in (0, 3)}
    for path, sizes in effective_step_size(model, 0.3).items():
        np.testing.assert_allclose(sizes.numpy(), own[path], rtol=1e-13)
    optimizer = torch.optim.SGD([{"params": [model[0].weight], "lr": 0.3}], lr=1.0)
    by_group = effective_step_size(model, optimizer, layers=find_scale_invariant(model))
    np.testing.assert_allclose(by_group["0"].numpy(), own["0"], rtol=1e-13)
    assert by_group["3"].tolist() == [0] * 6
