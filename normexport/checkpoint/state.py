"""A state_dict with what surrounds it in real files taken off: training checkpoints, wrappers' prefixes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from normexport.errors import CheckpointError

#: The key under which PyTorch stores what `get_extra_state` of a module returned.
EXTRA_STATE = "_extra_state"
_COMPILED, _PARALLEL, _AVERAGED = "_orig_mod", "module", "n_averaged"
#: Parts of keys that wrappers add.
WRAPPING = (_COMPILED, _PARALLEL)


@dataclass(frozen=True)
class State:
    """Weights by name.

    Attributes:
        tensors: full key -> tensor, in the order of the file.
        metadata: module path -> what `state_dict._metadata` says of it, notably "version"; empty where lost.
        notes: what was taken off, in words.
        extras: entries of `get_extra_state` that are no tensors; only the model that wrote them can use them.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> State:
        """From a state_dict; entries that hold no numbers are left out."""
        tensors = {key: _dense(value) for key, value in mapping.items() if _has_numbers(value)}
        metadata = getattr(mapping, "_metadata", None)
        plain = _plain_metadata(metadata) if isinstance(metadata, Mapping) else {}
        extras = {
            key: value for key, value in mapping.items() if key.endswith(EXTRA_STATE) and not isinstance(value, Tensor)
        }
        return cls(tensors, plain, extras=extras)

    def without(self, keys: Collection[str]) -> State:
        """The same without `keys`."""
        return replace(self, tensors={key: value for key, value in self.tensors.items() if key not in keys})

    def to_load(self) -> OrderedDict[str, Any]:
        """As `nn.Module.load_state_dict` wants it, with `_metadata` where there is any."""
        mapping: OrderedDict[str, Any] = OrderedDict({**self.tensors, **self.extras})
        if self.metadata:
            mapping._metadata = OrderedDict(self.metadata)  # type: ignore[attr-defined]  # torch reads it there
        return mapping


def _has_numbers(value: Any) -> bool:
    """Whether it is a tensor, or an array that can be one."""
    return isinstance(value, Tensor) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.dtype.itemsize <= 16
    )


def _dense(value: Tensor | NDArray[Any]) -> Tensor:
    if isinstance(value, np.ndarray):
        wide = value.astype(np.float64) if value.dtype == np.longdouble else value
        return torch.from_numpy(np.array(wide, dtype=wide.dtype.newbyteorder("=")))
    return value if value.layout == torch.strided else value.to_dense()


#: What modules note in `_metadata`, and what it may be; anything else comes from no module.
_NOTED: Mapping[str, Callable[[Any], bool]] = {
    "version": lambda value: type(value) is int and 0 <= value < 1 << 31,
    "kind": lambda value: isinstance(value, str),
    "eps": lambda value: type(value) in (int, float) and 0 <= value < math.inf,
    "axis": lambda value: type(value) is int and -1 <= value < 64,
    "p": lambda value: type(value) in (int, float) and value > 0,
}


def _plain_metadata(metadata: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    return {
        path: {key: value for key, value in own.items() if key in _NOTED and _NOTED[key](value)}
        for path, own in metadata.items()
        if isinstance(path, str) and isinstance(own, Mapping)
    }


def unwrap(state: State, own_keys: Collection[str] = ()) -> State:
    """Take off the prefixes of torch.compile, DataParallel and weight averaging.

    `module.` goes only where every key (but `n_averaged`) has it, and the model's own keys don't. `_orig_mod.`
    goes everywhere: it stands in the middle of keys where a part of the model was compiled.
    """
    own_parallel = bool(own_keys) and all(key.startswith(f"{_PARALLEL}.") for key in own_keys)
    while True:
        if any(_COMPILED in key.split(".") for key in state.tensors):
            state = _rename_keys(state, lambda name: _without_part(name, _COMPILED), f"prefix {_COMPILED}. taken off")
        elif not own_parallel and _all_parallel(state):
            state = _without_average(state)
            state = _rename_keys(state, _first_dropped, f"prefix {_PARALLEL}. taken off")
        else:
            return state


def _all_parallel(state: State) -> bool:
    keys = [key for key in state.tensors if key != _AVERAGED]
    return bool(keys) and all(key.startswith(f"{_PARALLEL}.") for key in keys)


def _without_average(state: State) -> State:
    if _AVERAGED not in state.tensors:
        return state
    note = f"weights are an average of {int(state.tensors[_AVERAGED])} models"
    return replace(state.without({_AVERAGED}), notes=(*state.notes, note))


def _without_part(name: str, part: str) -> str:
    return ".".join(each for each in name.split(".") if each != part)


def _first_dropped(name: str) -> str:
    return name.removeprefix(_PARALLEL).removeprefix(".") if name.split(".")[0] == _PARALLEL else name


def _one_name(tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> CheckpointError:
    """The refusal of two weights that have one name without the prefixes of wrappers."""
    first: dict[str, str] = {}
    one, other = next((first[rename(key)], key) for key in tensors if first.setdefault(rename(key), key) != key)
    cause = f"has the same name as {one} without the prefixes of wrappers, and may be another weight"
    return CheckpointError(other, cause, "save the one that is meant by itself")


def _rename_keys(state: State, rename: Any, note: str) -> State:
    """The same under new names; the metadata of wrapper and wrapped both land on one path, the inner wins."""
    tensors = {rename(key): value for key, value in state.tensors.items()}
    if len(tensors) < len(state.tensors):
        raise _one_name(state.tensors, rename)
    metadata = {rename(path): value for path, value in state.metadata.items()}
    extras = {rename(key): value for key, value in state.extras.items()}
    return State(tensors, metadata, (*state.notes, note), extras)
