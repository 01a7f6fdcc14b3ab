"""Numpy files that nobody vouches for: honest arrays come back as numpy reads them, everything else in one line."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from normexport.errors import UsageError
from normexport.io.numpy_files import most_at_once, opened_arrays

pytestmark = pytest.mark.slow


def read(path: Path, name: str | None = None, dtype: np.dtype[Any] | None = None) -> np.ndarray:
    with opened_arrays(path) as stored:
        return stored[next(iter(stored)) if name is None else name].read(dtype)


def refused(path: Path, words: str, use: Callable[..., Any] = read) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        use(path)
    assert len(str(raised.value).splitlines()) == 1


def npy(header: str, numbers: bytes = b"", version: tuple[int, ...] = (1, 0)) -> bytes:
    text = header.encode("latin-1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + numbers


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(2,)", more: str = "") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}"


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", ">i2", "u1", "?", "<i8", "<U3"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5, 3, 7), (300, 400)])
def test_arrays_come_back_as_numpy_wrote_them(
    save: Callable[..., Any], dtype: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    values = (np.random.default_rng(0).random(shape) * 3).astype(dtype)
    for array in (values, np.asfortranarray(values)):
        with (tmp_path / "x").open("wb") as file:
            save(file, array)
        found = read(tmp_path / "x")
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_taken_in_turn(order: Literal["C", "F"], tmp_path: Path) -> None:
    array = np.asarray(np.random.default_rng(0).random((7, 300, 200)), order=order)
    np.savez_compressed(tmp_path / "x.npz", x=array)
    with opened_arrays(tmp_path / "x.npz") as stored:
        rows = stored["x"]
        np.testing.assert_array_equal(np.concatenate([rows.take(3), rows.take(3), rows.take(1)]), array)


def test_arrays_are_called_as_their_writer_called_them(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"input:0": np.ones(2), "a/b": np.zeros(1), "x.npy": np.zeros(3)}
    np.savez(tmp_path / "x.npz", **arrays)
    with opened_arrays(tmp_path / "x.npz") as stored:
        assert list(stored) == ["input:0", "a/b", "x.npy"]
        np.testing.assert_array_equal(stored["input:0"].read(), [1, 1])


@pytest.mark.parametrize(
    "text",
    [
        "{'descr':'<f4','fortran_order':False,'shape':(2,)}",
        '{"shape": (2,), "fortran_order": False, "descr": "<f4"}\n',
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }          \n",
    ],
)
def test_headers_of_other_writers_are_read(text: str, tmp_path: Path) -> None:
    numbers = np.array([1, 2], "<f4").tobytes()
    for version in ((1, 0), (2, 0), (3, 0)):
        (tmp_path / "x.npy").write_bytes(npy(text, numbers, version))
        np.testing.assert_array_equal(read(tmp_path / "x.npy"), [1, 2])


@pytest.mark.parametrize(
    "text",
    [
        header(descr="'|O'"),
        header(descr="[('a', '<f4')]"),
        header(descr="('<f4', (2,))"),
        header(descr="'<f4,<i4'"),
        header(descr="'(2,)<f4'"),
        header(descr="'<f3'"),
        header(descr="'<M8[ns]'"),
        header(descr="'<f4\\x00'"),
        header(descr="__import__('os').system('true')"),
        header(order="0"),
        header(order="1 == 1"),
        header(shape="(2)"),
        header(shape="[2]"),
        header(shape="(-2,)"),
        header(shape="(2.0,)"),
        header(shape="(1 + 1,)"),
        header(shape="(True, True)"),
        header(shape=f"({2**62}, {2**62})"),
        header(shape=f"(0, {2**62})"),
        header(shape="(" + "1, " * 65 + ")"),
        header(shape="(" * 5000 + ")" * 5000),
        header(more="'more': 1"),
        header(more="'shape': (3,)"),
        "{'descr': '<f4', 'shape': (2,)}",
        "-" * 9000 + "1",
        "",
        " " * 10_001,
    ],
)
def test_a_header_that_is_no_description_of_plain_numbers_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(text, bytes(8)))
    refused(tmp_path / "x.npy", "is not a numpy file of plain arrays")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(header(), bytes(7)), "announces 8 bytes of numbers and holds 7"),
        (npy(header(), bytes(9)), "announces 8 bytes of numbers and holds 9"),
        (npy(header(shape="(1000000000000,)"), bytes(8)), "announces 4000000000000 bytes of numbers and holds 8"),
        (npy(header(descr="'|b1'"), b"\1\2"), "booleans that are neither"),
        (npy(header(descr="'<U999999999'", shape="(0,)")), "not known here"),
        (b"\x93NUMPY\1\0", "cut short"),
        (b"\x93NUMPY\4\0" + bytes(20), "another format"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{", "longer than any"),
        (b"\x80\4]q\0.", "is not a numpy file"),
        (b"", "is not a numpy file"),
    ],
)
def test_bytes_that_are_not_those_announced_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    refused(tmp_path / "x.npy", words)


class Marks:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    np.savez(tmp_path / "x.npz", x=np.array([Marks(marker)], object))
    np.save(tmp_path / "x.npy", np.array([Marks(marker)], object))
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Marks(marker)))
    for name in ("x.npz", "x.npy", "bare.npy"):
        refused(tmp_path / name, "is not a numpy file of plain arrays")
    assert not marker.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert marker.exists()  # the files were loaded, so to say


def zipped(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)


def test_names_with_two_readings_are_refused(tmp_path: Path) -> None:
    whole = npy(header(), bytes(8))
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(tmp_path / "x.npz", [("x.npy", whole), ("x.npy", whole)])
    refused(tmp_path / "x.npz", "holds both x.npy and x.npy")
    zipped(tmp_path / "x.npz", [("x.npy", whole), ("X.npy", whole)])
    refused(tmp_path / "x.npz", "holds both x.npy and X.npy")


def test_members_that_are_no_arrays_do_no_harm_unread(tmp_path: Path) -> None:
    zipped(tmp_path / "x.npz", [("x.npy", npy(header(), bytes(8))), ("notes.txt", b"?"), ("y.npy", b"?")])
    with opened_arrays(tmp_path / "x.npz") as stored:
        assert list(stored) == ["x", "y"]
        np.testing.assert_array_equal(stored["x"].read(), [0, 0])
        assert "notes.txt" not in stored
    refused(tmp_path / "x.npz", "cut short", lambda path: read(path, "y"))


def zeros(path: Path, megabytes: int) -> None:
    """An archive of so many megabytes of zeros, packed to a thousandth."""
    begin = npy(header(shape=f"({megabytes}, {1 << 18})"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        file.write(begin)
        for _ in range(megabytes):
            file.write(bytes(1 << 20))


def test_zeros_that_unpack_to_more_than_the_file_allows_are_read_in_slices_only(tmp_path: Path) -> None:
    zeros(tmp_path / "x.npz", 1200)
    size = (tmp_path / "x.npz").stat().st_size
    assert most_at_once(size) < 1200 << 20
    refused(tmp_path / "x.npz", "take 1200 MiB at once")
    with opened_arrays(tmp_path / "x.npz") as stored:
        assert not stored["x"].take(3).any()


def test_arrays_that_together_are_more_than_the_file_allows_are_refused(tmp_path: Path) -> None:
    zeros(tmp_path / "x.npz", 600)

    def twice(path: Path) -> list[np.ndarray]:
        with opened_arrays(path) as stored:
            return [stored["x"].read(), stored["x"].read()]

    refused(tmp_path / "x.npz", "take 1200 MiB at once", twice)


def test_zeros_within_the_limit_are_read_to_their_end(tmp_path: Path) -> None:
    zeros(tmp_path / "x.npz", 10)
    found = read(tmp_path / "x.npz")
    assert found.shape == (10, 1 << 18)
    assert not found.any()


def test_a_conversion_counts_as_what_it_becomes(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", np.zeros(200 << 20, np.uint8))
    refused(tmp_path / "x.npz", "take 1600 MiB at once", lambda path: read(path, dtype=np.dtype(np.int64)))


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    """Both headers of the archive say 136 bytes; the packed data holds a gigabyte."""
    zeros(tmp_path / "x.npz", 1024)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    true, told = struct.pack("<L", len(npy(header(shape=f"(1024, {1 << 18})"))) + (1 << 30)), struct.pack("<L", 136)
    assert content.count(true) == 2
    (tmp_path / "x.npz").write_bytes(content.replace(true, told))
    refused(tmp_path / "x.npz", "is not a numpy file of plain arrays")


def test_damage_is_told_wherever_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.arange(1000.0))
    whole = (tmp_path / "x.npz").read_bytes()
    at = whole.index(np.arange(1000.0).tobytes()[1000:2000])
    (tmp_path / "x.npz").write_bytes(whole[:at] + b"\7" + whole[at + 1 :])
    refused(tmp_path / "x.npz", "checksum")
    (tmp_path / "x.npz").write_bytes(whole[:-30])
    refused(tmp_path / "x.npz", "is not a numpy file")
    flags = whole.index(b"PK\1\2") + 8
    (tmp_path / "x.npz").write_bytes(whole[:flags] + b"\1" + whole[flags + 1 :])
    refused(tmp_path / "x.npz", "encrypted")


def test_packed_data_that_is_damaged_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.arange(1000.0))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "x.npz").write_bytes(content)
    refused(tmp_path / "x.npz", "is not a numpy file")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_refused_and_not_waited_for(make: Callable[..., Any], tmp_path: Path) -> None:
    make(tmp_path / "x.npz")
    refused(tmp_path / "x.npz", "can't be read")
