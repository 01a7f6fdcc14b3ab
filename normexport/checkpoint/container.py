"""What kind of file it is, judged by its content; everything that is no checkpoint gets one clear line."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from normexport.checkpoint.shards import is_index
from normexport.errors import CheckpointError
from normexport.io.opening import require_there
from normexport.io.zip_archive import BadArchive, ZipArchive

Container = Literal["program", "pickle", "torchscript", "safetensors", "index"]

_AGAIN = "copy or download it again"
_HEADS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself", "run: git lfs pull"),
    (b"\x89HDF", "is HDF5 (Keras), not PyTorch", "give a file written by torch.save or torch.export.save"),
    (b"\x1f\x8b", "is gzip-compressed", "decompress it first"),
    (b"<!DOCTYPE", "is a web page, not a checkpoint", _AGAIN),
    (b"<!doctype", "is a web page, not a checkpoint", _AGAIN),
    (b"<html", "is a web page, not a checkpoint", _AGAIN),
)


def container(path: Path, trust: bool = False) -> Container:
    """Tell kinds of files with weights apart, by their content and not by their suffix.

    They are exported programs (`.pt2`), what `torch.save` writes (zip, or the pickle of old versions), TorchScript
    archives, safetensors files, and indexes of several files, which alone are known by their names. With `trust` an
    archive may have any form that PyTorch opens; else it must have one reading only.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is a folder, unreadable, empty, truncated, damaged, or of another kind.
    """
    head = _head(path)
    if head.startswith(b"PK"):
        return _zip_container(path, trust)
    if head[4:9] == b"\0\0\0\0{":  # eight bytes of length, of which no header needs the upper four, and JSON
        return "safetensors"
    for start, cause, remedy in _HEADS:
        if head.startswith(start):
            raise CheckpointError(str(path), cause, remedy)
    if is_index(path):
        return "index"
    if path.suffix == ".onnx" or _looks_like_onnx(head):
        remedy = "name it .onnx for normexport convert, fold and parity"
        raise CheckpointError(str(path), "is an ONNX model, not a checkpoint", remedy)
    if head.lstrip().startswith(b"{"):
        remedy = "give the file with the weights, or an index with a name that ends in .index.json"
        raise CheckpointError(str(path), "is a JSON document, not a checkpoint", remedy)
    if head[0] == 0x80:  # pickle protocol 2 and later: torch.save before 1.6
        return "pickle"
    if path.suffix == ".safetensors":  # whose reader says what is wrong with it
        return "safetensors"
    raise CheckpointError(str(path), "is not a file that PyTorch wrote", "give a .pt2, .pt, .pth or .safetensors file")


def _head(path: Path) -> bytes:
    require_there(path)
    if path.is_dir():
        raise CheckpointError(str(path), "is a folder, not a checkpoint file", "give the file inside it")
    if not path.is_file():  # a pipe would be waited for, for ever
        raise CheckpointError(str(path), "is a pipe or a device, not a file", "write it to a file first")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(str(path), f"can't be read ({error.strerror})", "check its permissions") from error
    if not head:
        raise CheckpointError(str(path), "is empty", _AGAIN)
    return head


def _zip_container(path: Path, trust: bool) -> Container:
    names = _names_as_pytorch_does(path) if trust else _names(path)
    files = {name.partition("/")[2] or name for name in names}
    if "archive_format" in files:
        if any(name.startswith("models/") for name in files):
            return "program"
        raise CheckpointError(str(path), "is a compiled package without a program", "save with torch.export.save")
    if "serialized_exported_program.json" in names:
        raise CheckpointError(
            str(path), "is an exported program of PyTorch 2.7 or older", "load it there and export it again"
        )
    if "constants.pkl" in files and any(name.startswith("code/") for name in files):
        return "torchscript"
    if "data.pkl" not in files:
        raise CheckpointError(str(path), "is a zip archive that PyTorch did not write", "give a .pt2, .pt or .pth file")
    return "pickle"


def _names(path: Path) -> list[str]:
    try:
        with ZipArchive(path) as archive:
            return list(archive.members)
    except BadArchive as error:
        raise CheckpointError(str(path), f"is truncated or damaged ({error})", _AGAIN) from error
    except OSError as error:
        raise CheckpointError(str(path), f"can't be read ({error.strerror})", "check its permissions") from error


def _names_as_pytorch_does(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not names or min(info.header_offset for info in archive.infolist()):
                # The end of a program was cut off, and what was found is the archive of sample inputs inside it.
                raise zipfile.BadZipFile
    # zipfile lets out whatever a damaged directory makes its parser raise.
    except Exception as error:
        raise CheckpointError(str(path), "is truncated or damaged", _AGAIN) from error
    return names


def _looks_like_onnx(head: bytes) -> bool:
    """A ModelProto starts with field 1 (ir_version, a small varint) and goes on with a length-delimited field."""
    return len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 0x20 and head[2] & 0x07 == 2
