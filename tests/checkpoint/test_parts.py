"""Files of several networks: which is meant is asked for, and what is left out is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from normexport.checkpoint import Part, read_state
from tests.checkpoint.several_networks import expected, loaded, misused, under, weights
from tests.checkpoint.support import (
    assert_same,
    l1_factory,
    l1_trained,
    refused,
    save,
)

AVERAGED = {"n_averaged": torch.tensor(5), **under("module.", weights(2))}
#: How training scripts keep a network and its average: the file, the entry of each.
PAIRS: dict[str, tuple[dict[str, Any], str, str]] = {
    "two state_dicts": ({"state_dict": weights(), "state_dict_ema": weights(2)}, "state_dict", "state_dict_ema"),
    "torchvision": ({"model": weights(), "model_ema": AVERAGED, "epoch": 3}, "model", "model_ema"),
    "compiled": ({"model": under("_orig_mod.", weights()), "ema": weights(2)}, "model", "ema"),
    "modules": ({"model": l1_trained(), "ema": weights(2)}, "model", "ema"),
    "of an unusual name": ({"state_dict": weights(), "swa_weights": weights(2)}, "state_dict", "swa_weights"),
    "nested": ({"nets": {"model": weights(), "ema": weights(2)}, "epoch": 3}, "nets.model", "nets.ema"),
    "in callbacks": (
        {"state_dict": weights(), "callbacks": {"EMA": {"ema": weights(2)}}},
        "state_dict",
        "callbacks.EMA.ema",
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_a_network_and_its_average_are_asked_for_and_chosen(tmp_path: Path, pair: str) -> None:
    content, model, ema = PAIRS[pair]
    file = save(tmp_path / "m.pt", content)
    message = refused(file, model=l1_factory)
    assert f"holds several networks ({model}, {ema}); choose with --weights {model} or --weights {ema}" in message
    for name, factor in ((model, 1), (ema, 2), ("model", 1), ("ema", 2)):
        got, notes = loaded(file, entry=name)
        assert_same(got, expected(factor))
        entry = model if factor == 1 else ema
        assert any(note.startswith(f"weights are under '{entry}") for note in notes) or pair == "modules"


def test_without_code_the_choice_is_asked_for_too(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {"state_dict": weights(), "ema_state_dict": weights(2)})
    assert "holds several networks" in refused(file)
    state = read_state(file, part=Part("ema")).tensors
    assert torch.equal(state["0.weight"], weights(2)["0.weight"])


@pytest.mark.parametrize(
    "beside",
    [
        {"ema": None},
        {"ema": {}},
        {"ema": weights()},
        {"ema": under("module.", weights())},
        {"state": {"best": torch.tensor(0.9), "steps": torch.tensor(3)}},
        {"history": {"loss": torch.ones(2)}},
        {"scaler": {"scale": torch.tensor(2.0)}},
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}},
        {"optim_ema": weights(2)},
        {"callbacks": {"Checkpoint": {"best": torch.tensor(0.9), "kth": torch.ones(3)}}},
    ],
)
def test_what_is_no_other_network_leaves_no_choice_and_is_listed(tmp_path: Path, beside: dict[str, Any]) -> None:
    got, notes = loaded(save(tmp_path / "m.pt", {"model": weights(), **beside}))
    assert_same(got, expected(1))
    assert notes == ("weights are under 'model' of the file", f"left out of the file: {next(iter(beside))}")


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.half(),
        lambda value: value.to(torch.float8_e4m3fn),
        lambda value: value * torch.nan,
        lambda value: value + 1e-7 * value.abs().max(),
        lambda value: value.to(torch.complex64).conj(),
    ],
)
def test_what_differs_in_type_or_in_a_bit_is_another_network(tmp_path: Path, change: Callable[..., Any]) -> None:
    other = {key: change(value) if key.startswith("0.") else value for key, value in weights().items()}
    assert "holds several networks (model, ema)" in refused(save(tmp_path / "m.pt", {"model": weights(), "ema": other}))


@pytest.mark.parametrize("change", [lambda value: value.to(torch.float8_e4m3fn), lambda value: value * torch.nan])
def test_two_names_of_the_same_bits_are_one_network(tmp_path: Path, change: Callable[..., Any]) -> None:
    states = [{key: change(value) for key, value in weights().items()} for _ in range(2)]
    file = save(tmp_path / "m.pt", dict(zip(("model", "ema"), states, strict=True)))
    assert read_state(file).tensors.keys() == weights().keys()


def test_two_networks_of_other_names_are_chosen_by_name(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {"netG": weights(), "netD": weights(2), "step": 3})
    assert "holds several networks (netG, netD); choose with --weights netG or --weights netD" in refused(file)
    assert_same(loaded(file, entry="netD")[0], expected(2))


def test_a_name_with_dots_is_one_name_first(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {"a.b": weights(), "a": {"b": weights(2), "c.d": weights(3)}})
    assert_same(loaded(file, entry="a.b")[0], expected(1))
    assert_same(loaded(file, entry="a.c.d")[0], expected(3))


def test_a_part_of_a_tuple_is_chosen_by_its_number(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", (weights(), weights(2)))
    assert "holds several networks (0, 1)" in refused(file)
    assert_same(loaded(file, entry="1")[0], expected(2))


@pytest.mark.parametrize(
    ("content", "entry", "words"),
    [
        ({"model": weights(), "ema": weights(2)}, "emma", "it has weights under model, ema"),
        ({"model": weights(), "ema": weights(2)}, "", "it has weights under model, ema"),
        ({"model": weights(), "epoch": 3}, "epoch", "it has weights under model"),
        ({"model": weights(), "epoch": 3}, "ema", "it has weights under model"),
        ({"model": weights(), "ema": None}, "ema", "it has weights under model"),
        ({"netG": weights(), "netD": weights(2)}, "model", "it has weights under netG, netD"),
        ({"swa": weights(), "ema": weights(2)}, "model", "it has weights under ema"),
        (weights(), "state_dict", "it has no such entries"),
        (weights(), "0.weight", "it has no such entries"),
        ({"model": weights()}, "model.0", "it has weights under model"),
        ({"model": weights()}, "a\x1b[31m", "names no weights in"),
    ],
)
def test_an_entry_that_is_not_there_is_misused_with_those_that_are(
    tmp_path: Path, content: Any, entry: str, words: str
) -> None:
    message = misused(save(tmp_path / "m.pt", content), entry=entry)
    assert message.startswith("--weights ")
    assert words in message
    assert message.isprintable()
