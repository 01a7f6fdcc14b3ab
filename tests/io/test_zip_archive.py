"""Zip archives have one reading: what other readers write opens alike, what could be read differently is refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.io.limits import memory_allowance
from normexport.io.zip_archive import BadArchive, ZipArchive


def archive(members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def read_all(data: bytes) -> dict[str, bytes]:
    with ZipArchive(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.members}


def refused(data: bytes) -> str:
    with pytest.raises(BadArchive) as caught:
        read_all(data)
    return str(caught.value)


PLAIN = archive([("m/a", b"first"), ("m/b", b"second" * 50)])


@given(
    st.dictionaries(st.text("abcdef_é", min_size=1, max_size=8), st.binary(max_size=300), max_size=6),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
@settings(max_examples=150)
def test_what_pythons_writer_writes_is_read_as_its_reader_reads_it(members: dict[str, bytes], compression: int) -> None:
    if len({name.casefold() for name in members}) < len(members):
        return
    data = archive(members.items(), compression)
    with zipfile.ZipFile(io.BytesIO(data)) as other:
        assert read_all(data) == {name: other.read(name) for name in other.namelist()} == members


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_numpy_open(save: Callable[..., None]) -> None:
    buffer = io.BytesIO()
    save(buffer, a=np.arange(5), b=np.zeros((200, 200)))
    assert set(read_all(buffer.getvalue())) == {"a.npy", "b.npy"}


@pytest.mark.parametrize("checksums", [True, False])
def test_archives_of_pytorch_open_also_without_checksums(checksums: bool) -> None:
    torch.serialization.set_crc32_options(checksums)
    try:
        buffer = io.BytesIO()
        torch.save({"w": torch.arange(100)}, buffer)
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_all(buffer.getvalue())["archive/data/0"] == torch.arange(100).numpy().tobytes()


def test_archives_written_to_a_pipe_open() -> None:
    """Their headers were written before the sizes were known, which follow the data."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *where: Any) -> NoReturn:
            raise io.UnsupportedOperation

        def tell(self) -> NoReturn:
            raise io.UnsupportedOperation

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", b"content" * 20)
        made.writestr("b", b"more")
    assert read_all(pipe.getvalue()) == {"a": b"content" * 20, "b": b"more"}


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a"],
        ["a", "A"],
        ["straße", "STRASSE"],
        ["../a"],
        ["/a"],
        ["a/../b"],
        ["a//b"],
        ["./a"],
        ["C:a"],
        ["a\\b"],
        ["a\nb"],
        ["a\x7fb"],
        ["a\u202eb"],
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_readers_take_for_others_are_refused(names: list[str]) -> None:
    refused(archive([(name, name.encode()) for name in names]))


def test_names_that_are_no_utf8_are_refused() -> None:
    data = PLAIN.replace(b"m/a", b"m/\xff")
    assert "no UTF-8" in refused(data)


@pytest.mark.parametrize("cut", range(1, len(PLAIN), 7))
def test_a_cut_archive_is_refused(cut: int) -> None:
    refused(PLAIN[:-cut])


@pytest.mark.parametrize("extra", [b"x", b"\0" * 30, b"PK\x05\x06" + b"\0" * 18, PLAIN])
def test_an_archive_with_something_behind_or_before_it_is_refused(extra: bytes) -> None:
    refused(PLAIN + extra)
    refused(extra + PLAIN)


def test_a_comment_which_may_hold_another_archive_is_refused() -> None:
    buffer = io.BytesIO(PLAIN)
    with zipfile.ZipFile(buffer, "a") as made:
        made.comment = archive([("m/a", b"other")])
    refused(buffer.getvalue())


@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 255))
@settings(max_examples=400)
def test_one_changed_byte_changes_no_content_unnoticed(at: int, difference: int) -> None:
    """It is refused, or lies where nothing is meant (dates, versions, attributes): the content is the same."""
    data = bytearray(PLAIN)
    data[at] ^= difference
    try:
        found = read_all(bytes(data))
    except BadArchive:
        return
    assert list(found.values()) == [b"first", b"second" * 50]


def hidden(data: bytes) -> bytes:
    """The directory names a member whose own header has another name."""
    at = data.rindex(b"m/a")
    return data[:at] + b"m/c" + data[at + 3 :]


def test_a_directory_that_contradicts_the_headers_is_refused() -> None:
    assert "says something else than the directory" in refused(hidden(PLAIN))


def overlapping() -> bytes:
    """Two entries of the directory that unpack the same bytes, as bombs of many gigabytes do."""
    data = archive([("a", zlib.compress(b"x"))])
    begin = struct.unpack_from("<L", data, len(data) - 6)[0]
    entry = data[begin:-22]
    second = entry.replace(b"a", b"b", 1) if entry.endswith(b"a") else entry
    directory = entry + second[:-1] + b"b"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), begin, 0)
    return data[:begin] + directory + end


def test_members_that_overlap_are_refused() -> None:
    refused(overlapping())


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(zeros.compress(bytes(1 << 20)) for _ in range(300)) + zeros.flush()
    size = 300 << 20
    crc = 0
    for _ in range(300):
        crc = zlib.crc32(bytes(1 << 20), crc)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(packed), size, 1, 0) + b"a"
    central = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, len(packed), size, 1, 0, 0, 0, 0, 0, 0)
    central += b"a"
    begin = len(local) + len(packed)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central), begin, 0)
    data = local + packed + central + end
    assert "unpacks to more than" in refused(data)
    with ZipArchive(io.BytesIO(data), most=1 << 40) as opened:
        assert sum(len(block) for block in opened.blocks("a")) == size


def test_a_member_that_unpacks_to_more_than_it_says_is_refused() -> None:
    data = archive([("a", b"y" * 5000)], zipfile.ZIP_DEFLATED)
    lying = data.replace(struct.pack("<L", 5000), struct.pack("<L", 50))
    assert "does not unpack to the 50 bytes" in refused(lying)


def test_an_encrypted_or_oddly_packed_member_is_refused() -> None:
    flags = bytearray(PLAIN)
    flags[6] |= 1
    at = PLAIN.rindex(b"PK\x01\x02", 0, PLAIN.rindex(b"m/a"))
    flags[at + 8] |= 1
    assert "is encrypted" in refused(bytes(flags))
    assert "unusual way" in refused(archive([("a", b"x" * 99)], zipfile.ZIP_BZIP2))


def test_limits_follow_from_the_size_of_the_file() -> None:
    assert memory_allowance(0) == 256 << 20
    assert memory_allowance(1 << 30) == (2 << 30) + (256 << 20)
