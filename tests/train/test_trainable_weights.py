"""Weights under weight norm of every layout go on in layers with ours: the same weight, the same gradient of v."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

import normexport
import normexport.nn as nxn
from normexport.checkpoint import LAYOUTS
from normexport.errors import CheckpointError
from normexport.runtime import OnnxRuntime
from normexport.train import load_trainable
from tests.checkpoint.bounded import BOUNDED
from tests.checkpoint.support import save

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")

LAYERS: dict[str, Any] = {
    **BOUNDED,
    "torch-weight-norm": lambda layer, dim=0: weight_norm(layer, dim=dim),
    "torch-parametrized-weight-norm": lambda layer, dim=0: parametrizations.weight_norm(layer, dim=dim),
}
#: Words of what a bounded layer of ours does not do as the layout's own.
LOST = {
    "norm-matters-bwn": "shared the layer's norm out",
    "convnet-bwn": "length 1",
    "torch-weight-norm": "length per channel",
    "torch-parametrized-weight-norm": "length per channel",
}


def theirs(name: str, **options: Any) -> Any:
    """Directions and lengths moved away from where they started, as training does; one forward has run."""
    torch.manual_seed(3)
    conv = LAYERS[name](nn.Conv2d(3, 5, 3), **options)
    net = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(5, 2, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.7).add_(0.1 * torch.randn_like(parameter))
        net(images())
    return net


def ours(**options: Any) -> Any:
    torch.manual_seed(7)
    return nn.Sequential(nxn.bounded_weight_norm(nn.Conv2d(3, 5, 3), **options), nn.ReLU(), nn.Conv2d(5, 2, 1))


def images() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def direction(net: Any) -> torch.Tensor:
    """The parameter that holds v."""
    found = dict(net.named_parameters())
    keys = ("0.weight_v", "0.parametrizations.weight.original1", "0.parametrizations.weight.original")
    return next(found[key] for key in keys if key in found)


def test_every_layout_of_others_is_tried() -> None:
    assert {*LAYERS, "normexport-bwn"} == {layout.name for layout in LAYOUTS}


@pytest.mark.parametrize("name", LAYERS)
def test_the_weight_and_the_gradient_of_v_go_on(name: str, tmp_path: Path) -> None:
    """Of what is learned in both, a step of SGD is the same."""
    net, mine = theirs(name), ours()
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    done = load_trainable(save(tmp_path / "m.pt", {"epoch": 3, "state_dict": state}), mine)
    (weight,) = done.weights
    assert (weight.path, weight.layout, done.norms) == ("0.weight", name, ())
    assert len(weight.lost) == (name in LOST)
    assert LOST.get(name, "") in "".join(weight.lost)
    grads = []
    for each in (net, mine):
        y = each(images())
        (grad,) = torch.autograd.grad(y.square().sum(), direction(each))
        grads.append((y.detach(), grad, direction(each).detach()))
    for got, right in zip(grads[1], grads[0], strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-5 * float(right.abs().max()))


@pytest.mark.parametrize("name", BOUNDED)
def test_the_norm_stays_bounded_while_training_goes_on(name: str) -> None:
    net, mine = theirs(name), ours()
    load_trainable(net.state_dict(), mine)
    before = mine[0].weight.detach().flatten(1).norm(dim=1)
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        mine(images()).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(mine[0].weight.detach().flatten(1).norm(dim=1), before, rtol=1e-5, atol=0)
    assert direction(mine).norm() > direction(net).norm()  # a step at right angles makes v longer


@pytest.mark.parametrize("name", LAYERS)
def test_what_goes_on_is_saved_loaded_and_exported_as_any_other(name: str, tmp_path: Path) -> None:
    mine, again = ours(), ours()
    load_trainable(theirs(name).state_dict(), mine)
    expected = mine(images()).detach()
    again.load_state_dict(mine.state_dict())
    torch.testing.assert_close(again(images()), expected, rtol=0, atol=0)
    third = ours()
    assert load_trainable(mine.state_dict(), third).weights == ()
    torch.testing.assert_close(third(images()), expected, rtol=0, atol=0)
    checkpoint = normexport.load(save(tmp_path / "m.pt", mine.state_dict()), model=ours)
    normexport.export(checkpoint, ["x=3x8x8"], tmp_path / "m.onnx")
    (found,) = OnnxRuntime(tmp_path / "m.onnx").run({"x": images().numpy()}).values()
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_a_plain_layer_gets_the_weight_and_is_told(name: str) -> None:
    net = theirs(name)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1))
    (weight,) = load_trainable(net.state_dict(), plain).weights
    assert ("nn.bounded_weight_norm" in weight.lost[0]) == (name in BOUNDED)
    with torch.no_grad():
        torch.testing.assert_close(plain(images()), net(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [1.0, float("inf")])
def test_an_order_that_the_file_does_not_say_is_the_models(p: float) -> None:
    net, mine = theirs("quantized-bwn", p=p), ours(p=p)
    load_trainable(net.state_dict(), mine)
    with torch.no_grad():
        torch.testing.assert_close(mine(images()), net(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "given", "options", "cause"),
    [
        ("torch-weight-norm", {"dim": 1}, {}, "axis 1 with p=2 in the file, and with axis=0, p=2 here"),
        ("convnet-bwn", {}, {"p": 1.0}, "p=2 in the file, and with axis=0, p=1 here"),
    ],
)
def test_another_axis_or_order_is_refused_and_the_model_stays(name: str, given: Any, options: Any, cause: str) -> None:
    mine = ours(**options)
    before = copy.deepcopy(mine.state_dict())
    with pytest.raises(CheckpointError, match=cause) as caught:
        load_trainable(theirs(name, **given).state_dict(), mine)
    assert "\n" not in str(caught.value)
    assert "bounded_weight_norm(dim=" in str(caught.value)
    for key, value in mine.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_slice_without_a_direction_is_refused() -> None:
    net = theirs("quantized-bwn")
    state = net.state_dict()
    state["0.weight_v"][2] = 0
    with pytest.raises(CheckpointError, match=r"0\.weight"):
        load_trainable(state, ours())
