"""Files that are damaged, of another kind, or without weights: one line each."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from normexport.checkpoint import load
from normexport.errors import ExitCode, UsageError
from tests.checkpoint import layouts
from tests.checkpoint.layouts import Net, trained
from tests.checkpoint.support import batch_norm_net, exported, l1_trained, refused, save


def test_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file") as caught:
        load(tmp_path / "none.pt")
    assert caught.value.exit_code == ExitCode.USAGE


def test_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, I am text", "is not a file that PyTorch wrote"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 9, "is HDF5"),
        (b"\x1f\x8b\x08\0" + b"\0" * 9, "is gzip"),
        (b"\x08\x0a\x12\x07pytorch", "is an ONNX model"),
        (b'\x40\0\0\0\0\0\0\0{"a":1}', "is damaged (it is cut short"),
        (b'{"weight_map": {}}', "is a JSON document"),
        (b"\x80\x02}q\x00.", "can't be read"),
        (b"\x80\x05garbage", "can't be read"),
        (b"PK\x03\x04 not really", "is truncated or damaged"),
    ],
)
def test_other_content_gets_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    assert words in refused(tmp_path / "m.pt")


@pytest.mark.parametrize("make", [save, lambda path, net: exported(path, net)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, make: Callable[..., Any], share: float) -> None:
    file = make(tmp_path / "m.pt", l1_trained())
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert "is truncated or damaged" in refused(file)


def test_truncated_old_format_is_refused(tmp_path: Path) -> None:
    torch.save(l1_trained(), tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "m.pt").write_bytes(data[: len(data) // 2])
    refused(tmp_path / "m.pt")


def test_one_flipped_byte_in_a_weight_is_refused(tmp_path: Path) -> None:
    """torch.load itself reads it without a word."""
    file = save(tmp_path / "m.pt", l1_trained())
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        record = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
    data[record.header_offset + 200] ^= 0x10
    file.write_bytes(data)
    torch.load(file, weights_only=False)
    assert "the checksum of m/data/0 does not match" in refused(file)


def test_files_written_without_checksums_load(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        file = save(tmp_path / "m.pt", l1_trained())
    finally:
        torch.serialization.set_crc32_options(True)
    assert load(file).source == "module"


def test_other_zip_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", a=np.ones(2))
    assert "is a zip archive that PyTorch did not write" in refused(tmp_path / "m.npz")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.pt")
    assert "is a pipe or a device, not a file" in refused(tmp_path / "m.pt")


@pytest.mark.parametrize("thing", [{}, [1, 2], 3, {"epoch": 3, "config": "x"}, {"state_dict": {}}, torch.ones(3)])
def test_file_without_weights_says_what_it_holds(tmp_path: Path, thing: Any) -> None:
    assert ", not weights by name; save model.state_dict()" in refused(save(tmp_path / "m.pt", thing))


def test_trusted_file_whose_code_is_gone_says_so(tmp_path: Path) -> None:
    net = Net(trained(layouts.LpNormL1(6)))
    file = save(tmp_path / "m.pt", net)
    data = file.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"tests.checkpoint.layouts", b"checkpoint.absents"))
    message = refused(file, trust=True)
    assert "needs code that can't be imported here (ModuleNotFoundError" in message


def test_several_networks_in_one_file_are_named(tmp_path: Path) -> None:
    state = batch_norm_net().state_dict()
    message = refused(save(tmp_path / "m.pt", {"netG": state, "netD": state}))
    assert "holds several networks (netG, netD)" in message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("thing", [l1_trained, lambda: l1_trained().state_dict()])
def test_pickles_of_every_protocol_load(tmp_path: Path, protocol: int, thing: Callable[..., Any]) -> None:
    torch.save(thing(), tmp_path / "m.pt", pickle_protocol=protocol)
    assert load(tmp_path / "m.pt").norms[0].kind == "l1"
