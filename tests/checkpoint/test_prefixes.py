"""Keys that are the model's, and keys beside it: prefixes, copies, what is left out."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normexport.checkpoint import Part
from tests.checkpoint.several_networks import expected, loaded, misused, under, weights
from tests.checkpoint.support import (
    assert_same,
    exported,
    l1_factory,
    l1_trained,
    refused,
    save,
)
from tests.checkpoint.weight_files import write_safetensors


def lightning(**more: Any) -> dict[str, Any]:
    """What a Trainer of Lightning writes; `more` keys stand beside the model's."""
    return {
        "epoch": 1,
        "global_step": 7,
        "pytorch-lightning_version": "2.6.1",
        "state_dict": collections.OrderedDict({**under("model.", weights()), **more}),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'a.b'}": {"best_model_score": torch.tensor(0.5), "dirpath": "/a"}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "depth": 3, "name": "run\x1b[31m", "sizes": [1, 2], "loss": nn.ReLU()},
    }


def test_a_file_of_lightning_loads_with_its_settings_and_the_keys_beside_the_model_noted(tmp_path: Path) -> None:
    content = lightning(**{"criterion.weight": torch.ones(4), "accuracy.confmat": torch.zeros(4, 4)})
    got, notes = loaded(save(tmp_path / "m.ckpt", content))
    assert_same(got, expected(1))
    assert notes == (
        "weights are under 'state_dict' of the file",
        "hyper_parameters of the file: lr=0.1, depth=3, name='run\\x1b[31m', sizes=(list), loss=(ReLU)",
        "left out of the file: epoch, global_step, pytorch-lightning_version, loops, callbacks, optimizer_states, "
        "lr_schedulers, hparams_name",
        "prefix model. taken off",
        "left out, as it is not under model.: criterion.weight, accuracy.confmat",
    )


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        (
            {"norm.running_mean": torch.ones(3), "norm.running_var": torch.ones(3)},
            "a norm stands beside it",
        ),
        ({"model_ema.0weight": torch.ones(3)}, "averages of weights stand beside it (model_ema.0weight)"),
        ({"swaModel.x": torch.ones(3)}, "averages of weights stand beside it"),
        ({"averaged.decay": torch.ones(3)}, "averages of weights stand beside it"),
    ],
)
def test_keys_that_can_matter_are_left_out_only_when_that_is_asked_for(
    tmp_path: Path, beside: dict[str, Tensor], words: str
) -> None:
    file = save(tmp_path / "m.ckpt", lightning(**beside))
    message = refused(file, model=l1_factory)
    assert f"the file has the model under model., and {words}" in message
    assert message.endswith(": pass --prefix model. to read that alone")
    for prefix in ("model", "model."):
        got, notes = loaded(file, prefix=prefix)
        assert_same(got, expected(1))
        assert f"left out, as it is not under model.: {', '.join(beside)}" in notes


def test_a_key_that_only_sounds_like_an_average_is_left_out(tmp_path: Path) -> None:
    _, notes = loaded(save(tmp_path / "m.ckpt", lightning(**{"schema.weight": torch.ones(2)})))
    assert "left out, as it is not under model.: schema.weight" in notes


def test_a_key_inside_the_model_is_never_left_out(tmp_path: Path) -> None:
    file = save(tmp_path / "m.ckpt", lightning(**{"model.3.weight": torch.ones(4)}))
    assert "the file has 3.weight, which the model lacks; pass --ignore-keys 3., if they are no part of" in refused(
        file, model=l1_factory
    )
    file = save(tmp_path / "m.ckpt", lightning(**{"model.0.scale": torch.ones(4)}))
    assert "the file has 0.scale, which the model lacks" in refused(file, model=l1_factory)


@pytest.mark.parametrize("wrap", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_two_copies_under_prefixes_are_asked_for_and_chosen(tmp_path: Path, wrap: str) -> None:
    state = under(wrap, {**under("net.", weights()), **under("ema.module.", weights(2))})
    file = save(tmp_path / "m.pt", state)
    assert "under each of ema.module., net.: choose with --prefix ema.module. or --prefix net." in refused(
        file, model=l1_factory
    )
    for prefix, factor in (("net", 1), ("net.", 1), ("ema.module.", 2), ("ema", 2), (f"{wrap}ema.", 2)):
        assert_same(loaded(file, prefix=prefix)[0], expected(factor))


def test_a_copy_beside_the_model_itself_is_asked_for(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {**weights(), **under("ema.", weights(2))})
    words = "the model stands there by itself and under ema.: pass --ignore-keys or --prefix ema."
    assert words in refused(file, model=l1_factory)
    assert_same(loaded(file, prefix="ema.")[0], expected(2))
    got, notes = loaded(file, ignored=("ema.",))
    assert_same(got, expected(1))
    assert any(note.startswith("left out, as --ignore-keys says: ema.0.weight") for note in notes)


def test_entry_prefix_and_ignored_keys_go_together(tmp_path: Path) -> None:
    ema = {"initted": torch.tensor(True), **under("online_model.", weights()), **under("ema_model.", weights(2))}
    ema["ema_model.loss.weight"] = torch.ones(2)
    file = save(tmp_path / "m.pt", {"model": weights(), "ema": ema})
    got, notes = loaded(file, entry="ema", prefix="ema_model.", ignored=("loss.",))
    assert_same(got, expected(2))
    assert "left out, as --ignore-keys says: loss.weight" in notes


def test_keys_at_the_root_beside_the_model_are_refused_with_the_option_that_leaves_them_out(tmp_path: Path) -> None:
    state = {**weights(), "criterion.weight": torch.ones(4), "t": torch.ones(1)}
    file = save(tmp_path / "m.ckpt", {"state_dict": state})
    message = refused(file, model=l1_factory)
    assert "pass --ignore-keys criterion., --ignore-keys t, if they are no part of the network, or make the" in message
    assert_same(loaded(file, ignored=("criterion.", "t"))[0], expected(1))


def test_a_key_that_the_model_needs_is_missed_though_it_was_ignored(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", weights())
    with pytest.raises(Exception, match=r"the model needs 1\.weight, 1\.bias, 1\.running_mean"):
        loaded(file, ignored=("1.",))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"prefix": "modell."}, "--prefix modell.: no key of"),
        ({"prefix": ""}, "--prefix : no key of"),
        ({"prefix": "."}, "--prefix .: no key of"),
        ({"prefix": "mod"}, "they start with model., criterion."),
        ({"ignored": ("x.",)}, "--ignore-keys x.: no key of"),
        ({"ignored": ("",)}, "--ignore-keys : no key of"),
        ({"ignored": ("criterion.", "criterion.")}, "--ignore-keys criterion.: no key of"),
    ],
)
def test_a_prefix_that_no_key_has_is_misused(tmp_path: Path, part: dict[str, Any], words: str) -> None:
    file = save(tmp_path / "m.ckpt", lightning(**{"criterion.weight": torch.ones(4)}))
    assert words in misused(file, **part)


def test_all_keys_ignored_leave_no_weights(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", under("a.", weights()))
    assert "the model needs 0.weight" in refused(file, model=l1_factory, part=Part(ignored=("a.",)))


@pytest.mark.parametrize("part", [{"entry": "model"}, {"prefix": "model."}, {"ignored": ("a",)}])
@pytest.mark.parametrize("kind", ["program", "module", "safetensors"])
def test_options_that_mean_nothing_for_a_file_are_misused(tmp_path: Path, kind: str, part: dict[str, Any]) -> None:
    makers: dict[str, Callable[[Path], Path]] = {
        "program": lambda path: exported(path, l1_trained()),
        "module": lambda path: save(path, l1_trained()),
        "safetensors": lambda path: write_safetensors(path, weights()),
    }
    assert misused(makers[kind](tmp_path / "m"), **part).startswith("--")
