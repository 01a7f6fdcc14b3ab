"""Weights in several files: an index that names the file of each tensor, and the folders that Hugging Face lays out.

An index is text that somebody else wrote: it names files, and only plain names of regular files in its own folder are
opened. In a cache of Hugging Face they are links to the folder `blobs` of the same repository, which is taken too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from normexport.errors import CheckpointError
from normexport.io.json_files import BadJson, by_name, file_name, parse_json, read_json, record
from normexport.io.opening import open_regular
from normexport.text import printable, shortened

#: What a folder keeps its weights in, the first that is there: the order of Hugging Face's own libraries.
_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_INDEX = ".index.json"
_CONFIG = "config.json"
_COPY = "copy the file into the folder, if it is meant"
_LONGEST_CONFIG = 1 << 20
#: How far above a folder of files the folder `snapshots` of a cache is looked for.
_LEVELS = 3


def is_index(path: Path) -> bool:
    """Whether the name is that of an index: `model.safetensors.index.json`."""
    return path.name.endswith(_INDEX)


def find_weights_file(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The file with the weights of a folder as Hugging Face lays it out, and notes on what lies beside it.

    Raises:
        CheckpointError: there is none, there are several that none of the usual names decides between, or it is a link
            out of the folder.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        raise CheckpointError(str(folder), f"can't be read ({error.strerror})", "check its permissions") from error
    usual = [name for name in _WEIGHTS if name in names]
    found = usual or [name for name in names if name.endswith(".safetensors")]
    if not found:
        raise CheckpointError(str(folder), "is a folder without weights that are known", "give the file inside it")
    if not usual and len(found) > 1:
        cause = f"is a folder with several files of weights ({printable(shortened(found), 200)})"
        raise CheckpointError(str(folder), cause, "give the one that is meant")
    notes = [f"weights are in {printable(found[0], 80)}"]
    if len(usual) > 1:
        notes.append(f"not read beside it: {', '.join(usual[1:])}")
    _beside(folder, found[0], str(folder))
    return folder / found[0], (*notes, *(_describe_config(folder) if _CONFIG in names else ()))


def _describe_config(folder: Path) -> list[str]:
    """What the file of settings says the network is; nothing that it names is imported."""
    try:
        with open_regular(_beside(folder, _CONFIG, str(folder))) as file:
            fields = parse_json(file.read(_LONGEST_CONFIG))
    except (BadJson, OSError):
        return [f"{_CONFIG} can't be read"]
    named = fields.get("architectures", fields.get("architecture")) if isinstance(fields, dict) else None
    names = [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]
    return [f"{_CONFIG} says {printable(shortened(names), 120)}"] if names else []


def read_shards(index: Path, read: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Every tensor that an index names, from the file that it names for it.

    Args:
        read: the tensors of one file.

    Raises:
        CheckpointError: the index is damaged or names a file that is not in its folder; a tensor is missing, in two
            files, or in a file that the index does not name for it.
    """
    homes = _weight_map(index)
    tensors: dict[str, Any] = {}
    for shard, path in shard_paths(index).items():
        held = read(path)
        for name in held:
            if homes.get(name) != shard:
                words = f"holds {_quote(name)}, which the index has {'in another file' if name in homes else 'not'}"
                raise _damaged(index, f"{_quote(shard)} {words}")
        tensors |= held
    if missing := [name for name in homes if name not in tensors]:
        name = missing[0]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise _damaged(index, f"{_quote(homes[name])} lacks {_quote(name)}{more}")
    return {name: tensors[name] for name in homes}


def shard_paths(index: Path) -> dict[str, Path]:
    """The files that an index names, by their names in it, links followed.

    Raises:
        CheckpointError: the index is damaged, or one of them is not in its folder.
    """
    return {shard: _beside(index.parent, shard, str(index)) for shard in dict.fromkeys(_weight_map(index).values())}


def _weight_map(index: Path) -> dict[str, str]:
    """Name of tensor -> name of file."""
    try:
        homes = record(read_json(index), "").get("weight_map", by_name(file_name))
    except BadJson as error:
        raise CheckpointError(str(index), f"is no index of weights ({error})", "copy or download it again") from error
    if not homes:
        raise CheckpointError(str(index), "is an index of no weights", "copy or download it again")
    return homes


def _beside(folder: Path, name: str, place: str) -> Path:
    """The regular file `name` of `folder`, links followed as far as the folder or the cache's blobs.

    Raises:
        CheckpointError: it is missing, no regular file, elsewhere, or has another name elsewhere.
    """
    try:
        home = Path(os.path.realpath(folder, strict=True))
        path = Path(os.path.realpath(home / name, strict=True))
        found = path.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise CheckpointError(place, f"{_quote(name)} is missing", "put it into the same folder") from error
        cause = f"{_quote(name)} can't be read ({error.strerror})"
        raise CheckpointError(place, cause, "copy or download it again") from error
    above = [parent.parent for parent in home.parents[:_LEVELS] if parent.name == "snapshots"]
    is_blob = any(path.parent == repository / "blobs" for repository in above)
    if not (path.parent == home or is_blob):
        raise CheckpointError(place, f"{_quote(name)} is a link out of its folder", _COPY)
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(place, f"{_quote(name)} is no regular file", "copy or download it again")
    if found.st_nlink > 1 and not is_blob:
        raise CheckpointError(place, f"{_quote(name)} has another name elsewhere", _COPY)
    return path


def _damaged(index: Path, words: str) -> CheckpointError:
    return CheckpointError(str(index), words, "copy or download its files again")


def _quote(name: str) -> str:
    return printable(name, 80)
