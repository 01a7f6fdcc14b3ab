"""External data of ONNX files: no road leads out of the model's folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from normexport.errors import UsageError
from normexport.io.onnx_model import open_onnx, save_onnx
from normexport.runtime import OnnxRuntime
from normexport.runtime.float64 import Float64Runtime
from normexport.verbs.fold import fold
from tests.io import onnx_attacks as attacks
from tests.io.refusals import refusal

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("place", attacks.PLACES)
def test_no_place_in_a_model_is_a_road_out_of_its_folder(folder: Path, place: str) -> None:
    path = attacks.write(attacks.PLACES[place](attacks.outside("../secret")), folder / "m.onnx")
    assert "../secret points outside the model's folder and was not read" in refusal(open_onnx, path)
    assert "../secret points outside" in refusal(fold, path, folder / "out.onnx")
    assert os.listdir(folder) == ["m.onnx"]


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../secret",
        "a/../../secret",
        "..\\secret",
        "a\\..\\..\\secret",
        "C:\\secret",
        "c:secret",
        "\\\\server\\share\\secret",
        "//server/share",
        "..",
        "/",
    ],
)
def test_a_location_that_leads_elsewhere_on_any_system_is_refused(folder: Path, location: str) -> None:
    path = attacks.write(attacks.PLACES["initializer"](attacks.outside(location)), folder / "m.onnx")
    assert "points outside the model's folder" in refusal(open_onnx, path)


@pytest.mark.parametrize("location", ["w\0.bin", "w\n.bin", "\x1b[2Jw", "w\x7f", "w" * 5000, "w.bin/x", "", "."])
def test_a_location_that_is_no_path_is_refused_in_one_plain_line(folder: Path, location: str) -> None:
    (folder / "w.bin").write_bytes(attacks.SECRET)
    path = attacks.write(attacks.PLACES["initializer"](attacks.outside(location)), folder / "m.onnx")
    line = refusal(open_onnx, path)
    assert "external data" in line
    assert line.isprintable()
    assert len(line) < 500


def _link_to_file(folder: Path) -> None:
    os.symlink(folder.parent / "secret", folder / "w.bin")


def _link_to_folder(folder: Path) -> None:
    os.symlink(folder.parent, folder / "up")


def _link_to_link(folder: Path) -> None:
    os.symlink("b", folder / "w.bin")
    os.symlink("../secret", folder / "b")


def _hard_link(folder: Path) -> None:
    os.link(folder.parent / "secret", folder / "w.bin")


def _link_to_proc(folder: Path) -> None:
    os.symlink("/proc/self/environ", folder / "w.bin")


@pytest.mark.parametrize("make", [_link_to_file, _link_to_folder, _link_to_link, _hard_link, _link_to_proc])
def test_a_link_that_leads_out_of_the_folder_is_not_followed(folder: Path, make: Callable[..., Any]) -> None:
    make(folder)
    location = "up/secret" if make is _link_to_folder else "w.bin"
    path = attacks.write(attacks.PLACES["initializer"](attacks.outside(location)), folder / "m.onnx")
    assert "was not read" in refusal(open_onnx, path)


def test_links_in_a_circle_pipes_and_folders_are_no_data(folder: Path) -> None:
    os.symlink("w.bin", folder / "w.bin")
    path = attacks.write(attacks.PLACES["initializer"](attacks.outside("w.bin")), folder / "m.onnx")
    assert "its links lead in a circle" in refusal(open_onnx, path)
    (folder / "w.bin").unlink()
    os.mkfifo(folder / "w.bin")
    assert "is no regular file" in refusal(open_onnx, path)
    (folder / "w.bin").unlink()
    (folder / "w.bin").mkdir()
    assert "is no regular file" in refusal(open_onnx, path)


def test_a_pipe_in_place_of_the_model_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "m.onnx")
    with pytest.raises(UsageError, match="not a regular file"):
        open_onnx(folder / "m.onnx")


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    (folder / "blobs").mkdir()
    (folder / "blobs" / "b").write_bytes(attacks.SECRET)
    os.symlink("blobs/b", folder / "w.bin")
    path = attacks.write(attacks.PLACES["initializer"](attacks.outside("w.bin")), folder / "m.onnx")
    assert open_onnx(path).graph.initializers["w"].const_value.numpy().tobytes() == attacks.SECRET


def test_what_was_checked_is_what_is_read(folder: Path) -> None:
    """The path leads elsewhere once the model is open; the numbers are still those of the file that was checked."""
    right = np.arange(9, dtype=np.float32)
    (folder / "w.bin").write_bytes(right.tobytes())
    path = attacks.write(attacks.PLACES["initializer"](attacks.outside("w.bin")), folder / "m.onnx")
    opened = open_onnx(path)
    (folder / "w.bin").unlink()
    os.symlink("../secret", folder / "w.bin")
    save_onnx(opened, folder / "out.onnx")
    saved = onnx.load(folder / "out.onnx").graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(saved).reshape(-1), right)


@pytest.mark.parametrize(
    "entries",
    [{"offset": "-1"}, {"offset": "1_0"}, {"offset": "٣"}, {"length": "35"}, {"offset": "1"}, {"offset": "9" * 5000}],
    ids=lambda entries: str(entries)[:30],
)
def test_numbers_that_do_not_fit_the_data_file_are_refused(folder: Path, entries: dict[str, Any]) -> None:
    (folder / "w.bin").write_bytes(attacks.SECRET)
    path = attacks.write(attacks.PLACES["initializer"](attacks.outside("w.bin", **entries)), folder / "m.onnx")
    assert "tensor w: " in refusal(open_onnx, path)


def test_a_location_that_is_given_twice_is_refused(folder: Path) -> None:
    (folder / "w.bin").write_bytes(attacks.SECRET)
    tensor = attacks.outside("w.bin")
    tensor.external_data.add(key="location", value="../secret")
    path = attacks.write(attacks.PLACES["initializer"](tensor), folder / "m.onnx")
    assert "is named twice" in refusal(open_onnx, path)


def test_many_tensors_may_not_claim_the_same_bytes(folder: Path) -> None:
    proto = attacks.conv()
    (folder / "w.bin").write_bytes(bytes(1 << 20))
    for number in range(300):
        tensor = proto.graph.initializer.add(name=f"t{number}", data_type=1, dims=[1 << 18], data_location=1)
        tensor.external_data.add(key="location", value="w.bin")
    path = attacks.write(proto, folder / "m.onnx")
    assert "claim 300 MiB of external data that has 1" in refusal(open_onnx, path)


def test_a_proto_in_memory_has_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "w.bin").write_bytes(attacks.SECRET)
    for location in ("/etc/passwd", "w.bin"):
        proto = attacks.PLACES["initializer"](attacks.outside(location))
        for call in (fold, OnnxRuntime, Float64Runtime, lambda proto: save_onnx(proto, "out.onnx")):
            assert "was not read" in refusal(call, proto)
    opened = fold(attacks.PLACES["initializer"](attacks.outside("w.bin")), weights_under=folder)
    assert [norm.fate for norm in opened.outcomes] == ["folded"]


def test_a_model_in_memory_stays_in_the_folder_it_names(folder: Path) -> None:
    path = attacks.write(attacks.PLACES["constant"](attacks.outside("../secret")), folder / "m.onnx")
    for base in (folder, ""):
        opened = ir.from_proto(onnx.load(path, load_external_data=False))
        tensor = opened.graph[0].attributes["value"].as_tensor()
        assert isinstance(tensor, ir.ExternalTensor)
        tensor.base_dir = base
        for call in (fold, OnnxRuntime, Float64Runtime):
            assert "was not read" in refusal(call, opened)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache as huggingface_hub lays it out: snapshots of links to blobs."""
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1234", tmp_path / "models--a--b" / "blobs"
    for made in (snapshot, blobs):
        made.mkdir(parents=True)
    (blobs / "data").write_bytes(attacks.SECRET)
    attacks.write(attacks.PLACES["initializer"](attacks.outside("w.bin")), blobs / "model")
    for name, blob in (("m.onnx", "model"), ("w.bin", "data")):
        os.symlink(f"../../blobs/{blob}", snapshot / name)
    return snapshot / "m.onnx"


def test_a_cache_of_links_opens_where_its_folder_is_named(cache: Path) -> None:
    assert "--weights-under" in refusal(open_onnx, cache)
    opened = open_onnx(cache, weights_under=cache.parents[2])
    assert opened.graph.initializers["w"].const_value.numpy().tobytes() == attacks.SECRET
    assert [norm.fate for norm in fold(cache, weights_under=cache.parents[2]).outcomes] == ["folded"]


def test_naming_a_folder_opens_that_folder_alone(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(attacks.SECRET)
    (cache.parent / "w.bin").unlink()
    os.symlink(tmp_path / "secret", cache.parent / "w.bin")
    assert "w.bin points outside" in refusal(open_onnx, cache, weights_under=cache.parents[2])
    with pytest.raises(UsageError, match="is not a folder"):
        open_onnx(cache, weights_under=tmp_path / "nowhere")


def test_a_location_may_not_leave_by_its_words_even_where_the_folder_is_named(folder: Path) -> None:
    path = attacks.write(attacks.PLACES["initializer"](attacks.outside("../secret")), folder / "m.onnx")
    assert "points outside" in refusal(open_onnx, path, weights_under=folder.parent)
