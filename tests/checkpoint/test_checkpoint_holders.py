"""Weights that stand beside other things, or under a prefix, in files of training frameworks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normexport.checkpoint import load
from tests.checkpoint import layouts
from tests.checkpoint.layouts import Net, trained
from tests.checkpoint.support import (
    assert_same,
    batch_norm_net,
    forward,
    l1_factory,
    l1_trained,
    only_norm,
    own_forward,
    refused,
    save,
)


def _under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("prefix", ["model.", "net.", "student.backbone."])
def test_a_prefix_of_all_keys_comes_off_where_the_model_fits_then(tmp_path: Path, prefix: str) -> None:
    net = l1_trained()
    file = save(tmp_path / "m.ckpt", {"state_dict": _under(prefix, net.state_dict()), "hyper_parameters": {}})
    checkpoint = load(file, model=l1_factory)
    assert f"prefix {prefix} taken off" in checkpoint.notes
    assert_same(forward(checkpoint.model), own_forward(net))


def test_a_compiled_network_inside_a_lightning_module_loads(tmp_path: Path) -> None:
    net = l1_trained()
    file = save(tmp_path / "m.ckpt", {"state_dict": _under("model._orig_mod.", net.state_dict())})
    assert_same(forward(load(file, model=l1_factory).model), own_forward(net))


def test_metadata_follows_its_module_when_a_prefix_of_all_keys_comes_off(tmp_path: Path) -> None:
    """Without the counter only the version in the metadata proves the BatchNorm."""
    whole = nn.Module()
    whole.model = batch_norm_net()
    state = whole.state_dict()
    del state["model.bn.num_batches_tracked"]
    assert only_norm(load(save(tmp_path / "m.pt", state), model=batch_norm_net)).dialect == "batchnorm"


def test_a_prefix_comes_off_where_norms_and_weights_have_other_keys_than_the_model(tmp_path: Path) -> None:
    net = Net(trained(layouts.MeanBnL1(6)))
    expected = own_forward(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(net.conv)
    file = save(tmp_path / "m.pt", _under("model.", net.state_dict()))
    assert "running_scale may be the average of d (normexport, mean-bn-l1)" in refused(file, model=batch_norm_net)
    checkpoint = load(file, model=batch_norm_net, dialect="mean-bn-l1")
    assert only_norm(checkpoint).dialect == "mean-bn-l1"
    assert_same(forward(checkpoint.model), expected)


def test_keys_beside_the_prefix_are_left_out_and_noted(tmp_path: Path) -> None:
    net = l1_trained()
    state = {**_under("model.", net.state_dict()), "criterion.weight": torch.ones(10)}
    checkpoint = load(save(tmp_path / "m.pt", state), model=l1_factory)
    assert checkpoint.notes == ("prefix model. taken off", "left out, as it is not under model.: criterion.weight")
    assert_same(forward(checkpoint.model), own_forward(net))


def test_two_copies_of_the_model_are_refused_with_both_prefixes(tmp_path: Path) -> None:
    state = l1_trained().state_dict()
    message = refused(save(tmp_path / "m.pt", {**_under("m.", state), **_under("ema.", state)}), model=l1_factory)
    assert "under each of ema., m.: choose with --prefix ema. or --prefix m." in message


def test_a_model_that_has_the_prefix_too_keeps_it(tmp_path: Path) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Linear(2, 2))

    assert load(save(tmp_path / "m.pt", Whole().state_dict()), model=Whole).notes == ()


@pytest.mark.parametrize(
    "beside",
    [
        {"best_acc": torch.tensor(76.1)},
        {"rng_state": torch.get_rng_state()},
        {"rng": {"torch": torch.get_rng_state()}},
        {"history": np.ones(3)},
        {"opt": torch.optim.Adam([torch.ones(1, requires_grad=True)]).state_dict()},
    ],
)
def test_weights_under_their_own_name_are_found_beside_other_tensors(tmp_path: Path, beside: dict[str, Any]) -> None:
    net = l1_trained()
    file = save(tmp_path / "m.pt", {"my_weights": net.state_dict(), **beside})
    assert_same(forward(load(file, model=l1_factory).model), own_forward(net))


def test_two_networks_beside_a_tensor_are_refused_by_name(tmp_path: Path) -> None:
    state = l1_trained().state_dict()
    file = save(tmp_path / "m.pt", {"netG": state, "netD": state, "best": torch.tensor(1.0)})
    assert "holds several networks (netG, netD)" in refused(file, model=l1_factory)


def test_tuple_of_weights_and_optimizer_loads(tmp_path: Path) -> None:
    net = l1_trained()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    file = save(tmp_path / "m.pt", (net.state_dict(), optimizer.state_dict()))
    assert_same(forward(load(file, model=l1_factory).model), own_forward(net))
    message = refused(save(tmp_path / "m.pt", optimizer.state_dict()))
    assert "holds the state of an optimizer, not weights by name" in message


def test_numpy_and_sparse_weights_load(tmp_path: Path) -> None:
    net = l1_trained()
    changes: tuple[Callable[[torch.Tensor], Any], ...] = (
        lambda v: v.numpy(),
        lambda v: v.to_sparse() if v.dim() == 4 else v,
    )
    for change in changes:
        state = {key: change(value) for key, value in net.state_dict().items()}
        assert_same(forward(load(save(tmp_path / "m.pt", state), model=l1_factory).model), own_forward(net))


def test_weights_without_numbers_are_refused(tmp_path: Path) -> None:
    state = {key: value.to("meta") for key, value in l1_trained().state_dict().items()}
    assert "0.weight has a shape and no numbers" in refused(save(tmp_path / "m.pt", state), model=l1_factory)


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    """load_state_dict would cast them without a word, and their scale is elsewhere."""
    state = l1_trained().state_dict()
    state["0.weight"] = (state["0.weight"] * 100).to(torch.int8)
    message = refused(save(tmp_path / "m.pt", state), model=l1_factory)
    assert "0.weight is int8 in the file and floating-point in the model" in message


def test_parameters_without_running_statistics_say_what_to_save(tmp_path: Path) -> None:
    parameters = dict(l1_trained().named_parameters())
    message = refused(save(tmp_path / "m.pt", parameters), model=l1_factory)
    assert "parameters without running statistics: save model.state_dict()" in message
