"""Tar archives that nobody vouches for: their files are what tarfile finds, all else is one line, none is unpacked."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normexport.errors import UsageError
from normexport.io.tar_archives import Members, members_in
from normexport.proof.inputs.shards import shards
from tests.proof.inputs.stored import classes, npy, pictures, png, tar, values

STYLES = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=120)


def refused(content: bytes, tmp_path: Path, words: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as raised:
        shards([path])
    assert len(str(raised.value).splitlines()) == 1


def with_header(name: str = "a.png", content: bytes = b"x", **fields: object) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for field, value in fields.items():
        setattr(header, field, value)
    packed = header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    return packed + bytes(1024)


@given(files=st.dictionaries(NAMES, st.binary(max_size=1500), max_size=5), style=st.sampled_from(STYLES))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_lie_where_tarfile_finds_them(files: dict[str, bytes], style: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    try:
        path.write_bytes(tar(files, style))
    except ValueError:  # a name that is too long for ustar
        return
    found = Members([path], list(members_in(path)))
    assert [each.content() for each in found] == list(files.values())
    with tarfile.open(path) as archive:
        assert [each.name for each in found] == archive.getnames()


def test_names_are_no_paths_and_steer_no_terminal(tmp_path: Path) -> None:
    array = npy(values(pictures(1))[0])
    path = tmp_path / "a.tar"
    path.write_bytes(tar({"../../etc/x.npy": array, "/abs/y.npy": array, "z\x1b[2J.npy": array}))
    before = sorted(tmp_path.rglob("*"))
    members, labels = shards([path])
    assert [len(each.content()) for each in members] == [len(array)] * 3
    assert labels == ()
    assert sorted(tmp_path.rglob("*")) == before
    assert "\x1b" not in str(members[2])


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_links_devices_and_holes_are_refused(kind: bytes, tmp_path: Path) -> None:
    content = with_header(type=kind, linkname="/etc/passwd")
    refused(content, tmp_path, "is a link, a device or has holes|not a tar archive")


def test_sizes_that_lie_are_refused(tmp_path: Path) -> None:
    honest = with_header()
    refused(with_header(size=1 << 30), tmp_path, "cut short|unexpected end")
    refused(honest[:-1024], tmp_path, "has no end")
    refused(honest[:700], tmp_path, "cut short|unexpected end")
    refused(honest[:512], tmp_path, "cut short|unexpected end")
    refused(b"", tmp_path, "empty file")
    refused(bytes(10_240), tmp_path, "holds no images")
    pax = tar({"a.png": b"x"}, tarfile.PAX_FORMAT)
    assert pax  # negative numbers come through extended headers
    header = tarfile.TarInfo("a.png")
    header.size, header.pax_headers = 1, {"size": "-512"}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header, io.BytesIO(b"x"))
    refused(file.getvalue(), tmp_path, "before it begins|cut short|has no end|not a tar archive")


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    """tarfile would stop there without a word, and fewer samples would calibrate."""
    content = bytearray(tar({f"{number}.npy": b"x" for number in range(4)}))
    content[2048 + 10] ^= 1
    refused(bytes(content), tmp_path, "damaged or cut short, and has no end")


def test_long_headers_and_chains_of_them_are_refused_before_they_are_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    refused(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024), tmp_path, "longer than any that tar writes")
    header.size = 4
    chain = (header.tobuf(tarfile.GNU_FORMAT) + b"abc\0" + bytes(508)) * 20_000
    refused(chain + bytes(1024), tmp_path, "not a tar archive")


def test_packed_archives_are_refused_by_what_packed_them(tmp_path: Path) -> None:
    refused(gzip.compress(tar({"a.npy": b"x"})), tmp_path, "is packed by gzip")


def test_samples_that_are_several_files_or_lack_classes_are_refused(tmp_path: Path) -> None:
    image = png(pictures(1)[0])
    refused(tar({"a.left.png": image, "a.right.png": image}), tmp_path, "one sample with a.right.png")
    refused(tar({"a.png": image, "a.cls": b"1", "b.png": image}), tmp_path, "has a class, and b.png has none")
    refused(tar({"a.png": image, "b.png": image, "b.cls": b"1"}), tmp_path, "has a class, and a.png has none")
    for wrong in (b"", b"cat", b"-1", b"1.5", b"9" * 70, "١".encode()):
        refused(tar({"a.png": image, "a.cls": wrong}), tmp_path, "a.cls: is no number of a class")


def test_an_archive_that_changes_is_read_anew(tmp_path: Path) -> None:
    image, path = png(pictures(1)[0]), tmp_path / "a.tar"
    path.write_bytes(tar({"a.png": image, "a.cls": b"1"}))
    assert shards([path])[1] == (1,)
    path.write_bytes(tar({"a.png": image, "a.cls": b"2", "b.png": image, "b.cls": b"0"}))
    assert shards([path])[1] == (2, 0)
    assert classes(2) == [0, 2]
