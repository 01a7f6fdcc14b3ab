"""Weight norm and bounded weight norm: every layout becomes the plain weight its layer computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn.utils import parametrizations, parametrize, weight_norm

import normexport.nn as nxnn
from normexport.checkpoint import load
from normexport.checkpoint.records import Checkpoint
from normexport.checkpoint.state import State
from normexport.checkpoint.weight_norm import stored_weights
from tests.checkpoint.bounded import BOUNDED
from tests.checkpoint.support import IMAGES, assert_same, forward, refused, save
from tests.narrow import present

TORCH: dict[str, Callable[..., Any]] = {
    "torch-weight-norm": lambda layer, dim=0: weight_norm(layer, dim=dim),
    "torch-parametrized-weight-norm": lambda layer, dim=0: parametrizations.weight_norm(layer, dim=dim),
}
ALL = {**BOUNDED, **TORCH}
layout = pytest.mark.parametrize("name", ALL)
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")


def network(name: str | None = None, **options: Any) -> Any:
    conv = nn.Conv2d(3, 5, 3)
    return nn.Sequential(conv if name is None else ALL[name](conv, **options), nn.ReLU(), nn.Conv2d(5, 2, 1))


def trained_network(name: str, **options: Any) -> Any:
    """Directions and lengths moved away from where they started, as training does."""
    torch.manual_seed(3)
    net = network(name, **options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.7).add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def own(net: nn.Sequential) -> torch.Tensor:
    """The layer's own evaluation, float32 arithmetic (its hooks compute the weight)."""
    with torch.no_grad():
        return net(IMAGES).double()


def first_layer(checkpoint: Checkpoint) -> Any:
    assert isinstance(checkpoint.model, nn.Sequential)
    return checkpoint.model[0]


@layout
def test_layer_of_the_layout_gets_its_plain_weight(name: str, tmp_path: Path) -> None:
    net = trained_network(name)
    expected = own(net)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: network(name))
    (record,) = checkpoint.weight_norms
    assert (record.path, record.layout, record.axis, record.p) == ("0.weight", name, 0, 2.0)
    conv = first_layer(checkpoint)
    assert set(dict(conv.named_parameters())) == {"weight", "bias"}
    assert not conv._forward_pre_hooks
    assert not list(conv.buffers())
    assert not parametrize.is_parametrized(conv)
    assert_same(forward(checkpoint.model), expected)


@layout
def test_state_of_the_layout_loads_into_a_plain_layer(name: str, tmp_path: Path) -> None:
    net = trained_network(name)
    expected = own(net)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=network)
    assert [record.layout for record in checkpoint.weight_norms] == [name]
    assert_same(forward(checkpoint.model), expected)


@layout
def test_bare_state_lists_the_layout(name: str, tmp_path: Path) -> None:
    (record,) = load(save(tmp_path / "m.pt", trained_network(name).state_dict())).weight_norms
    assert (record.path, record.layout) == ("0.weight", name)


@pytest.mark.parametrize("name", ["norm-matters-bwn", "quantized-bwn"])
@pytest.mark.parametrize("p", [1, float("inf")])
def test_order_of_the_norm_comes_from_the_layer(name: str, p: float, tmp_path: Path) -> None:
    net = trained_network(name, p=p)
    expected = own(net)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: network(name, p=p))
    assert checkpoint.weight_norms[0].p == p
    assert_same(forward(checkpoint.model), expected)


@layout
@pytest.mark.parametrize("dim", [1, None])
def test_axis_of_the_norm_comes_from_the_layer(name: str, dim: int | None, tmp_path: Path) -> None:
    net = trained_network(name, dim=dim)
    expected = own(net)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: network(name, dim=dim))
    assert checkpoint.weight_norms[0].axis == (-1 if dim is None else dim)
    assert_same(forward(checkpoint.model), expected)


def test_convnet_hook_changes_v_in_place_and_loading_does_not_depend_on_it() -> None:
    net = trained_network("convnet-bwn")
    before = net[0].weight_v.detach().clone()
    (stored,) = stored_weights(State(dict(net[0].state_dict())))
    weight = stored.weight()
    own(net)
    assert not torch.equal(net[0].weight_v, before)
    torch.testing.assert_close(weight.float(), net[0].weight, rtol=1e-5, atol=1e-6)


def test_bounded_weight_keeps_the_layers_norm_whatever_v_is() -> None:
    """norm_matters bwn.py: ||w||_F is the prenorm; the others: every slice has norm rho."""
    for name in BOUNDED:
        net = trained_network(name)
        (stored,) = stored_weights(State(dict(net[0].state_dict())))
        w, rho = stored.weight(), float(present(stored.rho))
        if name == "norm-matters-bwn":
            assert float(w.norm()) == pytest.approx(rho, rel=1e-6)
        else:
            torch.testing.assert_close(w.flatten(1).norm(dim=1), torch.full((5,), rho, dtype=torch.float64))


@settings(max_examples=40)
@given(scale=st.floats(0.01, 100), name=st.sampled_from(sorted(set(ALL) - {"torch-parametrized-weight-norm"})))
def test_the_length_of_v_does_not_matter(scale: float, name: str) -> None:
    state = dict(trained_network(name)[0].state_dict())
    (before,) = stored_weights(State(state))
    (after,) = stored_weights(State({**state, "weight_v": state["weight_v"].double() * scale}))
    torch.testing.assert_close(after.weight(), before.weight(), rtol=1e-9, atol=1e-12)


def test_our_parametrization_is_kept_for_export(tmp_path: Path) -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(nxnn.bounded_weight_norm(nn.Conv2d(3, 5, 3)), nn.ReLU())

    net = make()
    expected = own(net)
    file = save(tmp_path / "m.pt", net.state_dict())
    checkpoint = load(file, model=make)
    assert parametrize.is_parametrized(first_layer(checkpoint), "weight")
    assert checkpoint.weight_norms[0].layout == "normexport-bwn"
    assert_same(forward(checkpoint.model), expected)
    plain = load(file, model=lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()))
    assert_same(forward(plain.model), expected)


def test_axis_and_order_of_our_own_weight_norm_come_from_the_metadata(tmp_path: Path) -> None:
    net = nn.Sequential(nxnn.bounded_weight_norm(nn.ConvTranspose2d(3, 5, 3), dim=1, p=1.0))
    expected = own(net)
    checkpoint = load(
        save(tmp_path / "m.pt", net.state_dict()), model=lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 3))
    )
    (record,) = checkpoint.weight_norms
    assert (record.axis, record.p) == (1, 1.0)
    assert_same(forward(checkpoint.model), expected)


def test_a_hook_that_computes_another_weight_is_refused(tmp_path: Path) -> None:
    class Shrinking:
        name, dim, p = "weight", 0, 2

        def __call__(self, module: Any, inputs: Any) -> None:
            module.weight = module.weight_v * 0.5

    def make() -> nn.Sequential:
        net = network("quantized-bwn")
        net[0]._forward_pre_hooks.clear()
        net[0].register_forward_pre_hook(Shrinking())
        return net

    message = refused(save(tmp_path / "m.pt", make().state_dict()), model=make)
    assert message.startswith("0.weight: its layer computes another weight than quantized-bwn means")


def test_a_layer_that_normalises_in_its_own_forward_is_left_to_it(tmp_path: Path) -> None:
    class Own(nn.Module):
        weight_prenorm: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.weight_v = nn.Parameter(torch.randn(4, 3))
            self.register_buffer("weight_prenorm", torch.tensor(2.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.weight_v * self.weight_prenorm / self.weight_v.norm(dim=1, keepdim=True)).T

    checkpoint = load(save(tmp_path / "m.pt", Own().state_dict()), model=Own)
    assert checkpoint.weight_norms == ()
    assert checkpoint.notes == ("weight: stored as quantized-bwn, computed by its own forward",)


def test_weights_projected_during_training_load_as_they_are(tmp_path: Path) -> None:
    """utils.pytorch's regulariser projects a plain weight: nothing to resolve."""
    net = network()
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=network)
    assert checkpoint.weight_norms == ()
    assert torch.equal(first_layer(checkpoint).weight, net[0].weight)


def test_looking_for_the_hook_leaves_the_layer_as_it_was(tmp_path: Path) -> None:
    """Hooks of other purposes run once while the one that writes the weight is found; a counter must not move."""

    def make() -> nn.Sequential:
        net = network("convnet-bwn")
        net[0].register_buffer("calls", torch.tensor(5.0))
        net[0].register_forward_pre_hook(lambda module, inputs: module.calls.add_(1) and None)
        return net

    checkpoint = load(save(tmp_path / "m.pt", make().state_dict()), model=make)
    assert float(first_layer(checkpoint).calls) == 5
    assert len(first_layer(checkpoint)._forward_pre_hooks) == 1


def test_a_direction_of_zero_is_refused(tmp_path: Path) -> None:
    net = network("quantized-bwn")
    with torch.no_grad():
        net[0].weight_v[2] = 0
    for model in (network, lambda: network("quantized-bwn")):
        assert refused(save(tmp_path / "m.pt", net.state_dict()), model=model).startswith("0.weight: is NaN in 27 of")
