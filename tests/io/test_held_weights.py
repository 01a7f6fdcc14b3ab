"""Weights that stay in their file: the same numbers, and a model is written as protobuf writes it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.errors import FoldError
from normexport.io.held_weights import HELD_FROM
from normexport.io.onnx_model import open_onnx, save_onnx
from normexport.io.onnx_write import pieces_of, size_of, write_pieces

DICE = np.random.default_rng(0)
#: By name: below the limit and above it, of whole numbers, of 8 and 16 bits, and of a type that numpy lacks.
ARRAYS: dict[str, np.ndarray] = {
    "small": DICE.normal(size=(3, 5)).astype(np.float32),
    "large": DICE.normal(size=(70, 70)).astype(np.float32),
    "double": DICE.normal(size=(50, 60)),
    "half": DICE.normal(size=(100, 100)).astype(np.float16),
    "whole": DICE.integers(-9, 9, size=(3000,)),
    "bytes": DICE.integers(-9, 9, size=(20000,)).astype(np.int8),
    "flags": DICE.integers(0, 2, size=(20000,)).astype(bool),
}
WORDS = DICE.integers(0, 2**15, size=(90, 100)).astype(np.uint16)


def model() -> onnx.ModelProto:
    """Every array, and one of bfloat16, handed through; with all the fields around them that a model can have."""
    tensors = [numpy_helper.from_array(array, name) for name, array in ARRAYS.items()]
    raw = WORDS.tobytes()
    tensors.append(TensorProto(name="brain", data_type=TensorProto.BFLOAT16, dims=WORDS.shape, raw_data=raw))
    tensors[1].doc_string = "a note behind the data"
    tensors[1].metadata_props.add(key="of", value="a weight")
    values = [helper.make_tensor_value_info(f"{t.name}_out", t.data_type, list(t.dims)) for t in tensors]
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}_out"]) for t in tensors]
    graph = helper.make_graph(nodes, "g", [], values, tensors, doc_string="of the graph", value_info=[])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, doc_string="a file")
    made.metadata_props.add(key="key", value="word")
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "m.onnx").write_bytes(model().SerializeToString())
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("name", ARRAYS)
def test_a_weight_has_the_numbers_type_and_shape_of_the_file(path: Path, name: str) -> None:
    tensor = open_onnx(path).graph.initializers[name].const_value
    assert tensor is not None
    for _ in range(2):
        found = tensor.numpy()
        np.testing.assert_array_equal(found, ARRAYS[name])
        assert (found.dtype, found.flags.aligned) == (ARRAYS[name].dtype, True)
    assert tensor.tobytes() == ARRAYS[name].tobytes()
    assert isinstance(tensor, ir.LazyTensor) == (ARRAYS[name].nbytes >= HELD_FROM)


def test_a_model_that_is_read_and_written_is_the_same(path: Path, tmp_path: Path) -> None:
    save_onnx(open_onnx(path), tmp_path / "again.onnx")
    again = onnx.load(tmp_path / "again.onnx")
    onnx.checker.check_model(again, full_check=True)
    assert again.graph.initializer == model().graph.initializer
    assert again.SerializeToString() == (tmp_path / "again.onnx").read_bytes()


def test_the_pieces_are_the_bytes_that_protobuf_writes(tmp_path: Path) -> None:
    whole = model().SerializeToString()
    bare = model()
    for tensor in bare.graph.initializer:
        if tensor.name in ARRAYS:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="elsewhere")
    pieces = pieces_of(bare, {name: ir.Tensor(array, name=name) for name, array in ARRAYS.items()})
    with (tmp_path / "m").open("wb") as file:
        write_pieces(pieces, file)
    assert size_of(pieces) == len(whole)
    read = onnx.load(tmp_path / "m")
    read.graph.initializer[1].ClearField("data_location")
    assert read == model()
    assert (tmp_path / "m").read_bytes() == whole


def test_a_file_that_takes_another_ones_place_changes_nothing(path: Path) -> None:
    opened = open_onnx(path)
    (path.parent / "other").write_bytes(b"another file")
    os.replace(path.parent / "other", path)
    np.testing.assert_array_equal(opened.graph.initializers["large"].const_value.numpy(), ARRAYS["large"])


def test_a_file_that_is_written_to_is_not_read_any_further(path: Path) -> None:
    opened = open_onnx(path)
    content = bytearray(path.read_bytes())
    os.utime(path, ns=(1, 1))
    with path.open("r+b") as file:
        file.write(bytes(len(content)))
    with pytest.raises(FoldError, match=r"m.onnx: was changed while it was in use; run it again"):
        opened.graph.initializers["large"].const_value.numpy()
    path.write_bytes(content[:100])
    with pytest.raises(FoldError, match=r"m.onnx: was changed while it was in use"):
        opened.graph.initializers["large"].const_value.numpy()


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """The model with its weights in a file beside it."""
    onnx.save(model(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("name", ARRAYS)
def test_a_weight_beside_the_model_is_read_at_each_use(parted: Path, name: str) -> None:
    tensor = open_onnx(parted).graph.initializers[name].const_value
    found = tensor.numpy()
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert (found.dtype, tensor.tobytes()) == (ARRAYS[name].dtype, ARRAYS[name].tobytes())
    if found.flags.writeable:
        found[...] = 0
    np.testing.assert_array_equal(tensor.numpy(), ARRAYS[name])


def test_a_data_file_that_is_cut_short_is_told_and_ends_no_process(parted: Path) -> None:
    opened = open_onnx(parted)
    (parted.parent / "m.data").write_bytes(b"")
    np.testing.assert_array_equal(opened.graph.initializers["small"].const_value.numpy(), ARRAYS["small"])
    with pytest.raises(FoldError, match=r"m.data: was changed while it was in use; run it again"):
        opened.graph.initializers["large"].const_value.numpy()


def test_the_file_is_closed_with_the_last_model_that_reads_from_it(path: Path) -> None:
    opened = [open_onnx(path) for _ in range(5)]
    assert handles(path) == 5
    del opened
    gc.collect()
    assert handles(path) == 0


def handles(path: Path) -> int:
    """How many open files of this process are the one at `path`."""
    return sum(os.path.samefile(each, path) for each in Path("/proc/self/fd").iterdir() if each.exists())


def test_raw_data_written_twice_means_the_last_as_protobuf_has_it(tmp_path: Path) -> None:
    """A message may hold a field twice; the last one counts."""
    tensor = numpy_helper.from_array(ARRAYS["large"], "large")
    first = TensorProto(raw_data=bytes(len(tensor.raw_data))).SerializeToString()
    proto = model()
    at = [each.name for each in proto.graph.initializer].index("large")
    del proto.graph.initializer[at]
    content = first + tensor.SerializeToString()
    head = bytes([5 << 3 | 2]) + _varint(len(content)) + content
    graph = proto.graph.SerializeToString() + head
    proto.ClearField("graph")
    (tmp_path / "m.onnx").write_bytes(bytes([7 << 3 | 2]) + _varint(len(graph)) + graph + proto.SerializeToString())
    found = open_onnx(tmp_path / "m.onnx").graph.initializers["large"].const_value.numpy()
    np.testing.assert_array_equal(found, ARRAYS["large"])


def test_a_weight_that_is_said_to_lie_inside_and_outside_is_refused(path: Path) -> None:
    proto = model()
    large = next(tensor for tensor in proto.graph.initializer if tensor.name == "large")
    large.data_location = TensorProto.EXTERNAL
    large.external_data.add(key="location", value="elsewhere")
    path.write_bytes(proto.SerializeToString())
    (path.parent / "elsewhere").write_bytes(large.raw_data)
    with pytest.raises(FoldError, match="has its data both inside and outside the file"):
        open_onnx(path)


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
