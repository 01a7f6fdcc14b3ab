"""ONNX files: damaged or dangerous ones are refused in one line, saved ones are whole and read back equal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.errors import ExitCode, FoldError, UsageError
from normexport.io.onnx_model import open_onnx, save_onnx, split_weights
from normexport.runtime import OnnxRuntime

RNG = np.random.default_rng(0)
BIG = RNG.standard_normal((40, 50)).astype(np.float32)
SMALL = RNG.standard_normal(3).astype(np.float32)


def model() -> onnx.ModelProto:
    """y = x @ BIG, z = SMALL + a Constant node's tensor."""
    constant = numpy_helper.from_array(np.ones((500, 3), np.float32), "ones")  # 6 kB: large, yet no initializer
    nodes = [
        helper.make_node("MatMul", ["x", "big"], ["y"]),
        helper.make_node("Constant", [], ["ones"], value=constant),
        helper.make_node("Add", ["small", "ones"], ["z"]),
    ]
    shapes: dict[str, list[int | str]] = {"y": ["n", 50], "z": [500, 3]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 40])],
        outputs,
        [numpy_helper.from_array(BIG, "big"), numpy_helper.from_array(SMALL, "small")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def external(
    folder: Path,
    location: str = "weights.bin",
    *,
    write: bool = True,
    offset: int | None = None,
    length: int | str | None = None,
    where: str = "initializer",
) -> Path:
    """A model file whose `big` (or Constant) lies in `location`."""
    proto = model()
    tensor = proto.graph.initializer[0] if where == "initializer" else proto.graph.node[1].attribute[0].t
    tensor.name = "big"
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": length if length is not None else len(data)}
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    if write:
        (folder / location).write_bytes(data)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def run(path: Path) -> dict[str, np.ndarray]:
    x = np.ones((2, 40))
    return OnnxRuntime(path).run({"x": x})


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        open_onnx(tmp_path / "nothing.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, this is no model",
        b"\x80\x02}q\x00.",
        b"PK\x03\x04" + bytes(100),
        onnx.TensorProto().SerializeToString(),
    ],
    ids=["empty", "text", "pickle", "zip", "empty_proto"],
)
def test_what_is_not_onnx_is_refused_with_exit_code_4(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(FoldError, match="not an ONNX file") as caught:
        open_onnx(path)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """Also exactly after the graph, where what is left still parses."""
    whole = model().SerializeToString()
    path = tmp_path / "model.onnx"
    for size in {*range(1, len(whole), 37), *range(len(whole) - 20, len(whole))}:
        path.write_bytes(whole[:size])
        with pytest.raises(FoldError):
            open_onnx(path)


def test_whole_external_data_is_read(tmp_path: Path) -> None:
    for where in ("initializer", "constant"):
        values = run(external(tmp_path, where=where))
        np.testing.assert_allclose(values["y"], np.ones((2, 40)) @ BIG, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(values["z"], np.tile(SMALL + 1, (500, 1)), rtol=1e-6)


@pytest.mark.parametrize("where", ["initializer", "constant"])
@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:\\secret"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str, where: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(BIG.nbytes))
    path = external(folder, location, write=False, where=where)
    with pytest.raises(FoldError, match="points outside the model's folder and was not read"):
        open_onnx(path)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_external_data_behind_a_symbolic_link_that_leaves_the_folder_is_refused(tmp_path: Path, link: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_bytes(bytes(BIG.nbytes))
    if link == "file":
        os.symlink(tmp_path / "elsewhere" / "secret", folder / "weights.bin")
        location = "weights.bin"
    else:
        os.symlink(tmp_path / "elsewhere", folder / "data")
        location = "data/secret"
    with pytest.raises(FoldError, match="points outside"):
        open_onnx(external(folder, location, write=False))


def test_external_data_inside_a_subgraph_is_checked_too(tmp_path: Path) -> None:
    proto = model()
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    branch = helper.make_graph([], "branch", [], [], [tensor])
    proto.graph.node.append(helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(FoldError, match=r"hidden: its external data \.\./secret points outside"):
        open_onnx(path)


def test_missing_external_data_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FoldError, match=r"tensor big: its external data weights\.bin is missing"):
        open_onnx(external(tmp_path, write=False))


@pytest.mark.parametrize(
    "bad", [{"length": BIG.nbytes + 1}, {"offset": 8}, {"offset": -1}, {"length": "many"}], ids=str
)
def test_external_data_that_is_too_short_is_refused(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(FoldError, match="big"):
        open_onnx(external(tmp_path, **bad))


def test_a_saved_model_is_one_file_even_if_it_came_from_two(tmp_path: Path) -> None:
    opened = open_onnx(external(tmp_path, where="constant"))
    save_onnx(opened, tmp_path / "out" / "model.onnx")
    assert os.listdir(tmp_path / "out") == ["model.onnx"]
    np.testing.assert_allclose(run(tmp_path / "out" / "model.onnx")["z"][0], SMALL + 1, rtol=1e-6)


def test_a_model_above_the_limit_gets_one_data_file_and_reads_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_onnx(model(), path, limit=1000)
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "model.onnx.data"]
    onnx.checker.check_model(path)
    np.testing.assert_array_equal(open_onnx(path).graph.initializers["big"].const_value.numpy(), BIG)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[1]), SMALL)
    np.testing.assert_allclose(run(path)["y"], np.ones((2, 40)) @ BIG, rtol=1e-4, atol=1e-4)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(UsageError, match="is read-only"):
        save_onnx(model(), path, limit=1000)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_splitting_leaves_the_model_as_it_was_and_shares_its_memory(tmp_path: Path) -> None:
    save_onnx(model(), tmp_path / "model.onnx")
    original = open_onnx(tmp_path / "model.onnx")
    proto, arrays = split_weights(original, "elsewhere")
    assert list(arrays) == ["big"]
    assert np.shares_memory(arrays["big"], original.graph.initializers["big"].const_value.numpy())
    assert proto.graph.initializer[0].data_location == TensorProto.EXTERNAL
    assert not proto.graph.initializer[0].raw_data
    assert ir.to_proto(original).graph.initializer[0].raw_data == BIG.tobytes()


def test_types_numpy_lacks_stay_inside_the_proto() -> None:
    proto = model()
    words = np.zeros(1000, np.uint16).tobytes()
    proto.graph.initializer.append(
        TensorProto(name="half", data_type=TensorProto.BFLOAT16, dims=[1000], raw_data=words)
    )
    split, arrays = split_weights(ir.from_proto(proto), "elsewhere")
    assert "half" not in arrays
    assert next(t for t in split.graph.initializer if t.name == "half").raw_data == words
