"""A model over 2 GB and its data file: there together or not at all, and never at the cost of another file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.errors import UsageError
from normexport.io.onnx_model import open_onnx, save_onnx

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LIMIT = 1000  # bytes, in place of protobuf's 2 GB


def model(value: float = 1.0) -> onnx.ModelProto:
    """y = x @ w, where every number of w is `value`."""
    weight = numpy_helper.from_array(np.full((40, 50), value, np.float32), "w")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 40), ("y", 50))
    ]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "net", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def value_of(path: Path) -> np.float32:
    """The number that fills w, read by onnx alone; its data file must be the one that the model names."""
    (weight,) = onnx.load(path).graph.initializer
    (value,) = set(numpy_helper.to_array(weight).ravel())
    return value


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def test_both_files_are_returned_and_a_single_one_too(path: Path) -> None:
    assert save_onnx(model(), path, limit=LIMIT) == (path, path.with_name("model.onnx.data"))
    assert save_onnx(model(), path.with_name("small.onnx")) == (path.with_name("small.onnx"),)


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_pair_that_is_saved_again_stays_one_pair(path: Path, times: int) -> None:
    for value in range(times):
        written = save_onnx(model(value), path, limit=LIMIT)
        assert names(path.parent) == sorted(file.name for file in written)
        assert value_of(path) == value


def test_a_small_model_in_the_place_of_a_pair_takes_its_data_along(path: Path) -> None:
    save_onnx(model(1), path, limit=LIMIT)
    save_onnx(model(2), path)
    assert names(path.parent) == ["model.onnx"]
    assert value_of(path) == 2


def test_data_that_was_not_written_here_is_never_replaced_nor_removed(path: Path) -> None:
    """model.onnx.data is the name that torch gives too."""
    onnx.save(model(1), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    theirs = path.with_name("model.onnx.data").read_bytes()
    assert save_onnx(model(2), path, limit=LIMIT)[1].name == "model.onnx.1.data"
    save_onnx(model(3), path)
    assert path.with_name("model.onnx.data").read_bytes() == theirs
    assert names(path.parent) == ["model.onnx", "model.onnx.data"]


@pytest.mark.parametrize("copy", ["copy.onnx", "model.onnx.bak", "model.onnx~"])
def test_data_that_another_model_names_stays(path: Path, copy: str) -> None:
    save_onnx(model(1), path, limit=LIMIT)
    path.with_name(copy).write_bytes(path.read_bytes())
    save_onnx(model(2), path, limit=LIMIT)
    assert value_of(path) == 2
    assert value_of(path.with_name(copy)) == 1


@pytest.mark.parametrize("name", ["../precious.data", "precious", "model.onnx.x.data", "other.onnx.data", ""])
def test_a_model_that_claims_another_file_as_its_data_can_not_have_it_removed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    kept = [folder / "precious", tmp_path / "precious.data", folder / "model.onnx.x.data", folder / "other.onnx.data"]
    for file in kept:
        file.write_bytes(b"precious")
    liar = model()
    liar.metadata_props.add(key="normexport.data", value=name)
    (folder / "model.onnx").write_bytes(liar.SerializeToString())
    (folder / "model.onnx.7.data").write_bytes(b"so that the claim is looked at")
    save_onnx(model(2), folder / "model.onnx")
    assert all(file.read_bytes() == b"precious" for file in kept)


def test_a_damaged_model_in_the_way_is_replaced_and_what_lies_beside_it_stays(path: Path) -> None:
    path.write_bytes(b"damaged")
    path.with_name("model.onnx.data").write_bytes(b"whose?")
    save_onnx(model(2), path, limit=LIMIT)
    assert value_of(path) == 2
    assert path.with_name("model.onnx.data").read_bytes() == b"whose?"


@pytest.mark.parametrize("renames", [0, 1])
@pytest.mark.parametrize("before", ["nothing", "a small model", "a pair"])
def test_a_failure_before_or_between_the_renames_leaves_the_old_pair(
    path: Path, monkeypatch: pytest.MonkeyPatch, renames: int, before: str
) -> None:
    if before != "nothing":
        options: dict[str, Any] = {"limit": LIMIT} if before == "a pair" else {}
        save_onnx(model(1), path, **options)
    old, replace = names(path.parent), os.replace
    done: list[Path] = []

    def failing(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise OSError(errno.EIO, "Input/output error")
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(UsageError, match=r"can't be written \(Input/output error\)"):
        save_onnx(model(2), path, limit=LIMIT)
    monkeypatch.undo()
    assert names(path.parent) == old
    assert before == "nothing" or value_of(path) == 1


KILLED = """
import os, signal, sys
import onnx
from normexport.io import atomic, weight_files
from normexport.io.onnx_model import save_onnx
model, moment = onnx.load("new.onnx"), int(sys.argv[1])
replace, unlink, count = os.replace, os.unlink, [0]
def at_most(action):
    def act(*paths, **how):
        if count[0] == moment: os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1
        action(*paths, **how)
    return act
atomic.os.replace = at_most(replace)
weight_files.remove_unread = None
import normexport.io.onnx_model
normexport.io.onnx_model.remove_unread = at_most(normexport.io.onnx_model.remove_unread)
save_onnx(model, "model.onnx", limit=1000)
"""


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_even_a_kill_between_the_renames_leaves_the_old_pair_or_the_new_one(path: Path, moment: int) -> None:
    save_onnx(model(1), path, limit=LIMIT)
    onnx.save(model(2), path.with_name("new.onnx"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(moment)], cwd=path.parent, env={"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert done.returncode == -9, done.stderr
    assert value_of(path) == (1 if moment < 2 else 2)
    save_onnx(model(3), path, limit=LIMIT)  # and the next run clears up after it
    assert value_of(path) == 3
    assert not [name for name in names(path.parent) if name.startswith(".")]


def test_a_full_disk_leaves_neither(path: Path) -> None:
    onnx.save(model(), path.with_name("new.onnx"))
    code = (
        "import onnx, resource; from normexport.io.onnx_model import save_onnx\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "try: save_onnx(onnx.load('new.onnx'), 'model.onnx', limit=1000)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=path.parent,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "UsageError model.onnx: can't be written (File too large); free some space" in done.stdout, done.stderr
    assert names(path.parent) == ["new.onnx"]


def test_a_link_into_another_folder_gets_no_data_file(tmp_path: Path) -> None:
    """Readers look for data beside the name that they are given, and the two folders have but one model."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "real.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("store/real.onnx")
    (tmp_path / "near.onnx").symlink_to("beside.onnx")
    with pytest.raises(
        UsageError, match=r"link\.onnx: is a symbolic link to another folder, and .* name the file itself"
    ):
        save_onnx(model(), tmp_path / "link.onnx", limit=LIMIT)
    assert (tmp_path / "store" / "real.onnx").read_bytes() == b"old"
    save_onnx(model(4), tmp_path / "near.onnx", limit=LIMIT)
    assert value_of(tmp_path / "near.onnx") == value_of(tmp_path / "beside.onnx") == 4


def test_texts_appear_with_the_model_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = path.with_name("model.layers.json")
    assert save_onnx(model(), path, texts={beside: json.dumps({"format": 1})}) == (path, beside)
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(UsageError, match=r"model\.onnx: can't be written"):
        save_onnx(model(2), path, texts={beside: "new"})
    assert json.loads(beside.read_text()) == {"format": 1}


def test_a_model_that_is_saved_onto_itself_keeps_its_numbers(path: Path) -> None:
    for limit in (LIMIT, LIMIT, 1 << 30):
        save_onnx(model(5), path, limit=LIMIT)
        opened = open_onnx(path)
        save_onnx(opened, path, limit=limit)
        assert value_of(path) == 5
        assert opened.graph.initializers["w"].const_value.numpy().flat[-1] == 5  # its data file may be gone
