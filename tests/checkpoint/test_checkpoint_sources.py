"""Whole modules, state_dicts, training checkpoints and wrappers: what a file may hold."""

from __future__ import annotations

import argparse
import collections
import os
import pathlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normexport.checkpoint import load, read_state
from tests.checkpoint import layouts
from tests.checkpoint.layouts import Net, trained
from tests.checkpoint.support import (
    Payload,
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


def _old_weight_norm(layer: nn.Linear) -> nn.Linear:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, and in many checkpoints
        return nn.utils.weight_norm(layer)


def test_module_of_torch_and_normexport_classes_loads_without_trust(tmp_path: Path) -> None:
    net = l1_trained()
    checkpoint = load(save(tmp_path / "m.pt", net))
    assert (checkpoint.source, checkpoint.program) == ("module", None)
    assert [(record.path, record.kind) for record in checkpoint.norms] == [("1", "l1")]
    assert not checkpoint.model.training
    assert not any(parameter.requires_grad for parameter in checkpoint.model.parameters())
    assert_same(forward(checkpoint.model), own_forward(net))


def test_every_torch_layer_class_is_on_the_allow_list(tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding="same", padding_mode="circular"),
        nn.ConvTranspose1d(4, 4, 2),
        nn.GELU(),
        nn.Unflatten(1, (2, 2)),
        nn.Flatten(),
        nn.ModuleList([nn.Linear(2, 2), nn.LSTM(2, 2), nn.MultiheadAttention(4, 2)]),
        nn.ParameterDict({"a": torch.ones(2)}),
        nn.TransformerEncoderLayer(4, 2, 8),
        _old_weight_norm(nn.Linear(2, 2)),
        nn.Upsample(scale_factor=2),
    )
    assert load(save(tmp_path / "m.pt", net)).source == "module"


def test_state_in_the_old_file_format_loads(tmp_path: Path) -> None:
    net = l1_trained()
    torch.save(net.state_dict(), tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    assert_same(forward(load(tmp_path / "m.pt", model=l1_factory).model), own_forward(net))


def test_module_in_the_old_file_format_needs_trust(tmp_path: Path) -> None:
    """That format keeps the source of each class beside the weights; PyTorch's safe reader refuses it."""
    net = l1_trained()
    torch.save(net, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    assert "whole module in PyTorch's file format before 1.6" in refused(tmp_path / "m.pt")
    assert_same(forward(load(tmp_path / "m.pt", trust=True).model), own_forward(net))


def test_module_of_other_classes_is_refused_by_name_and_loads_with_trust(tmp_path: Path) -> None:
    net = Net(trained(layouts.LpNormL1(6)))
    message = refused(save(tmp_path / "m.pt", net))
    assert "would run code to be loaded: tests.checkpoint.layouts.LpNormL1, tests.checkpoint.layouts.Net;" in message
    assert "pass --trust" in message
    checkpoint = load(tmp_path / "m.pt", trust=True)
    assert only_norm(checkpoint).dialect == "lp-norm"
    assert_same(forward(checkpoint.model), own_forward(net))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"state_dict": batch_norm_net().state_dict(), "extra": p}])
def test_malicious_pickle_is_refused_and_does_nothing(tmp_path: Path, wrap: Callable[..., Any], zipped: bool) -> None:
    target = tmp_path / "created"
    torch.save(wrap(Payload(target)), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    message = refused(tmp_path / "m.pt", model=batch_norm_net)
    assert f"would run code to be loaded: {os.mkdir.__module__}.mkdir" in message
    assert not target.exists()
    torch.load(tmp_path / "m.pt", weights_only=False)
    assert target.exists(), "the payload must be one that works"


def test_plain_pickle_with_code_is_refused_and_does_nothing(tmp_path: Path) -> None:
    target = tmp_path / "created"
    (tmp_path / "m.pt").write_bytes(pickle.dumps(Payload(target)))
    refused(tmp_path / "m.pt")
    assert not target.exists()


def test_training_checkpoint_with_what_scripts_put_beside_the_weights(tmp_path: Path) -> None:
    net = Net(trained(layouts.LpNormL1(6)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    own_forward(net)
    checkpoint = {
        "epoch": 90,
        "model": "resnet",
        "config": argparse.Namespace(lr=0.1, path=pathlib.Path("/data")),
        "state_dict": net.state_dict(),
        "best_prec1": np.float64(76.1),
        "best_acc": torch.tensor(76.1),
        "history": collections.defaultdict(list, loss=[np.float32(1), np.arange(3)]),
        "regime": [{"epoch": 0, "lr": 0.1}],
        "optim_state_dict": optimizer.state_dict(),
    }
    loaded = load(save(tmp_path / "m.pt", checkpoint), model=lambda: Net(layouts.LpNormL1(6)))
    assert loaded.source == "state_dict"
    assert "weights are under 'state_dict' of the file" in loaded.notes
    assert any(note.startswith("left out of the file: epoch, model, config, best_prec1") for note in loaded.notes)
    assert_same(forward(loaded.model), own_forward(net))


@pytest.mark.parametrize("key", ["model_state_dict", "model", "module", "net", "ema", "my_own_name"])
def test_weights_are_found_under_their_usual_names(tmp_path: Path, key: str) -> None:
    net = l1_trained()
    file = save(tmp_path / "m.pt", {"epoch": 1, key: net.state_dict(), "optimizer": {"state": {0: torch.ones(1)}}})
    assert_same(forward(load(file, model=l1_factory).model), own_forward(net))


def test_module_inside_a_training_checkpoint_is_found(tmp_path: Path) -> None:
    net = l1_trained()
    assert load(save(tmp_path / "m.pt", {"epoch": 1, "model": net})).source == "module"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.{key}",
        lambda key: f"_orig_mod.module.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: key.replace("1.", "1._orig_mod."),
    ],
)
def test_prefixes_of_wrappers_come_off(tmp_path: Path, wrap: Callable[..., Any]) -> None:
    """torch.compile writes its prefix in the middle of keys too, where a part of the model was compiled."""
    net = l1_trained()
    state = {wrap(key): value for key, value in net.state_dict().items()}
    assert_same(forward(load(save(tmp_path / "m.pt", state), model=l1_factory).model), own_forward(net))
    assert set(read_state(tmp_path / "m.pt").tensors) == set(net.state_dict())


def test_metadata_follows_its_module_when_a_prefix_comes_off(tmp_path: Path) -> None:
    """A DataParallel state without the counter: only the version proves the BatchNorm."""
    net = nn.DataParallel(batch_norm_net())
    state = net.state_dict()
    del state["module.bn.num_batches_tracked"]
    assert only_norm(load(save(tmp_path / "m.pt", state), model=batch_norm_net)).dialect == "batchnorm"


def test_averaged_weights_load(tmp_path: Path) -> None:
    net = l1_trained()
    averaged = torch.optim.swa_utils.AveragedModel(net)
    averaged.update_parameters(net)
    checkpoint = load(save(tmp_path / "m.pt", averaged.state_dict()), model=l1_factory)
    assert "weights are an average of 1 models" in checkpoint.notes
    assert_same(forward(checkpoint.model), own_forward(net))


def test_a_prefix_that_only_some_keys_have_stays(tmp_path: Path) -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.head = nn.Linear(2, 2), nn.Linear(2, 2)

    assert load(save(tmp_path / "m.pt", Part().state_dict()), model=Part).notes == ()


def test_a_prefix_that_the_model_has_too_stays(tmp_path: Path) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    assert load(save(tmp_path / "m.pt", Whole().state_dict()), model=Whole).notes == ()


def test_pickled_data_parallel_is_unwrapped(tmp_path: Path) -> None:
    net = l1_trained()
    checkpoint = load(save(tmp_path / "m.pt", nn.DataParallel(net)))
    assert_same(forward(checkpoint.model), own_forward(net))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_weights_are_widened_and_noted(tmp_path: Path, dtype: torch.dtype) -> None:
    net = l1_trained().to(dtype)
    for thing, model in ((net, None), (net.state_dict(), l1_factory)):
        checkpoint = load(save(tmp_path / "m.pt", thing), model=model)
        assert {value.dtype for value in checkpoint.model.parameters()} == {torch.float32}
        assert any(str(dtype).removeprefix("torch.") in note for note in checkpoint.notes)
        assert_same(forward(checkpoint.model), own_forward(net))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from inside torch.compile
@pytest.mark.parametrize("compiled", [lambda net: torch.compile(net), lambda net: _with_compiled_norm(net)])
def test_compiled_model_of_the_factory_is_unwrapped(tmp_path: Path, compiled: Callable[..., Any]) -> None:
    net = l1_trained()
    for state in (net.state_dict(), compiled(l1_trained()).state_dict()):
        checkpoint = load(save(tmp_path / "m.pt", state), model=lambda: compiled(l1_factory()))
        assert [record.path for record in checkpoint.norms] == ["1"]
        assert_same(forward(checkpoint.model), own_forward(net))


def _with_compiled_norm(net: nn.Sequential) -> nn.Sequential:
    compiled: Any = torch.compile(net[1])
    net[1] = compiled
    return net
