"""Read what `torch.save` wrote without running anything it names: our own reader, and `--trust` for PyTorch's."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from normexport.checkpoint.entry_names import HOLDERS
from normexport.checkpoint.pickles.inert import BadPickle, Call, Dict, text_of
from normexport.checkpoint.pickles.machine import Pickle, read_pickle
from normexport.checkpoint.pickles.rebuild import rebuilt, unknown_names
from normexport.checkpoint.pickles.storages import (
    AppendedData,
    Declaration,
    Storages,
    ZippedData,
    declaration,
    is_swapped,
)
from normexport.checkpoint.pickles.unread import Unread, without_unknown
from normexport.errors import CheckpointError
from normexport.garbage import without_collection
from normexport.io.limits import memory_allowance
from normexport.io.zip_archive import BadArchive, ZipArchive
from normexport.text import first_line, printable, shortened
from normexport.user_code import working_folder_importable

_TRUST = "pass --trust if you trust its author, or give a state_dict with --model"
_FLOAT = ("holds quantised layers", "give the float network that was quantised")
_LAZY = ("holds layers that have no weights yet", "run the network once and save it again")
#: Names that are refused in words of their own, by their beginning.
_IN_WORDS = {
    "torch.ao.nn.": _FLOAT,
    "torch.nn.quantized.": _FLOAT,
    "torch.nn.intrinsic.": _FLOAT,
    "torch.nn.qat.": _FLOAT,
    "torch.nn.parameter.Uninitialized": _LAZY,
}
#: What the format before PyTorch 1.6 begins with, and its version.
_MAGIC, _OLD_VERSION = 0x1950A86A20F9469CFC6C, 1001
#: Of a file in that format, so much is read first; the pickle that describes its tensors is seldom longer.
_FIRST = 16 << 20


def unpickle(path: Path, trust: bool, in_part: bool = False) -> Any:
    """The object in `path`, tensors on the CPU.

    Without `trust` only tensors, plain data and layers of torch.nn and normexport.nn are rebuilt, by code of ours.

    Args:
        in_part: an entry of the file that holds something else becomes an `Unread`, instead of a refusal.

    Raises:
        CheckpointError: the file would run other code (named), is damaged, too large, or needs a missing module.
    """
    if trust:
        return _load_trusted(path)
    with in_one_line(path), without_collection(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types that PyTorch calls experimental
        return _read_file(path, in_part)


@contextlib.contextmanager
def in_one_line(path: Path) -> Iterator[None]:
    """Whatever is wrong with the archive or pickle at `path` that is read in here becomes one CheckpointError."""
    try:
        yield
    except BadArchive as error:
        raise CheckpointError(str(path), f"is truncated or damaged ({error})", "copy or download it again") from error
    except BadPickle as error:
        words = printable(str(error))
        cause = words if error.remedy else f"can't be read ({words})"
        raise CheckpointError(str(path), cause, error.remedy or "it is damaged, or not from torch.save") from error
    except OSError as error:
        raise CheckpointError(str(path), f"can't be read ({error.strerror})", "check its permissions") from error
    except RecursionError as error:
        cause = "can't be read (objects in it are nested too deeply)"
        raise CheckpointError(str(path), cause, "it is damaged, or not from torch.save") from error


def _load_trusted(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), working_folder_importable():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=False)
    except (ModuleNotFoundError, AttributeError) as error:
        raise CheckpointError(
            str(path),
            f"needs code that can't be imported here ({_describe_error(error)})",
            "run in the folder of that code, or give a state_dict with --model",
        ) from error
    # A damaged pickle can raise anything: UnpicklingError, EOFError, KeyError, UnicodeDecodeError, ...
    except Exception as error:
        raise CheckpointError(
            str(path), f"can't be read ({_describe_error(error)})", "it is damaged, or not from torch.save"
        ) from error


def _read_file(path: Path, in_part: bool) -> Any:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
        file.seek(0)
        return _read_zipped(path, file, in_part) if zipped else _read_old(path, file, in_part)


def _read_zipped(path: Path, file: BinaryIO, in_part: bool) -> Any:
    """`<folder>/data.pkl` and the storages `<folder>/data/<key>`."""
    with ZipArchive(file) as archive:
        folder = folder_of(archive)
        pickle = read_pickle(archive.read(f"{folder}/data.pkl"))
        root = _known(path, pickle, in_part)
        return rebuilt(root, zipped_storages(archive, folder), memory_allowance(archive.size))


def zipped_storages(archive: ZipArchive, folder: str) -> Storages:
    """The storages of an archive that PyTorch wrote, in the byte order that it says."""
    order = f"{folder}/byteorder"
    return Storages(ZippedData(archive, folder), order in archive.members and is_swapped(archive.read(order, 16)))


def folder_of(archive: ZipArchive) -> str:
    """The one folder that everything in an archive of `torch.save` lies in. Raises BadPickle: it is none."""
    folders = {name.partition("/")[0] for name in archive.members}
    folder = next(iter(folders), "")
    if len(folders) != 1 or f"{folder}/data.pkl" not in archive.members:
        raise BadPickle("it is no archive of torch.save")
    return folder


def _read_old(path: Path, file: BinaryIO, in_part: bool) -> Any:
    """The format before PyTorch 1.6: five pickles, then the storages."""
    size = file.seek(0, 2)
    length = min(size, _FIRST)
    while True:
        file.seek(0)
        try:
            pickle, keys, end = _old_pickles(path, file.read(length))
            break
        except BadPickle:
            if length == size:
                raise
            length = min(size, 4 * length)
    root = _known(path, pickle, in_part)
    declared: dict[str, Declaration] = {}
    for reference in pickle.references:
        if isinstance(reference.key, tuple) and reference.key and text_of(reference.key[0]) == "module":
            raise BadPickle(
                "is a whole module in PyTorch's file format before 1.6, which can't be read without running its pickle",
                _TRUST,
            )
        found = declaration(reference)
        declared.setdefault(found.key, found)
    storages = Storages(AppendedData(file, size, end, keys, declared))
    return rebuilt(root, storages, memory_allowance(size))


def _old_pickles(path: Path, data: bytes) -> tuple[Pickle, list[Any], int]:
    """The pickle of the object, the keys of its storages in order, and where they begin.

    Before it stand a magic number, a version and facts of the machine that wrote it.
    """
    first = _next_pickle(path, data, 0)
    if type(first.root) is not int or first.root != _MAGIC:
        raise BadPickle("it is a pickle, but not of torch.save")
    version = _next_pickle(path, data, first.end)
    if type(version.root) is not int or version.root != _OLD_VERSION:
        raise BadPickle("its format is of an unknown version")
    pickle = read_pickle(data, _next_pickle(path, data, version.end).end)
    keys = _next_pickle(path, data, pickle.end)
    if not isinstance(keys.root, list):
        raise BadPickle("it has no list of storages")
    return pickle, keys.root, keys.end


def _next_pickle(path: Path, data: bytes, at: int) -> Pickle:
    pickle = read_pickle(data, at)
    _known(path, pickle, in_part=False)
    return pickle


def _known(path: Path, pickle: Pickle, in_part: bool) -> Any:
    """The root of a pickle of which everything can be rebuilt; with `in_part`, without what can't."""
    unknown = unknown_names(pickle.names)
    if not unknown:
        return pickle.root
    for name in unknown:
        for start, (words, remedy) in _IN_WORDS.items():
            if name.startswith(start):
                raise CheckpointError(str(path), f"{words} ({printable(name, 80)})", remedy)
    rest = without_unknown(pickle.root, unknown)
    if in_part and not isinstance(rest, Unread):
        return rest
    named = shortened([printable(name, 80) for name in unknown], 4)
    entry = _entry_of_weights(rest)
    remedy = _TRUST if entry is None else f"pass --weights {entry} to read nothing else of it, or {_TRUST}"
    raise CheckpointError(str(path), f"would run code to be loaded: {named}", remedy)


def _entry_of_weights(root: Any) -> str | None:
    """The usual name of an entry with weights that can be read."""
    entries = dict(root.entries()) if isinstance(root, Dict) and all(map(text_of, root.pairs[::2])) else {}
    return next((name for name in HOLDERS if isinstance(entries.get(name), (Dict, Call))), None)


def _describe_error(error: BaseException) -> str:
    """Its class, and what it says."""
    return f"{type(error).__name__}: {first_line(error, 160)}" if str(error).strip() else type(error).__name__
