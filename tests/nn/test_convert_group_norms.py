"""`convert_norms` on torch's group and layer norms: another kind, the same network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import normexport.nn as nxn
from normexport.errors import UsageError
from tests.nn.formulas import KINDS, TITLES, stat

#: What it returns has modules of the kind asked for, which its type does not tell.
convert_norms: Callable[..., Any] = nxn.convert_norms


def inputs(*shape: int, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    spreads = torch.rand(shape[1], generator=generator).reshape(-1, *[1] * (len(shape) - 2)) + 0.3
    return [torch.randn(shape, generator=generator) * spreads + 1 for _ in range(count)]


def with_numbers(norm: Any) -> Any:
    torch.manual_seed(4)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return norm


def ratio(kind: str, rows: list[np.ndarray], eps: float) -> float:
    """The new statistic over the old one, averages over rows."""
    spread = float(np.mean([stat(kind, row) for row in rows]))
    return (spread + eps) / float(np.sqrt(np.mean([row.var() for row in rows]) + eps))


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_norm_s_weights_follow_the_statistics_of_its_groups(kind: str) -> None:
    old, data = with_numbers(nn.GroupNorm(2, 6, eps=0.01)), inputs(4, 6, 8, 4)
    new = convert_norms(old, kind, data=data, group_norms=True)
    assert type(new).__name__ == f"{TITLES[kind]}GroupNorm"
    assert (new.num_groups, new.num_channels, new.eps) == (2, 6, 0.01)
    for group in range(2):
        own = slice(3 * group, 3 * group + 3)
        rows = [sample[own].double().numpy().reshape(-1) for x in data for sample in x]
        expected = old.weight[own].detach().numpy() * ratio(kind, rows, 0.01)
        np.testing.assert_allclose(new.weight[own].detach(), expected, rtol=1e-5)
    assert torch.equal(new.bias, old.bias)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(96,), (6, 16)])
def test_a_layer_norm_s_weights_follow_the_statistics_of_its_rows(kind: str, shape: tuple[int, ...]) -> None:
    old, data = with_numbers(nn.LayerNorm(shape, eps=0.01)), inputs(4, 5, *shape)
    new = convert_norms(old, kind, data=data, layer_norms=True)
    assert type(new).__name__ == f"{TITLES[kind]}LayerNorm"
    assert (new.normalized_shape, new.eps) == (shape, 0.01)
    rows = [row for x in data for row in x.double().numpy().reshape(20, -1)]
    np.testing.assert_allclose(new.weight.detach(), old.weight.detach().numpy() * ratio(kind, rows, 0.01), rtol=1e-5)
    assert new.weight.shape == shape
    x = data[0]
    off = (new(x) - old(x)).norm() / old(x).norm()
    assert off < 0.15  # a maximum of one row is noisier than a deviation; unmatched they differ by up to 1.45


class Block(nn.Module):
    """A convolution and an attention-like residual, with norms of every scope."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.batch = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.group, self.layer = nn.GroupNorm(4, 8), nn.LayerNorm(36, elementwise_affine=False)
        self.bare = nn.LayerNorm(36, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.group(torch.relu(self.batch(self.stem(x)))).flatten(2)
        return self.bare(x + self.layer(x))


def test_each_is_converted_on_request_alone() -> None:
    torch.manual_seed(0)
    model, data = Block().eval(), inputs(8, 3, 8, 8, count=20)
    names = ("batch", "group", "layer", "bare")
    before = {name: type(getattr(model, name)) for name in names}
    for asked, changed in (
        ({}, {"batch"}),
        ({"group_norms": True}, {"batch", "group"}),
        ({"layer_norms": True}, {"batch", "layer", "bare"}),
    ):
        new = convert_norms(model, "l1", data=data, **asked)
        assert {name for name in names if type(getattr(new, name)) is not before[name]} == changed
    assert {name: type(getattr(model, name)) for name in names} == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_them_computes_the_same(kind: str) -> None:
    torch.manual_seed(0)
    model, data = Block().train(), inputs(8, 3, 8, 8, count=20)
    with torch.no_grad():
        for x in data:
            model(x)
    model.eval()
    new = convert_norms(model, kind, data=data, group_norms=True, layer_norms=True)
    off = (new(data[0]) - model(data[0])).norm() / model(data[0]).norm()
    unmatched = convert_norms(model, kind, data=data, group_norms=True, layer_norms=True, match_scale=False)
    assert off < 0.3  # the range of chunks of a few numbers is noisy
    if kind in ("linf", "topk"):  # L1, L2 and Range estimate sigma
        assert off < 0.8 * (unmatched(data[0]) - model(data[0])).norm() / model(data[0]).norm()
    assert new.layer.weight.shape == (36,)
    assert not new.layer.weight.requires_grad
    assert new.bare.bias is None


def test_types_modes_and_frozen_weights_are_kept() -> None:
    old = with_numbers(nn.GroupNorm(2, 4, dtype=torch.float64)).eval()
    old.weight.requires_grad_(False)
    new = convert_norms(old, "l1", data=[inputs(3, 4, 5)[0].double()], group_norms=True)
    assert new.weight.dtype == torch.float64
    assert (new.training, new.weight.requires_grad, new.bias.requires_grad) == (False, False, True)
    data = [inputs(3, 16)[0].bfloat16()]
    layer = convert_norms(nn.LayerNorm(16, dtype=torch.bfloat16), "topk", data=data, layer_norms=True)
    assert layer.bias.dtype == torch.bfloat16


def test_without_data_the_warning_names_weights_alone() -> None:
    old = with_numbers(nn.LayerNorm(6))
    with pytest.warns(UserWarning, match="without data the weights of 1 linf norms stay"):
        new = convert_norms(old, "linf", layer_norms=True)
    assert torch.equal(new.weight, old.weight)


@pytest.mark.parametrize(
    ("norm", "x", "words"),
    [
        (nn.GroupNorm(4, 4), torch.randn(3, 4), "one element per group"),
        (nn.LayerNorm(1), torch.randn(3, 1), "one element per group"),
        (nn.LayerNorm(4), torch.full((3, 4), np.nan), "on the data are not finite"),
    ],
)
def test_statistics_that_are_none_are_refused(norm: nn.Module, x: torch.Tensor, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        convert_norms(norm, "l1", data=[x], group_norms=True, layer_norms=True)


def test_k_beyond_a_group_names_the_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4))
    with pytest.raises(UsageError, match=r"^1: "):
        convert_norms(model, "topk", data=[torch.randn(3, 4)], group_norms=True, k=10)
