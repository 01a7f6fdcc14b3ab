"""Weights in several files: indexes, and folders as Hugging Face lays them out, which name files of their own only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import normexport
from normexport.checkpoint import load, read_state
from normexport.errors import UsageError
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
from tests.checkpoint.weight_files import change_index, write_safetensors, write_shards

both = pytest.mark.parametrize("suffix", ["safetensors", "bin"])


def _write(suffix: str) -> Callable[[Path, dict[str, Tensor]], object]:
    return write_safetensors if suffix == "safetensors" else save


def _index(folder: Path, suffix: str = "safetensors", state: Mapping[str, Tensor] | None = None) -> Path:
    return write_shards(folder, state or l1_trained().state_dict(), _write(suffix), suffix)


def _first(index: Path) -> Path:
    return index.with_name(next(iter(json.loads(index.read_text())["weight_map"].values())))


@both
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_network_in_two_files_loads_by_its_index_and_by_its_folder(
    tmp_path: Path, suffix: str, as_folder: bool
) -> None:
    net = l1_trained()
    index = _index(tmp_path / "net", suffix)
    checkpoint = load(index.parent if as_folder else index, model=l1_factory)
    assert [record.kind for record in checkpoint.norms] == ["l1"]
    assert_same(forward(checkpoint.model), own_forward(net))
    assert list(read_state(index).tensors) == list(net.state_dict())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "resnet.fp32.safetensors"])
def test_a_folder_with_one_file_of_weights_loads_and_says_which(tmp_path: Path, name: str) -> None:
    net = l1_trained()
    _write(name.rpartition(".")[2])(tmp_path / name, net.state_dict())
    config = {"architectures": ["L1Net"], "auto_map": {"AutoModel": "owned_module.f"}, "model_type": "l1"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = load(tmp_path, model=l1_factory)
    assert checkpoint.notes[:2] == (f"weights are in {name}", "config.json says L1Net")
    assert_same(forward(checkpoint.model), own_forward(net))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"architectures": {"a": 1}}', '{"architectures": [1]}', "\ud800x"])
def test_a_config_of_another_form_changes_nothing(tmp_path: Path, text: str) -> None:
    write_safetensors(tmp_path / "model.safetensors", l1_trained().state_dict())
    (tmp_path / "config.json").write_text(text, errors="surrogatepass")
    assert load(tmp_path, model=l1_factory).norms


def test_safetensors_comes_before_pickles_in_a_folder_and_the_rest_is_noted(tmp_path: Path) -> None:
    net = l1_trained()
    write_safetensors(tmp_path / "model.safetensors", net.state_dict())
    save(tmp_path / "pytorch_model.bin", Payload(tmp_path / "created"))
    checkpoint = load(tmp_path, model=l1_factory)
    assert "not read beside it: pytorch_model.bin" in checkpoint.notes
    assert_same(forward(checkpoint.model), own_forward(net))
    assert not (tmp_path / "created").exists()


def test_several_files_of_unusual_names_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        write_safetensors(tmp_path / name, l1_trained().state_dict())
    assert "several files of weights (a.safetensors, b.safetensors); give the one that is meant" in refused(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "is a folder without weights that are known; give the file inside it" in refused(tmp_path)
    assert "is a folder without weights" in refused(tmp_path, trust=True)


def test_a_cache_of_hugging_face_loads_through_its_links(tmp_path: Path) -> None:
    net = l1_trained()
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    index = _index(tmp_path / "files")
    for number, file in enumerate(sorted(index.parent.iterdir())):
        file.rename(blobs / f"{number:064x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:064x}")
    for given in (snapshot, snapshot / index.name):
        assert_same(forward(load(given, model=l1_factory).model), own_forward(net))


# What an index can't name.


@pytest.mark.parametrize(
    "name", ["../{outside}", "{absolute}", "sub/{outside}", "./{shard}", "..", ".", "", "a\\b", "a\nb", 3, None, ["x"]]
)
def test_an_index_that_names_anything_but_a_file_of_its_folder_is_refused(tmp_path: Path, name: Any) -> None:
    index = _index(tmp_path / "net")
    outside = write_safetensors(tmp_path / "outside", l1_trained().state_dict())
    if isinstance(name, str):
        name = name.format(outside=outside.name, absolute=outside, shard=_first(index).name)
    change_index(index, lambda homes: homes.update({"0.weight": name}))
    message = refused(index, model=l1_factory)
    assert "is no index of weights (weight_map['0.weight'] is " in message
    assert "a file name is needed" in message or "text is needed" in message


@pytest.mark.parametrize("given", ["index", "folder"])
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, given: str) -> None:
    index = _index(tmp_path / "net")
    shard = _first(index)
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    message = refused(index if given == "index" else index.parent, model=l1_factory)
    assert f"{shard.name} is a link out of its folder; copy the file into the folder, if it is meant" in message


def test_a_link_of_a_single_file_out_of_its_folder_is_not_followed_for_the_folder(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "elsewhere", l1_trained().state_dict())
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "model.safetensors").symlink_to("../elsewhere")
    assert "model.safetensors is a link out of its folder" in refused(tmp_path / "net")
    assert load(tmp_path / "net" / "model.safetensors").source == "state_dict", "named by the user, it is meant"


def test_a_link_to_blobs_that_are_elsewhere_is_not_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "private").mkdir()
    write_safetensors(tmp_path / "private" / "0", l1_trained().state_dict())
    (snapshot.parent.parent / "blobs").symlink_to(tmp_path / "private")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0")
    assert "is a link out of its folder" in refused(snapshot)


def test_a_file_with_another_name_elsewhere_is_not_read(tmp_path: Path) -> None:
    index = _index(tmp_path / "net")
    os.link(_first(index), tmp_path / "elsewhere")
    assert "has another name elsewhere" in refused(index)


@pytest.mark.parametrize("kind", ["folder", "pipe", "circle", "missing"])
def test_a_part_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    index = _index(tmp_path / "net")
    shard = _first(index)
    shard.unlink()
    makers: dict[str, Callable[[], object]] = {
        "folder": shard.mkdir, "pipe": lambda: os.mkfifo(shard), "circle": lambda: shard.symlink_to(shard.name),
        "missing": lambda: None,
    }  # fmt: skip
    makers[kind]()
    message = refused(index)
    assert message.startswith(f"{index}: {shard.name} ")
    assert ("is missing; put it into the same folder" in message) == (kind == "missing")


# Parts that contradict their index.


@both
def test_a_tensor_in_two_parts_is_refused(tmp_path: Path, suffix: str) -> None:
    state = l1_trained().state_dict()
    index = _index(tmp_path / "net", suffix, state)
    _write(suffix)(_first(index), dict(list(state.items())[:4]))
    name = list(state)[3]
    assert f"{_first(index).name} holds {name}, which the index has in another file" in refused(index)


@both
def test_a_tensor_that_the_index_does_not_have_is_refused(tmp_path: Path, suffix: str) -> None:
    index = _index(tmp_path / "net", suffix)
    change_index(index, lambda homes: homes.pop("0.weight"))
    assert f"{_first(index).name} holds 0.weight, which the index has not" in refused(index)


@both
def test_a_tensor_that_its_part_does_not_have_is_refused(tmp_path: Path, suffix: str) -> None:
    index = _index(tmp_path / "net", suffix)
    change_index(index, lambda homes: homes.update({"more": _first(index).name, "most": _first(index).name}))
    assert f"{_first(index).name} lacks more and 1 more" in refused(index)


def test_a_tensor_that_the_index_names_twice_is_refused(tmp_path: Path) -> None:
    index = _index(tmp_path / "net")
    text = index.read_text()
    index.write_text(text.replace('"weight_map": {', '"weight_map": {"0.weight": "x", '))
    assert "is no index of weights (it gives '0.weight' twice)" in refused(index)


def test_one_file_under_two_names_is_refused(tmp_path: Path) -> None:
    index = _index(tmp_path / "net")
    (index.parent / "again").symlink_to(_first(index).name)
    change_index(index, lambda homes: homes.update({"0.weight": "again"}))
    assert "again holds 0.bias, which the index has in another file" in refused(index)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("[]", "is no index of weights (it is a list, and an object is needed)"),
        ("{}", "is no index of weights (weight_map is missing)"),
        ('{"weight_map": []}', "weight_map is a list, and an object is needed"),
        ('{"weight_map": {}}', "is an index of no weights"),
        ('{"weight_map": ', "it is no JSON"),
        ('{"weight_map": ' * 30_000, "nested too deeply"),
        ("\ud800", "is no index of weights (it is no UTF-8)"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, text: str, words: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text, errors="surrogatepass")
    assert words in refused(index)


def test_a_json_document_of_another_name_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"weight_map": {}}')
    assert "is a JSON document, not a checkpoint; give the file with the weights" in refused(tmp_path / "config.json")


def test_a_part_with_code_is_refused_and_does_nothing(tmp_path: Path) -> None:
    index = _index(tmp_path / "net", "bin")
    save(_first(index), {"0.weight": Payload(tmp_path / "created")})
    assert "would run code to be loaded" in refused(index, model=l1_factory)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("part", ["a program", "an index", "a list", "a number"])
def test_a_part_that_holds_no_tensors_by_name_is_refused(tmp_path: Path, part: str) -> None:
    index = _index(tmp_path / "net", "bin")
    shard = _first(index)
    if part == "a program":
        exported(shard, l1_trained())
    elif part == "an index":
        index.rename(index.with_name("old.index.json"))
        index.write_text(json.dumps({"weight_map": {"w": "old.index.json"}}))
        shard = index.with_name("old.index.json")
    else:
        save(shard, [torch.ones(2)] if part == "a list" else 3)
    assert f"{shard}: holds no tensors by name" in refused(index)


def test_no_output_takes_the_place_of_a_part(tmp_path: Path) -> None:
    index = _index(tmp_path / "net")
    checkpoint, shard = load(index, model=l1_factory), _first(index)
    before = shard.read_bytes()
    with pytest.raises(UsageError, match="is a part of the checkpoint"):
        normexport.export(checkpoint, ["3x7x7"], shard)
    assert shard.read_bytes() == before
