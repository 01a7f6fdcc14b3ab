"""What a file with weights holds, whatever the format: a mapping of tensors, a training checkpoint, or a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from normexport.checkpoint.container import Container, container
from normexport.checkpoint.holders import find_weights
from normexport.checkpoint.part import Part
from normexport.checkpoint.pickles.scripted import read_scripted
from normexport.checkpoint.pickles.unpickle import unpickle
from normexport.checkpoint.safetensors import read_safetensors
from normexport.checkpoint.shards import find_weights_file, read_shards, shard_paths
from normexport.checkpoint.state import State
from normexport.errors import CheckpointError

_SCRIPT = "a TorchScript archive: its weights are read, its code is not"


@dataclass(frozen=True)
class Opened:
    """A file that was told from its content; of a folder, the file in it that holds the weights."""

    path: Path
    kind: Container
    notes: tuple[str, ...] = ()

    def shards(self) -> tuple[Path, ...]:
        """The files that an index names."""
        return tuple(shard_paths(self.path).values()) if self.kind == "index" else ()


def open_container(path: Path, trust: bool) -> Opened:
    """Find out what `path` is.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is damaged, of another kind, or a folder without weights.
    """
    notes: tuple[str, ...] = ()
    if path.is_dir():
        path, notes = find_weights_file(path)
    return Opened(path, container(path, trust), notes)


def read_weights(opened: Opened, trust: bool, part: Part) -> nn.Module | State:
    """The module or the weights by name in a file that is no exported program; `part` says which of several.

    Raises:
        UsageError: `part` names nothing in it.
        CheckpointError: damaged, would run code, or holds no weights, or several that `part` does not decide between.
    """
    content, notes = _content(opened, trust, part), opened.notes
    if opened.kind == "torchscript":
        notes = (*notes, _SCRIPT)
    return find_weights(content, opened.path, part, notes)


def _content(opened: Opened, trust: bool, part: Part) -> Any:
    if opened.kind == "safetensors":
        return read_safetensors(opened.path)
    if opened.kind == "torchscript":
        return read_scripted(opened.path)
    if opened.kind == "index":
        return read_shards(opened.path, lambda shard: _read_shard(shard, trust))
    return unpickle(opened.path, trust, in_part=part.entry is not None)


def _read_shard(path: Path, trust: bool) -> Mapping[str, Any]:
    """The tensors of one file of several."""
    kind = container(path, trust)
    if kind == "safetensors":
        return read_safetensors(path)
    content = unpickle(path, trust) if kind == "pickle" else None
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise CheckpointError(str(path), "holds no tensors by name", "download it again")
    return content
