"""Factories named on the command line or given in Python, and states that do not fit their model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

import normexport
from normexport.checkpoint import load
from normexport.errors import CheckpointError, UsageError
from tests.checkpoint.support import (
    assert_same,
    batch_norm_net,
    forward,
    l1_factory,
    l1_net,
    l1_trained,
    own_forward,
    refused,
    save,
)
from tests.narrow import present


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's package, as the working folder; importable only because it is that."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("")
    (tmp_path / "nets" / "small.py").write_text(
        "import torch.nn as nn\n"
        "def make(width=6):\n    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))\n"
        "class Made(nn.Sequential):\n    def __init__(self): super().__init__(*make())\n"
        "ready = make()\nnumber = 3\ndef nothing(): return None\ndef broken(): raise ValueError('no data')\n"
    )
    (tmp_path / "nets" / "failing.py").write_text("raise RuntimeError('needs a GPU')\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    assert sys.path == path, "the working folder is importable only while the factory runs"
    for name in [name for name in sys.modules if name.split(".")[0] == "nets"]:
        del sys.modules[name]


def factory_file(project: Path, width: int = 6) -> Path:
    net = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
    return save(project / "m.pt", net.state_dict())


@pytest.mark.parametrize("name", ["make", "Made", "ready"])
def test_factory_is_a_function_a_class_or_a_ready_module(project: Path, name: str) -> None:
    assert load(factory_file(project), model=f"nets.small:{name}").norms[0].path == "1"


def test_factory_takes_keyword_arguments(project: Path) -> None:
    assert load(factory_file(project, 9), model="nets.small:make", model_kwargs={"width": 9}).norms[0].channels == 9


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("nets.small", None, "is not of the form package.module:factory"),
        ("nets.absent:make", None, "nets.absent can't be imported (ModuleNotFoundError"),
        ("nets/small.py:make", None, "names a file, not a module; write it as Python imports it: nets.small:make"),
        ("nets.failing:make", None, "can't be imported (RuntimeError: needs a GPU)"),
        ("nets.small:absent", None, "nets.small has no attribute 'absent'"),
        ("nets.small:number", None, "is a int, which can't be called"),
        ("nets.small:nothing", None, "returned NoneType, not an nn.Module"),
        ("nets.small:broken", None, "failed (ValueError: no data)"),
        ("nets.small:make", {"depth": 3}, "failed (TypeError: make() got an unexpected keyword argument 'depth')"),
        ("nets.small:ready", {"width": 3}, "is a ready module and takes no arguments"),
    ],
)
def test_factory_that_does_not_work_is_one_line(
    project: Path, name: str, kwargs: dict[str, int] | None, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(factory_file(project), model=name, model_kwargs=kwargs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_ready_module_given_in_python_is_not_changed(tmp_path: Path) -> None:
    mine = l1_factory()
    before = {key: value.clone() for key, value in mine.state_dict().items()}
    checkpoint = load(save(tmp_path / "m.pt", l1_trained().state_dict()), model=mine)
    assert checkpoint.model is not mine
    assert mine.training
    assert all(torch.equal(value, before[key]) for key, value in mine.state_dict().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("0.weight"), "the model needs 0.weight, which the file lacks"),
        (lambda s: s.update({"2.weight": torch.ones(1)}), "the file has 2.weight, which the model lacks"),
        (lambda s: s.pop("1.bias"), "the model needs 1.bias, which the file lacks"),
        (
            lambda s: s.update({f"{i}.w": torch.ones(1) for i in range(4, 10)}),
            "the file has 4.w, 5.w, 6.w and 3 more, which the model lacks",
        ),
        (
            lambda s: s.update({"0.weight": torch.ones(6, 3, 1, 1)}),
            "0.weight is 6x3x1x1 in the file and 6x3x3x3 in the model",
        ),
    ],
)
def test_keys_and_shapes_that_differ_are_one_line(tmp_path: Path, change: Callable[..., Any], words: str) -> None:
    state = l1_trained().state_dict()
    change(state)
    message = refused(save(tmp_path / "m.pt", state), model=l1_factory)
    assert words in message
    assert "make the model as it was when it was trained" in message


def test_prefix_of_the_model_that_explains_the_difference_is_named(tmp_path: Path) -> None:
    net = nn.Module()
    net.backbone = l1_factory()
    message = refused(save(tmp_path / "m.pt", l1_trained().state_dict()), model=net)
    assert "all of them start with backbone. in the model" in message


def test_whole_networks_need_no_factory(tmp_path: Path) -> None:
    checkpoint = load(save(tmp_path / "m.pt", l1_trained()), model=batch_norm_net)
    assert "the file holds the whole network; --model is not used" in checkpoint.notes
    with pytest.raises(CheckpointError):
        load(save(tmp_path / "m.pt", l1_net().state_dict()), model=l1_factory)


@pytest.mark.slow
def test_a_model_made_in_double_computes_in_what_its_file_has(tmp_path: Path) -> None:
    net = l1_trained()
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: l1_factory().double())
    assert {value.dtype for value in checkpoint.model.parameters()} == {torch.float32}
    assert "the model's float64 is computed in float32, which the file has" in checkpoint.notes
    assert_same(forward(checkpoint.model), own_forward(net))
    assert normexport.inspect(checkpoint, ["3x7x7"]).outcomes


def test_a_file_in_double_stays_double(tmp_path: Path) -> None:
    net = l1_trained().double()
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: l1_factory().double())
    assert {value.dtype for value in checkpoint.model.parameters()} == {torch.float64}


def test_lazy_factories_are_refused_in_words(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", nn.Linear(2, 2).state_dict())
    with pytest.raises(UsageError, match=r"has a lazy layer without weights \(weight\); run it once in the factory"):
        load(file, model=lambda: nn.LazyLinear(2))


def test_factories_on_meta_are_refused_in_words(tmp_path: Path) -> None:
    def on_meta() -> nn.Linear:
        with torch.device("meta"):
            return nn.Linear(2, 2)

    file = save(tmp_path / "m.pt", nn.Linear(2, 2).state_dict())
    with pytest.raises(UsageError, match=r"makes weights without numbers, on device meta \(weight\); make it on"):
        load(file, model=on_meta)


class WithExtra(nn.Module):
    """Stores plain Python beside its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.told: Any = None

    def get_extra_state(self) -> dict[str, list[str] | int]:
        return {"classes": ["a", "b"], "count": 3}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.told = state


class Choosy(WithExtra):
    def set_extra_state(self, state: dict[str, Any]) -> NoReturn:
        raise KeyError("colour")


@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_extra_state_reaches_the_model_that_wrote_it(tmp_path: Path, prefix: str) -> None:
    state = {prefix + key: value for key, value in WithExtra().state_dict().items()}
    assert load(save(tmp_path / "m.pt", state), model=WithExtra).model.told == WithExtra().get_extra_state()
    assert load(tmp_path / "m.pt").model is None


def test_extra_state_that_the_model_does_not_take_is_one_line(tmp_path: Path) -> None:
    message = refused(save(tmp_path / "m.pt", WithExtra().state_dict()), model=Choosy)
    assert "the model does not take it ('colour')" in message
    state = WithExtra().state_dict()
    del state["_extra_state"]
    assert "the model needs _extra_state, which the file lacks" in refused(save(tmp_path / "m.pt", state), model=Choosy)


def test_a_model_with_a_part_called_module_is_no_wrapper(tmp_path: Path) -> None:
    class DataParallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.head = nn.Linear(2, 3), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.module(x))

    net = DataParallel()
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=DataParallel)
    x = torch.ones(1, 2)
    assert torch.equal(present(checkpoint.model)(x), net(x))


@pytest.mark.parametrize("version", ["2", 10**30, -1, None, 2.5, [2]])
def test_an_odd_version_in_the_metadata_is_no_version(tmp_path: Path, version: list[int] | float | str | None) -> None:
    state: Any = nn.BatchNorm1d(2).state_dict()
    state._metadata[""]["version"] = version
    assert load(save(tmp_path / "m.pt", state), model=lambda: nn.BatchNorm1d(2)).norms[0].kind == "batchnorm"


@pytest.mark.parametrize("metadata", [3, {3: 4}, {"": None}, {"": {"version": {}}}])
def test_metadata_that_is_none_is_left_out(tmp_path: Path, metadata: dict[int | str, Any] | int) -> None:
    state: Any = nn.BatchNorm1d(2).state_dict()
    state._metadata = metadata
    assert load(save(tmp_path / "m.pt", state), model=lambda: nn.BatchNorm1d(2)).norms[0].kind == "batchnorm"


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", l1_trained())
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read everything (root)")
    assert "can't be read" in refused(file)


class Tied(nn.Module):
    """A head that shares its weight with the embedding, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x))


def test_a_tied_weight_with_two_values_in_the_file_is_refused_by_name(tmp_path: Path) -> None:
    state = Tied().state_dict()
    assert load(save(tmp_path / "m.pt", state), model=Tied).model is not None
    state["head.weight"] = state["head.weight"] + 1
    message = refused(save(tmp_path / "m.pt", state), model=Tied)
    assert "embed.weight and head.weight are one tensor in the model and two in the file" in message
