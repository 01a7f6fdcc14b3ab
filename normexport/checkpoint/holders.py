"""Where in a file its weights are: in the object itself, or in one entry of a training checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normexport.checkpoint.entry_names import HOLDERS, names_average
from normexport.checkpoint.part import WHOLE, Part
from normexport.checkpoint.pickles.rebuild_tensors import NoNumbers
from normexport.checkpoint.pickles.unread import Unread
from normexport.checkpoint.prefix import only_under, without_ignored
from normexport.checkpoint.state import WRAPPING, State
from normexport.errors import CheckpointError, UsageError
from normexport.text import printable, shortened

#: Longer lists are data; `torch.save((net.state_dict(), optimizer.state_dict()), path)` has two.
_LONGEST_LIST = 64
#: A key of a state_dict is a path of a module; a longer one is no such path.
_LONGEST_KEY = 4096
#: Entries that say how a network was made: their values are told. Lightning writes the first.
_SETTINGS = ("hyper_parameters", "hparams")
_DEPTH = 4


@dataclass(frozen=True)
class _Found:
    """Weights, the path of the entry that they stood in, the paths of others that may be meant as well."""

    weights: nn.Module | Mapping[str, Any]
    path: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()


def find_weights(content: Any, path: Path, part: Part = WHOLE, notes: tuple[str, ...] = ()) -> nn.Module | State:
    """The module or the state_dict in what a file holds: itself, or one entry of a training checkpoint.

    Raises:
        UsageError: `part` names nothing in it.
        CheckpointError: there are none (the message says what the file holds instead), or several and `part` does not
            say which is meant, or they have no numbers.
    """
    found = _Search().weights_in(content, _DEPTH) if part.entry is None else _named(content, part.entry, path)
    if found is None:
        raise CheckpointError(str(path), f"holds {_describe(content)}, not weights by name", "save model.state_dict()")
    if found.rivals:
        names = [".".join(found.path), *found.rivals]
        choice = " or ".join(f"--weights {printable(name, 80)}" for name in names[:4])
        cause = f"holds several networks ({printable(shortened(names, 8), 400)})"
        raise CheckpointError(str(path), cause, f"choose with {choice}")
    notes = (*notes, *_tell_entry(found), *_tell_rest(content, found))
    if isinstance(found.weights, nn.Module):
        refuse_keys(part, path)
        return found.weights
    _require_numbers(found.weights, path)
    state = replace(State.of(found.weights), notes=notes)
    state = state if part.prefix is None else only_under(part.prefix, state, str(path))
    return without_ignored(part.ignored, state, str(path))


def _named(content: Any, entry: str, path: Path) -> _Found:
    """The weights in the entry of that name; where none has it, what "ema" and "model" stand for."""
    search, found = _Search(), None
    for names, value in _entries(content, entry):
        if isinstance(value, Unread):
            cause = f"would run code to be loaded: {printable(value.name, 80)}"
            raise CheckpointError(f"{path}, {printable(entry, 80)}", cause, "pass --trust if you trust its author")
        if (inside := search.weights_in(value, _DEPTH)) is not None:
            found = replace(
                inside, path=(*names, *inside.path), rivals=tuple(f"{entry}.{each}" for each in inside.rivals)
            )
            break
    if found is not None:
        return found
    choices = dict(_choices(content, search))
    if entry in ("ema", "model"):
        meant = [name for name in choices if names_average(name) == (entry == "ema")]
        if len(meant) == 1:
            return choices[meant[0]]
    has = f"it has weights under {printable(shortened(list(choices), 8), 400)}" if choices else "it has no such entries"
    raise UsageError(f"--weights {printable(entry, 80)}", f"names no weights in {path}", has)


def _entries(content: Any, entry: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Values at a dotted path; a name with dots in it is one name first."""
    mapping = _as_mapping(content)
    if mapping is None:
        return
    for key, value in mapping.items():
        name = str(key)
        if name == entry:
            yield (name,), value
        elif entry.startswith(f"{name}.") and name:
            yield from (((name, *names), inner) for names, inner in _entries(value, entry[len(name) + 1 :]))


def _choices(content: Any, search: _Search) -> Iterator[tuple[str, _Found]]:
    """Everything in a file that `--weights` can name, by that name."""
    found = search.weights_in(content, _DEPTH)
    if found is None or not found.path:
        return
    for name in (".".join(found.path), *found.rivals):
        for names, value in _entries(content, name):
            if (inside := search.weights_in(value, _DEPTH)) is not None:
                yield name, replace(inside, path=names)


def refuse_keys(part: Part, path: Path) -> None:
    """Refuse options that choose among keys, for a file that holds a whole network.

    Raises:
        UsageError: names the option.
    """
    for option, given in (("--prefix", part.prefix), *(("--ignore-keys", each) for each in part.ignored)):
        if given is not None:
            place = f"{option} {printable(given, 80)}"
            raise UsageError(place, f"is for weights by name, and {path} holds a whole network", "leave it out")


class _Search:
    """A search that looks at each object once per depth: by references a small file can have 2^40 paths."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Found | None] = {}
        self._kept: list[Any] = []  # so that the ids stay those of these objects

    def weights_in(self, content: Any, depth: int) -> _Found | None:
        if isinstance(content, nn.Module):
            return _Found(content)
        place = id(content), depth
        if place not in self._known:
            self._kept.append(content)
            self._known[place] = None  # where it holds itself, it is not looked at again
            self._known[place] = self._looked_up(_as_mapping(content), depth)
        return self._known[place]

    def _looked_up(self, content: Mapping[Any, Any] | None, depth: int) -> _Found | None:
        if content is None or depth == 0 or _is_optimizer(content):
            return None
        usual = self._networks_in({key: content[key] for key in HOLDERS if key in content}, depth)
        # Before the tensors beside them: a best accuracy or a random state is often one.
        others = self._networks_in({key: value for key, value in content.items() if key not in HOLDERS}, depth)
        if usual or others:
            inside = usual or others
            name, first = next(iter(inside.items()))
            rivals = [key for key, each in usual.items() if key != name and _may_be_meant(each, first)]
            rivals += [key for key, each in others.items() if key != name and (not usual or _is_copy(each, first))]
            names = [".".join((key, *(usual | others)[key].path)) for key in rivals]
            return _Found(first.weights, (name, *first.path), (*(f"{name}.{each}" for each in first.rivals), *names))
        return _Found(content) if _is_state(content) else None

    def _networks_in(self, content: Mapping[Any, Any], depth: int) -> dict[str, _Found]:
        """Entries that hold weights themselves."""
        named = {str(key): value for key, value in content.items()}
        others = {key: each for key, each in named.items() if not key.startswith("optim") and "_extra_state" not in key}
        inside = {key: self.weights_in(value, depth - 1) for key, value in others.items()}
        return {key: found for key, found in inside.items() if found is not None}


def _may_be_meant(other: _Found, first: _Found) -> bool:
    """Whether an entry of a usual name is another network: it has vectors or matrices, and not the same numbers."""
    theirs = _tensors_of(other)
    return any(value.dim() for value in theirs.values()) and not _is_equal(theirs, _tensors_of(first))


def _is_copy(other: _Found, first: _Found) -> bool:
    """Whether an entry of another name holds other numbers of one of the layers that an entry of a usual name has."""
    theirs, ours = _tensors_of(other), _tensors_of(first)
    shared = any(name in ours and ours[name].shape == value.shape for name, value in theirs.items() if value.dim())
    return shared and not _is_equal(theirs, ours)


def _tensors_of(found: _Found) -> dict[str, Tensor]:
    """Tensors by their names without those of wrappers."""
    weights = found.weights.state_dict() if isinstance(found.weights, nn.Module) else found.weights
    tensors = {name: value for name, value in weights.items() if _is_dense(value)}
    return {".".join(part for part in name.split(".") if part not in WRAPPING): tensors[name] for name in tensors}


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized and not value.is_meta


def _is_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(_is_same(value, other[name]) for name, value in one.items())


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to the bit, of one type: half precision of the other is another network."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bytes(one), _bytes(other))


def _bytes(value: Tensor) -> Tensor:
    return value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def _tell_entry(found: _Found) -> Iterator[str]:
    if found.path:
        yield f"weights are under {'.'.join(found.path)[:80]!r} of the file"


def _tell_rest(content: Any, found: _Found) -> Iterator[str]:
    """What else a training checkpoint holds, settings with their values."""
    if not found.path or not isinstance(content, Mapping):
        return
    rest = {str(name): value for name, value in content.items() if str(name) != found.path[0]}
    for name in _SETTINGS:
        if isinstance(settings := rest.get(name), Mapping) and settings:
            rest.pop(name)
            told = [f"{printable(str(key), 40)}={_tell_value(value)}" for key, value in settings.items()]
            yield f"{name} of the file: {shortened(told, 12)}"
    unread = {name: value for name, value in rest.items() if isinstance(value, Unread)}
    for name, value in unread.items():
        yield f"{printable(name, 80)} of the file is not read, as it would run code: {printable(value.name, 80)}"
    if left := [printable(name, 80) for name in rest if name not in unread]:
        yield f"left out of the file: {shortened(left, 8)}"


def _tell_value(value: Any) -> str:
    """A number or text; of anything else only what it is, for that can be as large as its author likes."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return printable(repr(value[:60] if isinstance(value, str) else value), 60)
    return f"({value.name})" if isinstance(value, Unread) else f"({type(value).__name__})"


def _require_numbers(state: Mapping[str, Any], path: Path) -> None:
    for key, value in state.items():
        if not key.isprintable() or len(key) > _LONGEST_KEY:
            raise CheckpointError(str(path), f"has a weight of the name {key[:40]!r}", "rename it and save again")
        if isinstance(value, Tensor) and value.is_meta:
            value = NoNumbers("has a shape and no numbers (device meta)", "save it from the CPU")
        if isinstance(value, Tensor) and value.is_quantized:
            kind = str(value.dtype).removeprefix("torch.")
            value = NoNumbers(f"is quantised ({kind})", "give the float network that was quantised")
        if isinstance(value, NoNumbers):
            raise CheckpointError(str(path), f"{key} {value.words}", value.remedy)


def _as_mapping(content: Any) -> Mapping[Any, Any] | None:
    if isinstance(content, (list, tuple)) and len(content) <= _LONGEST_LIST:
        return dict(enumerate(content))
    return content if isinstance(content, Mapping) else None


def _is_optimizer(content: Mapping[Any, Any]) -> bool:
    return "param_groups" in content and "state" in content


def _is_state(content: Mapping[Any, Any]) -> bool:
    return (
        bool(content)
        and all(isinstance(key, str) for key in content)
        and any(_is_weight(value) for value in content.values())
    )


def _is_weight(value: Any) -> bool:
    """Random states are tensors too, of bytes."""
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_complex() or value.is_quantized
    if isinstance(value, np.ndarray):
        return np.issubdtype(value.dtype, np.inexact)
    return isinstance(value, NoNumbers)


def _describe(content: Any) -> str:
    if isinstance(content, Mapping) and _is_optimizer(content):
        return "the state of an optimizer"
    if isinstance(content, Mapping):
        keys = [printable(str(key), 80) for key in list(content)[:7]]
        return f"a dict of {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}" if keys else "an empty dict"
    return f"a {type(content).__name__}"
