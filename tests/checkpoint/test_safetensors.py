"""Weights in safetensors files: read to the bit, and every damaged or hostile header is one line."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from normexport.checkpoint import load, read_state
from normexport.io.json_files import MOST_BYTES
from normexport.io.safetensors_files import BITS
from tests.checkpoint.support import assert_same, batch_norm_net, forward, l1_factory, l1_trained, own_forward, refused
from tests.checkpoint.weight_files import described, packed, write_safetensors

ONE = {"w": torch.arange(6.0).reshape(2, 3)}


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "weights"])
def test_a_network_in_safetensors_loads_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    net = l1_trained()
    checkpoint = load(write_safetensors(tmp_path / name, net.state_dict()), model=l1_factory)
    assert [record.kind for record in checkpoint.norms] == ["l1"]
    assert_same(forward(checkpoint.model), own_forward(net))


def test_a_file_of_the_library_of_hugging_face_loads(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: pip install safetensors")
    net = l1_trained()
    library.save_file(net.state_dict(), tmp_path / "m.safetensors", metadata={"format": "pt"})
    written, ours = (tmp_path / "m.safetensors"), write_safetensors(tmp_path / "o.safetensors", net.state_dict())
    for file in (written, ours):
        theirs, read = library.load_file(file), read_state(file).tensors
        assert theirs.keys() == read.keys()
        assert all(torch.equal(theirs[name], read[name]) for name in theirs)


def test_norms_of_a_file_without_module_versions_are_asked_for_not_guessed(tmp_path: Path) -> None:
    """What tells a BatchNorm from a reciprocal of a divisor, without its counter, is lost in this format."""
    state = {key: value for key, value in batch_norm_net().state_dict().items() if "tracked" not in key}
    file = write_safetensors(tmp_path / "m.safetensors", state)
    assert "running_var may be" in refused(file, model=batch_norm_net)
    assert load(file, model=batch_norm_net, dialect="batchnorm").norms[0].dialect == "batchnorm"


def _exact(bits: np.ndarray[Any, Any], exponent: int, fraction: int, bias: int, has_inf: bool) -> np.ndarray[Any, Any]:
    """Numbers of a small floating type from their bits, in float64, by the definition of the type."""
    sign = 1 - 2.0 * (bits >> (exponent + fraction))
    power, rest = (bits >> fraction) & (2**exponent - 1), bits & (2**fraction - 1)
    normal = (1 + rest / 2.0**fraction) * 2.0 ** (power - float(bias))
    value = np.where(power == 0, rest / 2.0**fraction * 2.0 ** (1.0 - bias), normal)
    top = power == 2**exponent - 1
    if has_inf:
        value = np.where(top & (rest == 0), np.inf, np.where(top, np.nan, value))
    else:
        value = np.where(top & (rest == 2**fraction - 1), np.nan, value)
    return sign * value


@pytest.mark.parametrize(
    ("dtype", "name", "layout"),
    [
        ("u2", "F16", (5, 10, 15, True)),
        ("u2", "BF16", (8, 7, 127, True)),
        ("u1", "F8_E4M3", (4, 3, 7, False)),
        ("u1", "F8_E5M2", (5, 2, 15, True)),
    ],
)
def test_every_number_of_a_narrow_type_is_widened_exactly(
    tmp_path: Path, dtype: str, name: str, layout: tuple[int, int, int, bool]
) -> None:
    bits = np.arange(2 ** (8 * int(dtype[1])), dtype=f"<{dtype}")
    expected = _exact(bits.astype(np.int64), *layout)
    bits, expected = bits[np.isfinite(expected)], expected[np.isfinite(expected)]
    header = {"weight": {"dtype": name, "shape": [1, len(bits)], "data_offsets": [0, bits.nbytes]}}
    (tmp_path / "m.safetensors").write_bytes(packed(header, bits.tobytes()))
    factory = lambda: torch.nn.Linear(len(bits), 1, bias=False)  # noqa: E731  (a factory of this size)
    checkpoint = load(tmp_path / "m.safetensors", model=factory)
    np.testing.assert_array_equal(checkpoint.model.get_parameter("weight").double().numpy()[0], expected)
    assert "computed in float32" in checkpoint.notes[0]


def test_scalars_empty_tensors_booleans_and_integers_are_read(tmp_path: Path) -> None:
    state = {
        "a": torch.tensor(2.5), "b": torch.zeros(0, 3), "c": torch.tensor([True, False]), "d": torch.tensor([-(2**62)]),
        "e": torch.tensor([1, 255], dtype=torch.uint8), "f": torch.zeros(2, 0, 4),
    }  # fmt: skip
    read = read_state(write_safetensors(tmp_path / "m.safetensors", state)).tensors
    assert list(read) == list(state)
    assert all(torch.equal(read[name], value) and read[name].dtype == value.dtype for name, value in state.items())


def test_a_boolean_of_another_byte_than_0_and_1_is_true(tmp_path: Path) -> None:
    header = {"m": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}, **_placed("w", 3, 27)}
    (tmp_path / "m.safetensors").write_bytes(packed(header, b"\x00\x02\xff" + bytes(24)))
    assert read_state(tmp_path / "m.safetensors").tensors["m"].tolist() == [False, True, True]


def _placed(name: str, begin: int, end: int, shape: Any = (2, 3), dtype: Any = "F32") -> dict[str, Any]:
    return {name: {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}}


def _without(field: str) -> dict[str, Any]:
    entry = _placed("w", 0, 24)["w"]
    return {"w": {key: value for key, value in entry.items() if key != field}}


DATA = bytes(24)
WRONG: dict[str, tuple[bytes, str]] = {
    "a header longer than the file": (struct.pack("<Q", 1000) + b"{}", "its header alone claims 1000"),
    "a header of 2^63 bytes": (b"\xff" * 7 + b"\x7f{}", "is damaged (it is cut short"),
    "four bytes": (b"\x08\0\0\0", "is damaged (it is cut short: 4 bytes"),
    "a header that is no object": (packed(b"[1]", DATA), "its header is no JSON object"),
    "a header that is no JSON": (packed(b"{'w': 1}", DATA), "its header is damaged: it is no JSON"),
    "a header that is no UTF-8": (packed(b'{"\xff": 1}', DATA), "it is no UTF-8"),
    "a header nested too deeply": (packed(b'{"w":' * 30_000, DATA), "nested too deeply"),
    "the same name twice": (
        packed(b'{"w":%s,"w":%s}' % ((json.dumps(_placed("w", 0, 24)["w"]).encode(),) * 2), DATA), "gives 'w' twice",
    ),
    "a tensor that is no object": (packed({"w": 1}, DATA), "'w' is 1, and an object is needed"),
    "no type": (packed(_without("dtype"), DATA), "'w'.dtype is missing"),
    "no shape": (packed(_without("shape"), DATA), "'w'.shape is missing"),
    "no place": (packed(_without("data_offsets"), DATA), "'w'.data_offsets is missing"),
    "an unknown field": (packed({"w": {**_placed("w", 0, 24)["w"], "x": 1}}, DATA), "has an unknown field 'x'"),
    "an unknown type": (packed(_placed("w", 0, 24, dtype="F33"), DATA), "'F33', which is no type of this format"),
    "a type that is no text": (packed(_placed("w", 0, 24, dtype=32), DATA), "'w'.dtype is 32, and text is needed"),
    "a packed type": (packed(_placed("w", 0, 24, (48,), "F4"), DATA), "'w' is of type F4, which nothing computes in"),
    "a negative size": (packed(_placed("w", 0, 24, (-2, -3)), DATA), "'w'.shape[0] is -2, and a whole number of 0"),
    "a size that is no number": (packed(_placed("w", 0, 24, ("2", 3)), DATA), "'w'.shape[0] is '2'"),
    "a size of 1.0": (packed(_placed("w", 0, 24, (1.0, 6)), DATA), "'w'.shape[0] is 1.0"),
    "a size that is true": (packed(_placed("w", 0, 24, (True, 6)), DATA), "'w'.shape[0] is true"),
    "sizes whose product overflows 64 bits": (
        packed(_placed("w", 0, 24, (2**40, 2**40)), DATA), "has 24 bytes, and its shape needs more than 2^63",
    ),
    "sizes that overflow to the right one": (packed(_placed("w", 0, 24, (2**62, 4, 6)), DATA), "needs more than 2^63"),
    "an empty tensor of impossible sizes": (
        packed({**_placed("w", 0, 24), **_placed("v", 24, 24, (0, 2**60))}, DATA), "'v'.shape is impossible",
    ),
    "a hundred axes": (packed(_placed("w", 0, 4, (1,) * 100), bytes(4)), "'w'.shape is impossible"),
    "fewer bytes than its shape": (packed(_placed("w", 0, 20), bytes(20)), "has 20 bytes, and its shape needs 24"),
    "a place that ends before it begins": (packed(_placed("w", 24, 0), DATA), "are not where its bytes begin and end"),
    "a place of three numbers": (
        packed({"w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24, 24]}}, DATA), "are not where its bytes",
    ),
    "a place behind the end": (packed(_placed("w", 0, 24), bytes(20)), "'w' ends 4 bytes behind the end of the file"),
    "a place far behind the end": (packed(_placed("w", 2**62, 2**62 + 24), DATA), "bytes behind the end of the file"),
    "tensors that overlap": (
        packed({**_placed("w", 0, 24), **_placed("v", 20, 44)}, bytes(44)), "'v' overlaps 'w'",
    ),
    "two tensors of the same bytes": (packed({**_placed("w", 0, 24), **_placed("v", 0, 24)}, DATA), "overlaps 'w'"),
    "a hole": (packed({**_placed("w", 0, 24), **_placed("v", 28, 52)}, bytes(52)), "'v' does not follow 'w'"),
    "a hole before the first": (packed(_placed("w", 4, 28), bytes(28)), "'w' does not follow the header"),
    "bytes behind the last": (packed(_placed("w", 0, 24), bytes(25)), "1 bytes follow its last tensor"),
    "bytes and no tensor": (packed({}, DATA), "24 bytes follow its last tensor"),
    "metadata that is no text": (
        packed({"__metadata__": {"epoch": 3}, **_placed("w", 0, 24)}, DATA), "__metadata__['epoch'] is 3, and text",
    ),
    "metadata that is no object": (packed({"__metadata__": "pt", **_placed("w", 0, 24)}, DATA), "__metadata__ is 'pt'"),
    "a name with half a character": (packed(b'{"\\ud800": {}}', b""), "which is no Unicode text"),
    "no tensors": (packed({}, b""), "holds an empty dict, not weights by name"),
    "a name that steers the terminal": (packed(_placed("w\x1b[31m", 0, 24), DATA), "has a weight of the name"),
    "a name of 5000 characters": (packed(_placed("w" * 5000, 0, 24), DATA), "has a weight of the name"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_in_one_line_is(tmp_path: Path, wrong: str) -> None:
    content, words = WRONG[wrong]
    (tmp_path / "m.safetensors").write_bytes(content)
    message = refused(tmp_path / "m.safetensors")
    assert words in message
    assert len(message) < 600 + len(str(tmp_path))


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\noid", b"<!DOCTYPE html>"])
def test_what_a_download_leaves_instead_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    assert "is a Git LFS pointer" in (message := refused(tmp_path / "m.safetensors")) or "is a web page" in message


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    header, data = described(ONE)
    whole = packed(header, data)
    for length in range(len(whole)):
        (tmp_path / "m.safetensors").write_bytes(whole[:length])
        assert ("is damaged" if length else "is empty") in refused(tmp_path / "m.safetensors")


def test_not_a_number_is_refused_in_a_narrow_type_too(tmp_path: Path) -> None:
    for value in (torch.tensor([[1.0, float("nan")]], dtype=each) for each in (torch.bfloat16, torch.float8_e4m3fn)):
        file = write_safetensors(tmp_path / "m.safetensors", {"weight": value})
        assert "weight: is NaN in 1 of 2 elements" in refused(file, model=lambda: torch.nn.Linear(2, 1, bias=False))


def test_a_header_of_more_than_8_mib_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "m.safetensors").open("wb") as out:
        out.write(struct.pack("<Q", MOST_BYTES + 1) + b"{")
        out.truncate(1 << 30)  # which takes no room on the disk
    tracemalloc.start()
    assert "more than the 8 MiB that one may have" in refused(tmp_path / "m.safetensors")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


def test_a_data_type_that_the_reader_knows_is_one_that_pytorch_has(tmp_path: Path) -> None:
    for name, bits in BITS.items():
        header = {**_placed("w", 0, bits // 8, (1,), name), **_placed("v", bits // 8, bits // 8 + 4, (1,))}
        (tmp_path / "m.safetensors").write_bytes(packed(header, bytes(bits // 8 + 4)))
        value = read_state(tmp_path / "m.safetensors").tensors["w"]
        assert value.itemsize * 8 == bits
        assert value.is_floating_point() == (name[0] in "FB" and name != "BOOL")
