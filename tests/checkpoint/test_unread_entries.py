"""Entries of a file that would run code: not read where the weights' entry is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from normexport.checkpoint import Part, load
from tests.checkpoint.several_networks import expected, loaded, weights
from tests.checkpoint.support import (
    Payload,
    assert_same,
    l1_factory,
    refused,
    save,
)


class Settings:
    """A class of a training script, which is not here to be imported."""

    def __init__(self) -> None:
        self.lr = 0.1


@pytest.mark.parametrize("zipped", [True, False])
def test_with_the_entry_named_the_rest_is_not_read_and_runs_nothing(tmp_path: Path, zipped: bool) -> None:
    target = tmp_path / "created"
    content = {
        "state_dict": weights(),
        "hyper_parameters": {"lr": 0.1, "config": Settings()},
        "callbacks": Payload(target),
        "args": [Settings()],
    }
    torch.save(content, tmp_path / "m.ckpt", _use_new_zipfile_serialization=zipped)
    message = refused(tmp_path / "m.ckpt", model=l1_factory)
    assert "would run code to be loaded: posix.mkdir, tests.checkpoint.test_unread_entries.Settings" in message
    assert "pass --weights state_dict to read nothing else of it, or pass --trust" in message
    got, notes = loaded(tmp_path / "m.ckpt", entry="state_dict")
    assert_same(got, expected(1))
    assert "hyper_parameters of the file: lr=0.1, config=(tests.checkpoint.test_unread_entries.Settings)" in notes
    assert "callbacks of the file is not read, as it would run code: posix.mkdir" in notes
    assert not target.exists()


@pytest.mark.parametrize(
    "hostile",
    [
        lambda payload: {"state_dict": {**weights(), "0.weight": payload}},
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

    file = save(tmp_path / "m.pt", {"state_dict": weights(), Key(): 1})
    assert "would run code to be loaded: builtins.eval" in refused(file, part=Part("state_dict"))


def test_entries_of_a_trillion_paths_are_pruned_once(tmp_path: Path) -> None:
    level: Any = [Settings()]
    for _ in range(3):
        level = {f"entry {number}": level for number in range(300)}
    deep: Any = [Settings()]
    for _ in range(60):
        deep = [deep, deep]
    file = save(tmp_path / "m.pt", {"state_dict": weights(), "wide": level, "deep": deep})
    assert_same(loaded(file, entry="state_dict")[0], expected(1))
