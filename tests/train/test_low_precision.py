"""Training in float16, bfloat16 and on int8 inputs: float32 statistics, gradients as good as the type allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import normexport.nn as nxn
from tests.nn.formulas import KINDS, TITLES, stat

HALF, BRAIN = torch.float16, torch.bfloat16
by_kind = pytest.mark.parametrize("kind", KINDS)
by_type = pytest.mark.parametrize("dtype", [HALF, BRAIN])


def batch_norm(kind: str, channels: int, axes: int = 2, **options: Any) -> Any:
    return getattr(nxn, f"{TITLES[kind]}BatchNorm{axes}d")(channels, **options)


@by_kind
@by_type
def test_running_statistics_of_half_inputs_are_those_of_float64(kind: str, dtype: torch.dtype) -> None:
    norm = batch_norm(kind, 3)  # float32 itself, as under autocast
    generator = torch.Generator().manual_seed(0)
    mean, scale = np.zeros(3), np.ones(3)
    for _ in range(20):
        x = (torch.randn(16, 3, 8, 8, generator=generator) * 3 + 1).to(dtype)
        assert norm(x).dtype == dtype
        values = x.double().transpose(0, 1).reshape(3, -1).numpy()
        mean = 0.9 * mean + 0.1 * values.mean(1)
        scale = 0.9 * scale + 0.1 * np.array([stat(kind, each) for each in values])
    assert norm.running_mean.dtype == norm.running_scale.dtype == torch.float32
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.running_scale.numpy(), scale, rtol=1e-5)


def gradient(norm: Any, x: Tensor, grad: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    norm(leaf).backward(grad)
    assert leaf.grad is not None
    return leaf.grad


@by_kind
@by_type
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4, 1e-5, 1e-6])
def test_gradients_are_those_of_float64_and_infinite_only_beyond_the_type(
    kind: str, dtype: torch.dtype, spread: float
) -> None:
    """At a spread of 1e-5 the divisor is 1e-5 and the gradient 1e5: more than float16 has."""
    torch.manual_seed(0)
    x, grad = (torch.randn(8, 4, 6, 6) * spread).to(dtype), torch.randn(8, 4, 6, 6).to(dtype)
    got = gradient(batch_norm(kind, 4), x, grad).double()
    wide = gradient(batch_norm(kind, 4).double(), x.double(), grad.double())
    expected = wide.to(dtype).double()
    beyond = expected.isinf()
    assert not got.isnan().any()
    assert torch.equal(got.isinf() & ~beyond, torch.zeros_like(beyond)) or (wide[got.isinf()].abs() > 65000).all()
    within = ~(beyond | got.isinf())
    # One rounding of the result, and float32 arithmetic whose errors are of the size of the largest term.
    largest = float(wide.abs().max())
    error = (got - wide)[within].abs() - wide[within].abs() * 2.0 ** -(11 if dtype == HALF else 8)
    assert float(error.max()) <= 2e-6 * largest + 6e-8


@by_kind
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4, 1e-5, 1e-6, 0.0])
def test_with_the_epsilon_that_batch_norm_has_float16_gradients_are_as_finite_as_its(kind: str, spread: float) -> None:
    """BatchNorm's 1e-5 stands under a root: beside a statistic it is sqrt(1e-5), and the divisor no less than that."""
    torch.manual_seed(0)
    x, grad = (torch.randn(8, 4, 6, 6) * spread).to(HALF), torch.randn(8, 4, 6, 6).to(HALF)
    theirs = gradient(nn.BatchNorm2d(4), x, grad)
    ours = gradient(batch_norm(kind, 4, eps=1e-5**0.5), x, grad)
    assert theirs.isfinite().all()
    assert ours.isfinite().all()
    assert float(ours.abs().max()) <= 2 * float(theirs.abs().max())


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator) + 3
    return x, (x[:, 0] * 2 > x[:, 1] + 3).long()


def network(kind: str, before: nn.Module | None = None) -> Any:
    torch.manual_seed(0)
    inner = [] if before is None else [before]
    return nn.Sequential(nn.Linear(8, 16), *inner, batch_norm(kind, 16, axes=1), nn.ReLU(), nn.Linear(16, 2))


def accuracy(model: nn.Module, x: Tensor) -> float:
    labels = problem()[1]
    return (model.eval()(x).argmax(1) == labels).double().mean().item()


@by_kind
@pytest.mark.parametrize("scaled", [True, False])
@by_type
def test_a_network_in_half_precision_learns(kind: str, dtype: torch.dtype, scaled: bool) -> None:
    x, labels = problem()
    model = network(kind).to(dtype)
    masters = [each.detach().float().clone().requires_grad_() for each in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler(
        "cpu", enabled=scaled, init_scale=2.0**20
    )  # too large at first: some steps are skipped
    for _ in range(60):
        model.zero_grad()
        loss = functional.cross_entropy(model(x.to(dtype)).float(), labels)
        scaler.scale(loss).backward()
        for master, parameter in zip(masters, model.parameters(), strict=True):
            master.grad = parameter.grad.float()
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            for master, parameter in zip(masters, model.parameters(), strict=True):
                parameter.copy_(master)
    if scaled and dtype == HALF:
        assert scaler.get_scale() < 2.0**20
    assert all(each.isfinite().all() for each in (*model.parameters(), *model.buffers()))
    assert accuracy(model, x.to(dtype)) > 0.9


@by_kind
def test_loss_scaling_finds_a_scale_where_gradients_overflow(kind: str) -> None:
    """Inputs of spread 1e-5, whose gradients are 1e5 times those of y: skipped until the scale fits, then trained."""
    torch.manual_seed(0)
    norm = batch_norm(kind, 4)
    master = (torch.randn(8, 4, 6, 6) * 1e-5).requires_grad_()
    optimizer = torch.optim.SGD([master], lr=1e-12)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    start, skipped = master.detach().clone(), 0
    while torch.equal(start, master.detach()):
        optimizer.zero_grad()
        y = norm(master.to(HALF)).float()
        loss = (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        skipped += 1
        assert skipped < 20
    assert skipped > 1
    assert master.grad is not None
    assert master.grad.isfinite().all()


class FakeInt8(nn.Module):
    """Rounds to 256 levels of its input's range, and passes gradients on: the setting of Range BN."""

    def forward(self, x: Tensor) -> Tensor:
        low, high = x.detach().aminmax()
        step = float((high - low) / 255)
        return torch.fake_quantize_per_tensor_affine(x, step, round(-float(low) / step), 0, 255)


@by_kind
def test_a_norm_of_int8_inputs_learns_and_has_their_statistics(kind: str) -> None:
    x, labels = problem()
    model = network(kind, FakeInt8())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    assert accuracy(model, x) > 0.9
    norm = model[2].train()
    norm.momentum = 1.0
    with torch.no_grad():
        levels = model[1](model[0](x))
        norm(levels)
    assert levels.unique().numel() <= 256
    expected = [stat(kind, each) for each in levels.double().numpy().T]
    np.testing.assert_allclose(norm.running_scale.numpy(), expected, rtol=1e-6)
