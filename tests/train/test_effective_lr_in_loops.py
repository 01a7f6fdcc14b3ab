"""`EffectiveLR` in a training loop: schedulers, hooks, closures, GradScaler, checkpoints, and what it refuses."""

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

from normexport.errors import UsageError
from normexport.train import ChannelNorms, EffectiveLR, record_channel_norms
from tests.train.networks import convnet, groups, loss_of, recording, train


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
