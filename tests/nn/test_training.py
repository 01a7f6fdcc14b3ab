"""A network of each kind learns, at each precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from normexport.nn import Norm, bounded_weight_norm, convert_norms
from tests.nn.formulas import KINDS

pytestmark = pytest.mark.slow


def autocast_works(dtype: torch.dtype) -> bool:
    try:
        with torch.autocast("cpu", dtype):
            return nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2)).dtype == dtype
    except RuntimeError:
        return False


PRECISIONS = [
    None,
    torch.bfloat16,
    pytest.param(
        torch.float16,
        marks=pytest.mark.skipif(not autocast_works(torch.float16), reason="this CPU has no fp16 convolution"),
    ),
]


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose class is which of two stripes is brighter, on offsets that only a norm takes away."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 2, 8, 8, generator=generator) + 5
    labels = torch.randint(0, 2, (64,), generator=generator)
    x[labels == 1, 0, :, :4] += 2
    x[labels == 0, 1, :, 4:] += 2
    return x, labels


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_network_learns(kind: str, precision: torch.dtype | None) -> None:
    torch.manual_seed(0)
    x, labels = problem()
    model: Any = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 16), nn.BatchNorm1d(16),
        nn.ReLU(), nn.Linear(16, 2),
    )  # fmt: skip
    model = convert_norms(model, kind, data=[x]).train()
    bounded_weight_norm(model[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        with torch.autocast("cpu", precision, enabled=precision is not None):
            loss = functional.cross_entropy(model(x).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    statistics = [b for m in model if isinstance(m, Norm) for b in (m.running_mean, m.running_scale)]
    assert all(b.dtype == torch.float32 and b.isfinite().all() for b in statistics)
    # Running statistics trail the weights, but evaluation decides as training did.
    assert (model.eval()(x).argmax(1) == labels).float().mean() > 0.9
