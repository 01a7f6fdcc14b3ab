"""A state_dict with what surrounds it in real files taken off: training checkpoints, wrappers' prefixes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from normexport.errors import CheckpointError

#: Where training scripts keep the weights, the likeliest first; nested dicts are followed.
_HOLDERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "net_state_dict",
    "state", "weights", "params", "model_ema", "ema_state_dict", "state_dict_ema", "ema",
)  # fmt: skip
_COMPILED, _PARALLEL, _AVERAGED = "_orig_mod", "module", "n_averaged"


@dataclass(frozen=True)
class State:
    """Weights by name.

    Attributes:
        tensors: full key -> tensor, in the order of the file.
        metadata: module path -> what `state_dict._metadata` says of it, notably "version"; empty where lost.
        notes: what was taken off, in words.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> State:
        """From a state_dict; entries that hold no numbers (`_extra_state` of plain Python) are left out."""
        tensors = {key: _dense(value) for key, value in mapping.items() if isinstance(value, (Tensor, np.ndarray))}
        metadata = getattr(mapping, "_metadata", None)
        return cls(tensors, dict(metadata) if isinstance(metadata, Mapping) else {})

    def without(self, keys: Collection[str]) -> State:
        """The same without `keys`."""
        return replace(self, tensors={key: value for key, value in self.tensors.items() if key not in keys})

    def to_load(self) -> OrderedDict[str, Tensor]:
        """As `nn.Module.load_state_dict` wants it, with `_metadata` where there is any."""
        mapping = OrderedDict(self.tensors)
        if self.metadata:
            mapping._metadata = OrderedDict(self.metadata)  # type: ignore[attr-defined]
        return mapping


def find_weights(found: Any, path: Path) -> nn.Module | State:
    """The module or the state_dict in what a file holds: itself, or one entry of a training checkpoint.

    Raises:
        CheckpointError: there is none; the message says what the file holds instead.
    """
    weights = _weights_in(found, depth=3)
    mapping = _as_mapping(found)
    if weights is None and mapping is not None and not _is_optimizer(mapping):
        several = [str(key) for key, value in mapping.items() if _weights_in(value, depth=2) is not None]
        if len(several) > 1:
            raise CheckpointError(
                str(path), f"holds several networks ({', '.join(several)})", "save the one that is meant by itself"
            )
    if weights is None:
        raise CheckpointError(str(path), f"holds {_describe(found)}, not weights by name", "save model.state_dict()")
    if isinstance(weights, State):
        _require_numbers(weights, path)
    return weights


def _require_numbers(state: State, path: Path) -> None:
    for key, value in state.tensors.items():
        if value.is_meta:
            raise CheckpointError(str(path), f"{key} has a shape and no numbers (device meta)", "save it from the CPU")
        if value.is_quantized:
            words = f"{key} is quantised ({str(value.dtype).removeprefix('torch.')})"
            raise CheckpointError(str(path), words, "give the float network that was quantised")


def _weights_in(found: Any, depth: int) -> nn.Module | State | None:
    if isinstance(found, nn.Module):
        return found
    found = _as_mapping(found)
    if found is None or depth == 0 or _is_optimizer(found):
        return None
    holders = [key for key in _HOLDERS if key in found]
    for key in holders:
        if (weights := _weights_in(found[key], depth - 1)) is not None:
            return _noted(weights, str(key), [other for other in holders if other != key])
    # Before the tensors beside them: a best accuracy or a random state is often one.
    inside = _networks_in(found, depth)
    if len(inside) == 1:
        key, weights = next(iter(inside.items()))
        return _noted(weights, key, [])
    return State.of(found) if _is_state(found) and not inside else None


def _networks_in(found: Mapping[Any, Any], depth: int) -> dict[str, nn.Module | State]:
    """Entries of other names than the usual that hold weights themselves."""
    named = {str(key): value for key, value in found.items() if key not in _HOLDERS}
    others = {key: value for key, value in named.items() if not key.startswith("optim") and "_extra_state" not in key}
    inside = {key: _weights_in(value, depth - 1) for key, value in others.items()}
    return {key: weights for key, weights in inside.items() if weights is not None}


def _as_mapping(found: Any) -> Mapping[Any, Any] | None:
    if isinstance(found, (list, tuple)):  # torch.save((net.state_dict(), optimizer.state_dict()), path)
        return dict(enumerate(found))
    return found if isinstance(found, Mapping) else None


def _is_optimizer(found: Mapping[Any, Any]) -> bool:
    return "param_groups" in found and "state" in found


def _is_state(found: Mapping[Any, Any]) -> bool:
    return (
        bool(found)
        and all(isinstance(key, str) for key in found)
        and any(_is_weight(value) for value in found.values())
    )


def _is_weight(value: Any) -> bool:
    """Random states are tensors too, of bytes."""
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_quantized
    return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)


def _dense(value: Tensor | NDArray[Any]) -> Tensor:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    return value if value.layout == torch.strided else value.to_dense()


def _noted(weights: nn.Module | State, key: str, others: list[str]) -> nn.Module | State:
    if isinstance(weights, nn.Module):
        return weights
    beside = f" (not {', '.join(others)})" if others else ""
    return replace(weights, notes=(f"weights are under {key!r} of the file{beside}", *weights.notes))


def _describe(found: Any) -> str:
    if isinstance(found, Mapping) and _is_optimizer(found):
        return "the state of an optimizer"
    if isinstance(found, Mapping):
        keys = [str(key) for key in found]
        return f"a dict of {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}" if keys else "an empty dict"
    return f"a {type(found).__name__}"


def unwrapped(state: State, own_keys: Collection[str] = ()) -> State:
    """Take off the prefixes of torch.compile, DataParallel and weight averaging.

    `module.` goes only where every key (but `n_averaged`) has it, and the model's own keys don't. `_orig_mod.`
    goes everywhere: it stands in the middle of keys where a part of the model was compiled.
    """
    own_parallel = bool(own_keys) and all(key.startswith(f"{_PARALLEL}.") for key in own_keys)
    while True:
        if any(_COMPILED in key.split(".") for key in state.tensors):
            state = _renamed(state, lambda name: _dropped(name, _COMPILED), f"prefix {_COMPILED}. taken off")
        elif not own_parallel and _all_parallel(state):
            state = _without_average(state)
            state = _renamed(state, _first_dropped, f"prefix {_PARALLEL}. taken off")
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


def _dropped(name: str, part: str) -> str:
    return ".".join(each for each in name.split(".") if each != part)


def _first_dropped(name: str) -> str:
    return name.removeprefix(_PARALLEL).removeprefix(".") if name.split(".")[0] == _PARALLEL else name


def _renamed(state: State, rename: Any, note: str) -> State:
    """The same under new names; the metadata of wrapper and wrapped both land on one path, the inner wins."""
    tensors = {rename(key): value for key, value in state.tensors.items()}
    metadata = {rename(path): value for path, value in state.metadata.items()}
    return State(tensors, metadata, (*state.notes, note))
