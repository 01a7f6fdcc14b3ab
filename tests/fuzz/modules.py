"""Checkpoints as objects: a module or a state changed in memory as no trainer leaves it, then saved by `torch.save`."""

from __future__ import annotations

import collections
import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from normexport.nn import L1BatchNorm2d
from tests.fuzz import hostile, seeds
from tests.fuzz.dice import Dice


def mutate(dice: Dice) -> tuple[bytes, list[str]]:
    """A file with a few changes of what it holds, and those changes in words."""
    for _ in range(20):
        if dice.chance(55):
            held: Any = _module(dice)
            change: Callable[[Any, Dice], str] = change_module
        else:
            held = dict(seeds_state())
            change = change_state
        with contextlib.suppress(Exception), warnings.catch_warnings():  # not everything can be made, or saved
            warnings.simplefilter("ignore")
            steps = [change(held, dice) for _ in range(dice.few())]
            if dice.chance(15):
                held, words = _wrapped(held, dice)
                steps.append(words)
            how = {"_use_new_zipfile_serialization": False} if dice.chance(15) else {}
            return seeds.saved(held, **how), ["object", *steps]
    return seeds.checkpoints()["state"], ["nothing"]


def seeds_state() -> dict[str, Any]:
    """A state of its own at every call."""
    from tests.cli import small_nets

    return {name: value.clone() for name, value in small_nets.trained().state_dict().items()}


def _module(dice: Dice) -> nn.Module:
    """The plain module, or one of the classes of torch.nn that a checkpoint can hold."""
    if dice.chance(50):
        return seeds.plain_module()
    torch.manual_seed(0)
    others: tuple[Callable[[], nn.Module], ...] = (
        lambda: nn.LSTM(3, 4), lambda: nn.Embedding(5, 3), lambda: nn.LazyConv2d(4, 3), lambda: nn.LazyBatchNorm2d(),
        lambda: nn.BatchNorm2d(3), lambda: nn.TransformerEncoderLayer(8, 2), lambda: nn.MultiheadAttention(8, 2),
        lambda: nn.Conv2d(3, 4, 3, padding_mode="circular"),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), lambda: nn.utils.weight_norm(nn.Linear(3, 3)),
        lambda: nn.Upsample(scale_factor=2), lambda: nn.DataParallel(seeds.plain_module()),
        lambda: nn.ModuleList([nn.Linear(2, 2)]), lambda: nn.ModuleDict({"a": nn.ReLU()}), lambda: nn.Identity(),
        lambda: nn.Module(), lambda: nn.MaxPool2d(2), lambda: nn.GroupNorm(1, 3), lambda: nn.Unflatten(1, (1, 3)),
        lambda: nn.PReLU(), lambda: nn.ParameterList([nn.Parameter(torch.ones(2))]), lambda: nn.Sequential(),
        lambda: nn.Fold(3, 2), lambda: nn.PixelShuffle(2), lambda: nn.ConvTranspose2d(3, 4, 3),
        lambda: nn.InstanceNorm2d(3), lambda: nn.AdaptiveAvgPool2d((1, None)), lambda: L1BatchNorm2d(3),
        lambda: nn.Flatten(0, -1), lambda: nn.Softmax(), lambda: nn.Dropout(2 / 3), lambda: nn.LocalResponseNorm(2),
        lambda: nn.ZeroPad2d(1),
    )  # fmt: skip
    made: nn.Module = dice.one_of(others)()
    return made if dice.chance(30) else nn.Sequential(made, nn.ReLU())


def tensor(dice: Dice) -> Any:
    """A tensor of a kind that a state seldom holds, or no tensor."""
    makers: tuple[Callable[[], Any], ...] = (
        lambda: torch.ones(6).expand(10**6, 6), lambda: torch.ones(1).as_strided((2**20, 2**18), (0, 0)),
        lambda: torch.zeros(0), lambda: torch.tensor(1.0), lambda: torch.full((6,), dice.one_of(hostile.FLOATS)),
        lambda: torch.ones(6, dtype=torch.complex64), lambda: torch.ones(6, dtype=torch.bool),
        lambda: torch.ones(6, dtype=torch.int8), lambda: torch.ones(6, dtype=torch.bfloat16),
        lambda: torch.ones(6, dtype=torch.float8_e4m3fn), lambda: torch.ones(6).to_sparse(),
        lambda: torch.ones(6, 6).to_sparse_csr(), lambda: torch.ones(6, device="meta"),
        lambda: torch.quantize_per_tensor(torch.ones(6), 0.1, 0, torch.qint8), lambda: torch.ones(6, 6).t(),
        lambda: torch.quantize_per_channel(torch.ones(6, 2), torch.ones(6), torch.zeros(6), 0, torch.qint8),
        lambda: nn.Parameter(torch.ones(6)), lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: torch.ones(6, dtype=torch.uint16), lambda: torch.ones(6).neg().conj(),
        lambda: torch.ones(6, dtype=torch.complex64).conj(), lambda: torch.ones(6, dtype=torch.float64),
        lambda: torch.ones(100)[3:97:2][:6], lambda: nn.UninitializedParameter(),
        lambda: nn.parameter.Buffer(torch.ones(6)), lambda: np.ones(6), lambda: None, lambda: 3, lambda: "text",
        lambda: [torch.ones(2)], lambda: {"a": torch.ones(2)}, lambda: torch.Size([1, 2]), lambda: torch.float32,
        lambda: torch.device("cuda"), lambda: torch.ones(6).untyped_storage(), lambda: torch.Generator(),
        lambda: b"bytes", lambda: 10**100, lambda: np.float64("nan"), lambda: slice(0, 3), lambda: range(10**12),
        lambda: collections.Counter("aab"), lambda: np.array([1, 2], ">f4"), lambda: np.array(["a", "b"]), lambda: 1j,
        lambda: ...,
    )  # fmt: skip
    return dice.one_of(makers)()


def change_state(state: dict[Any, Any], dice: Dice) -> str:
    """Another value, another key, one more or one less."""
    key = dice.one_of(list(state))
    way = dice.one_of(("value", "value", "value", "key", "key", "more", "less", "nest", "shared", "shape"))
    if way == "value":
        state[key] = tensor(dice)
        return f"{key} is {type(state[key]).__name__} {getattr(state[key], 'dtype', '')}"
    if way == "key":
        new: Any = dice.one_of(
            (hostile.name(dice), str(key) + dice.one_of(hostile.CODE), 3, None, (1, 2), b"x", 1.5, True)
        )
        state[new] = state.pop(key)
        return f"{key} is called {str(new)[:60]!r}"
    if way == "more":
        state[f"{key}.{hostile.text(dice)}"] = tensor(dice)
    elif way == "less":
        del state[key]
    elif way == "nest":
        state[key] = {"state_dict": dict(state), "module": {"a": {}}}
    elif way == "shared":
        state[key] = state[dice.one_of(list(state))]
    elif isinstance(state[key], torch.Tensor):
        shape = dice.one_of(((0,), (1,), (6, 1), (3,), (2, 3), (1,) * 30, (65536,)))
        state[key] = torch.ones(shape)
    return f"{key} {way}"


def change_module(model: nn.Module, dice: Dice) -> str:
    """An attribute of a module somewhere in it, a name, or its place in the tree."""
    every = [each for each in model.modules() if isinstance(each, nn.Module)]
    each = dice.one_of(every)
    names = sorted(vars(each))
    way = dice.one_of(
        (
            "attribute",
            "attribute",
            "attribute",
            "delete",
            "name",
            "name",
            "parameter",
            "hook",
            "cycle",
            "inner",
            "extra",
        )
    )
    if way == "attribute":
        name = dice.one_of(names)
        vars(each)[name] = dice.one_of((
            None, 0, -1, hostile.integer(dice), hostile.text(dice), (hostile.integer(dice), 1), {}, [], (),
            torch.ones(2), nn.ReLU(), dice.one_of(hostile.FLOATS), collections.OrderedDict(), {"a": None}, {3: 4},
            {"": nn.ReLU()}, (1,) * 1000, True, "zeros", "circular", b"x", set(), {"weight": torch.ones(2)},
        ))  # fmt: skip
        return f"{type(each).__name__}.{name} = {str(vars(each)[name])[:60]!r}"
    if way == "delete":
        name = dice.one_of(names)
        del vars(each)[name]
        return f"{type(each).__name__}.{name} deleted"
    if way == "name":
        tables: list[dict[str, Any]] = [each._modules, each._parameters, each._buffers]
        table = dice.one_of([table for table in tables if table] or tables[:1])
        old, new = (dice.one_of(list(table)) if table else ""), hostile.name(dice)
        table[new] = table.pop(old, nn.ReLU())
        return f"{type(each).__name__}.{old} is called {new[:60]!r}"
    if way == "parameter":
        values: tuple[dict[str, Any], ...] = (each._parameters, each._buffers)
        table = dice.one_of(values)
        name = dice.one_of([*table, "weight", "running_mean"])
        table[name] = tensor(dice)
        return f"{type(each).__name__}.{name} is {type(table[name]).__name__}"
    if way == "hook":
        hooks = dice.one_of(
            (
                "_forward_hooks",
                "_forward_pre_hooks",
                "_backward_hooks",
                "_state_dict_hooks",
                "_load_state_dict_pre_hooks",
            )
        )
        getattr(each, hooks)[0] = dice.one_of(
            (nn.functional.relu, nn.ReLU(), 3, None, "x", nn.utils.weight_norm(nn.Linear(2, 2)))
        )
    elif way == "cycle":
        each._modules["again"] = dice.one_of(every)
    elif way == "inner":
        for name in dice.sample(
            (
                "forward",
                "__call__",
                "state_dict",
                "training",
                "__deepcopy__",
                "__reduce_ex__",
                "T_destination",
                "module",
                "_modules",
            ),
            2,
        ):
            vars(each)[name] = dice.one_of((nn.functional.relu, nn.ReLU(), 3, each))
    else:
        for _ in range(dice.one_of((1, 50, 400))):
            below: list[Any] = [*each._modules.values()]
            inner = nn.Sequential(*below)
            each._modules = {"0": inner}
            each = inner
    return f"{type(each).__name__} {way}"


def _wrapped(held: Any, dice: Dice) -> tuple[Any, str]:
    """What training scripts put around weights, and what nobody does."""
    key = dice.one_of(("state_dict", "model", "net", "module", "model_state_dict", "ema", "", "0", hostile.name(dice)))
    wrapped = dice.one_of((
        {key: held}, {key: held, "state_dict": held}, [held], (held,), {key: {key: {key: held}}},
        {key: held, "epoch": tensor(dice)}, {"args": held}, collections.OrderedDict({key: held}), {key: [held, held]},
        collections.defaultdict(dict, {key: held}),
    ))  # fmt: skip
    return wrapped, f"in {type(wrapped).__name__} under {key[:40]!r}"
