"""Files of several networks: which is meant is asked for, and what is left out is said."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normexport.checkpoint import Part, load, read_state
from normexport.errors import ExitCode, UsageError
from tests.checkpoint.support import (
    Payload,
    assert_same,
    exported,
    forward,
    l1_factory,
    l1_trained,
    own_forward,
    refused,
    save,
)
from tests.checkpoint.weight_files import write_safetensors


def _state(factor: float = 1) -> dict[str, Tensor]:
    """The weights of the network, those of its convolution times `factor`."""
    return {key: value * factor if key.startswith("0.") else value for key, value in l1_trained().state_dict().items()}


def _expected(factor: float) -> Tensor:
    net = l1_trained()
    net.load_state_dict(_state(factor))
    return own_forward(net)


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def _loaded(file: Path, **part: Any) -> tuple[Tensor, tuple[str, ...]]:
    checkpoint = load(file, model=l1_factory, part=Part(**part))
    return forward(checkpoint.model), checkpoint.notes


def _misused(file: Path, **part: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(file, model=l1_factory, part=Part(**part))
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


AVERAGED = {"n_averaged": torch.tensor(5), **_under("module.", _state(2))}
#: How training scripts keep a network and its average: the file, the entry of each.
PAIRS: dict[str, tuple[dict[str, Any], str, str]] = {
    "two state_dicts": ({"state_dict": _state(), "state_dict_ema": _state(2)}, "state_dict", "state_dict_ema"),
    "torchvision": ({"model": _state(), "model_ema": AVERAGED, "epoch": 3}, "model", "model_ema"),
    "compiled": ({"model": _under("_orig_mod.", _state()), "ema": _state(2)}, "model", "ema"),
    "modules": ({"model": l1_trained(), "ema": _state(2)}, "model", "ema"),
    "of an unusual name": ({"state_dict": _state(), "swa_weights": _state(2)}, "state_dict", "swa_weights"),
    "nested": ({"nets": {"model": _state(), "ema": _state(2)}, "epoch": 3}, "nets.model", "nets.ema"),
    "in callbacks": (
        {"state_dict": _state(), "callbacks": {"EMA": {"ema": _state(2)}}},
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
        got, notes = _loaded(file, entry=name)
        assert_same(got, _expected(factor))
        entry = model if factor == 1 else ema
        assert any(note.startswith(f"weights are under '{entry}") for note in notes) or pair == "modules"


def test_without_code_the_choice_is_asked_for_too(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {"state_dict": _state(), "ema_state_dict": _state(2)})
    assert "holds several networks" in refused(file)
    state = read_state(file, part=Part("ema")).tensors
    assert torch.equal(state["0.weight"], _state(2)["0.weight"])


@pytest.mark.parametrize(
    "beside",
    [
        {"ema": None},
        {"ema": {}},
        {"ema": _state()},
        {"ema": _under("module.", _state())},
        {"state": {"best": torch.tensor(0.9), "steps": torch.tensor(3)}},
        {"history": {"loss": torch.ones(2)}},
        {"scaler": {"scale": torch.tensor(2.0)}},
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}},
        {"optim_ema": _state(2)},
        {"callbacks": {"Checkpoint": {"best": torch.tensor(0.9), "kth": torch.ones(3)}}},
    ],
)
def test_what_is_no_other_network_leaves_no_choice_and_is_listed(tmp_path: Path, beside: dict[str, Any]) -> None:
    got, notes = _loaded(save(tmp_path / "m.pt", {"model": _state(), **beside}))
    assert_same(got, _expected(1))
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
    other = {key: change(value) if key.startswith("0.") else value for key, value in _state().items()}
    assert "holds several networks (model, ema)" in refused(save(tmp_path / "m.pt", {"model": _state(), "ema": other}))


@pytest.mark.parametrize("change", [lambda value: value.to(torch.float8_e4m3fn), lambda value: value * torch.nan])
def test_two_names_of_the_same_bits_are_one_network(tmp_path: Path, change: Callable[..., Any]) -> None:
    states = [{key: change(value) for key, value in _state().items()} for _ in range(2)]
    file = save(tmp_path / "m.pt", dict(zip(("model", "ema"), states, strict=True)))
    assert read_state(file).tensors.keys() == _state().keys()


def test_two_networks_of_other_names_are_chosen_by_name(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {"netG": _state(), "netD": _state(2), "step": 3})
    assert "holds several networks (netG, netD); choose with --weights netG or --weights netD" in refused(file)
    assert_same(_loaded(file, entry="netD")[0], _expected(2))


def test_a_name_with_dots_is_one_name_first(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {"a.b": _state(), "a": {"b": _state(2), "c.d": _state(3)}})
    assert_same(_loaded(file, entry="a.b")[0], _expected(1))
    assert_same(_loaded(file, entry="a.c.d")[0], _expected(3))


def test_a_part_of_a_tuple_is_chosen_by_its_number(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", (_state(), _state(2)))
    assert "holds several networks (0, 1)" in refused(file)
    assert_same(_loaded(file, entry="1")[0], _expected(2))


@pytest.mark.parametrize(
    ("content", "entry", "words"),
    [
        ({"model": _state(), "ema": _state(2)}, "emma", "it has weights under model, ema"),
        ({"model": _state(), "ema": _state(2)}, "", "it has weights under model, ema"),
        ({"model": _state(), "epoch": 3}, "epoch", "it has weights under model"),
        ({"model": _state(), "epoch": 3}, "ema", "it has weights under model"),
        ({"model": _state(), "ema": None}, "ema", "it has weights under model"),
        ({"netG": _state(), "netD": _state(2)}, "model", "it has weights under netG, netD"),
        ({"swa": _state(), "ema": _state(2)}, "model", "it has weights under ema"),
        (_state(), "state_dict", "it has no such entries"),
        (_state(), "0.weight", "it has no such entries"),
        ({"model": _state()}, "model.0", "it has weights under model"),
        ({"model": _state()}, "a\x1b[31m", "names no weights in"),
    ],
)
def test_an_entry_that_is_not_there_is_misused_with_those_that_are(
    tmp_path: Path, content: Any, entry: str, words: str
) -> None:
    message = _misused(save(tmp_path / "m.pt", content), entry=entry)
    assert message.startswith("--weights ")
    assert words in message
    assert message.isprintable()


# Entries that would run code.


class Settings:
    """A class of a training script, which is not here to be imported."""

    def __init__(self) -> None:
        self.lr = 0.1


@pytest.mark.parametrize("zipped", [True, False])
def test_with_the_entry_named_the_rest_is_not_read_and_runs_nothing(tmp_path: Path, zipped: bool) -> None:
    target = tmp_path / "created"
    content = {
        "state_dict": _state(),
        "hyper_parameters": {"lr": 0.1, "config": Settings()},
        "callbacks": Payload(target),
        "args": [Settings()],
    }
    torch.save(content, tmp_path / "m.ckpt", _use_new_zipfile_serialization=zipped)
    message = refused(tmp_path / "m.ckpt", model=l1_factory)
    assert "would run code to be loaded: posix.mkdir, tests.checkpoint.test_parts.Settings" in message
    assert "pass --weights state_dict to read nothing else of it, or pass --trust" in message
    got, notes = _loaded(tmp_path / "m.ckpt", entry="state_dict")
    assert_same(got, _expected(1))
    assert "hyper_parameters of the file: lr=0.1, config=(tests.checkpoint.test_parts.Settings)" in notes
    assert "callbacks of the file is not read, as it would run code: posix.mkdir" in notes
    assert not target.exists()


@pytest.mark.parametrize(
    "hostile",
    [
        lambda payload: {"state_dict": {**_state(), "0.weight": payload}},
        lambda payload: {"state_dict": payload},
        lambda payload: {"state_dict": {"state_dict": {"a": payload}}},
    ],
)
def test_weights_that_would_run_code_are_refused_though_they_are_named(
    tmp_path: Path, hostile: Callable[[Any], Any]
) -> None:
    target = tmp_path / "created"
    file = save(tmp_path / "m.pt", hostile(Payload(target)))
    for part in (Part(), Part("state_dict")):
        with pytest.raises(Exception, match=r"would run code|names no weights|lacks") as caught:
            load(file, model=l1_factory, part=part)
        assert "\n" not in str(caught.value)
    assert not target.exists()


def test_a_key_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Key:
        def __reduce__(self) -> Any:
            return eval, ("1",)

        def __hash__(self) -> int:
            return 1

    file = save(tmp_path / "m.pt", {"state_dict": _state(), Key(): 1})
    assert "would run code to be loaded: builtins.eval" in refused(file, part=Part("state_dict"))


def test_entries_of_a_trillion_paths_are_pruned_once(tmp_path: Path) -> None:
    level: Any = [Settings()]
    for _ in range(3):
        level = {f"entry {number}": level for number in range(300)}
    deep: Any = [Settings()]
    for _ in range(60):
        deep = [deep, deep]
    file = save(tmp_path / "m.pt", {"state_dict": _state(), "wide": level, "deep": deep})
    assert_same(_loaded(file, entry="state_dict")[0], _expected(1))


# Keys.


def _lightning(**more: Any) -> dict[str, Any]:
    """What a Trainer of Lightning writes; `more` keys stand beside the model's."""
    return {
        "epoch": 1,
        "global_step": 7,
        "pytorch-lightning_version": "2.6.1",
        "state_dict": collections.OrderedDict({**_under("model.", _state()), **more}),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'a.b'}": {"best_model_score": torch.tensor(0.5), "dirpath": "/a"}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "depth": 3, "name": "run\x1b[31m", "sizes": [1, 2], "loss": nn.ReLU()},
    }


def test_a_file_of_lightning_loads_with_its_settings_and_the_keys_beside_the_model_noted(tmp_path: Path) -> None:
    content = _lightning(**{"criterion.weight": torch.ones(4), "accuracy.confmat": torch.zeros(4, 4)})
    got, notes = _loaded(save(tmp_path / "m.ckpt", content))
    assert_same(got, _expected(1))
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
    file = save(tmp_path / "m.ckpt", _lightning(**beside))
    message = refused(file, model=l1_factory)
    assert f"the file has the model under model., and {words}" in message
    assert message.endswith(": pass --prefix model. to read that alone")
    for prefix in ("model", "model."):
        got, notes = _loaded(file, prefix=prefix)
        assert_same(got, _expected(1))
        assert f"left out, as it is not under model.: {', '.join(beside)}" in notes


def test_a_key_that_only_sounds_like_an_average_is_left_out(tmp_path: Path) -> None:
    _, notes = _loaded(save(tmp_path / "m.ckpt", _lightning(**{"schema.weight": torch.ones(2)})))
    assert "left out, as it is not under model.: schema.weight" in notes


def test_a_key_inside_the_model_is_never_left_out(tmp_path: Path) -> None:
    file = save(tmp_path / "m.ckpt", _lightning(**{"model.3.weight": torch.ones(4)}))
    assert "the file has 3.weight, which the model lacks; pass --ignore-keys 3., if they are no part of" in refused(
        file, model=l1_factory
    )
    file = save(tmp_path / "m.ckpt", _lightning(**{"model.0.scale": torch.ones(4)}))
    assert "the file has 0.scale, which the model lacks" in refused(file, model=l1_factory)


@pytest.mark.parametrize("wrap", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_two_copies_under_prefixes_are_asked_for_and_chosen(tmp_path: Path, wrap: str) -> None:
    state = _under(wrap, {**_under("net.", _state()), **_under("ema.module.", _state(2))})
    file = save(tmp_path / "m.pt", state)
    assert "under each of ema.module., net.: choose with --prefix ema.module. or --prefix net." in refused(
        file, model=l1_factory
    )
    for prefix, factor in (("net", 1), ("net.", 1), ("ema.module.", 2), ("ema", 2), (f"{wrap}ema.", 2)):
        assert_same(_loaded(file, prefix=prefix)[0], _expected(factor))


def test_a_copy_beside_the_model_itself_is_asked_for(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {**_state(), **_under("ema.", _state(2))})
    words = "the model stands there by itself and under ema.: pass --ignore-keys or --prefix ema."
    assert words in refused(file, model=l1_factory)
    assert_same(_loaded(file, prefix="ema.")[0], _expected(2))
    got, notes = _loaded(file, ignored=("ema.",))
    assert_same(got, _expected(1))
    assert any(note.startswith("left out, as --ignore-keys says: ema.0.weight") for note in notes)


def test_entry_prefix_and_ignored_keys_go_together(tmp_path: Path) -> None:
    ema = {"initted": torch.tensor(True), **_under("online_model.", _state()), **_under("ema_model.", _state(2))}
    ema["ema_model.loss.weight"] = torch.ones(2)
    file = save(tmp_path / "m.pt", {"model": _state(), "ema": ema})
    got, notes = _loaded(file, entry="ema", prefix="ema_model.", ignored=("loss.",))
    assert_same(got, _expected(2))
    assert "left out, as --ignore-keys says: loss.weight" in notes


def test_keys_at_the_root_beside_the_model_are_refused_with_the_option_that_leaves_them_out(tmp_path: Path) -> None:
    state = {**_state(), "criterion.weight": torch.ones(4), "t": torch.ones(1)}
    file = save(tmp_path / "m.ckpt", {"state_dict": state})
    message = refused(file, model=l1_factory)
    assert "pass --ignore-keys criterion., --ignore-keys t, if they are no part of the network, or make the" in message
    assert_same(_loaded(file, ignored=("criterion.", "t"))[0], _expected(1))


def test_a_key_that_the_model_needs_is_missed_though_it_was_ignored(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", _state())
    with pytest.raises(Exception, match=r"the model needs 1\.weight, 1\.bias, 1\.running_mean"):
        _loaded(file, ignored=("1.",))


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
    file = save(tmp_path / "m.ckpt", _lightning(**{"criterion.weight": torch.ones(4)}))
    assert words in _misused(file, **part)


def test_all_keys_ignored_leave_no_weights(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", _under("a.", _state()))
    assert "the model needs 0.weight" in refused(file, model=l1_factory, part=Part(ignored=("a.",)))


@pytest.mark.parametrize("part", [{"entry": "model"}, {"prefix": "model."}, {"ignored": ("a",)}])
@pytest.mark.parametrize("kind", ["program", "module", "safetensors"])
def test_options_that_mean_nothing_for_a_file_are_misused(tmp_path: Path, kind: str, part: dict[str, Any]) -> None:
    makers: dict[str, Callable[[Path], Path]] = {
        "program": lambda path: exported(path, l1_trained()),
        "module": lambda path: save(path, l1_trained()),
        "safetensors": lambda path: write_safetensors(path, _state()),
    }
    assert _misused(makers[kind](tmp_path / "m"), **part).startswith("--")
