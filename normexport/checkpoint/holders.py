"""Where in a file its weights are: in the object itself, or in one entry of a training checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from normexport.checkpoint.pickles.rebuild_tensors import NoNumbers
from normexport.checkpoint.state import State
from normexport.errors import CheckpointError
from normexport.text import printable

#: Where training scripts keep the weights, the likeliest first; nested dicts are followed.
_HOLDERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "net_state_dict",
    "state", "weights", "params", "model_ema", "ema_state_dict", "state_dict_ema", "ema",
)  # fmt: skip
#: Longer lists are data; `torch.save((net.state_dict(), optimizer.state_dict()), path)` has two.
_LONGEST_LIST = 64
#: A key of a state_dict is a path of a module; a longer one is no such path.
_LONGEST_KEY = 4096


@dataclass(frozen=True)
class _Found:
    """A module, or the mapping of a state_dict, and the notes on where it stood."""

    weights: nn.Module | Mapping[str, Any]
    notes: tuple[str, ...] = ()


def find_weights(content: Any, path: Path) -> nn.Module | State:
    """The module or the state_dict in what a file holds: itself, or one entry of a training checkpoint.

    Raises:
        CheckpointError: there is none (the message says what the file holds instead), or it has no numbers.
    """
    search = _Search()
    found, mapping = search.weights_in(content, depth=3), _as_mapping(content)
    if found is None and mapping is not None and not _is_optimizer(mapping):
        several = [
            printable(str(key), 80) for key, value in mapping.items() if search.weights_in(value, depth=2) is not None
        ]
        if len(several) > 1:
            names = f"{', '.join(several[:8])}{', ...' if len(several) > 8 else ''}"
            raise CheckpointError(
                str(path), f"holds several networks ({names})", "save the one that is meant by itself"
            )
    if found is None:
        raise CheckpointError(str(path), f"holds {_describe(content)}, not weights by name", "save model.state_dict()")
    if isinstance(found.weights, nn.Module):
        return found.weights
    _require_numbers(found.weights, path)
    return replace(State.of(found.weights), notes=found.notes)


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
        holders = [key for key in _HOLDERS if key in content]
        for key in holders:
            if (found := self.weights_in(content[key], depth - 1)) is not None:
                return _with_note(found, key, [other for other in holders if other != key])
        # Before the tensors beside them: a best accuracy or a random state is often one.
        inside = self._networks_in(content, depth)
        if len(inside) == 1:
            name, only = next(iter(inside.items()))
            return _with_note(only, name, [])
        return _Found(content) if _is_state(content) and not inside else None

    def _networks_in(self, content: Mapping[Any, Any], depth: int) -> dict[str, _Found]:
        """Entries of other names than the usual that hold weights themselves."""
        named = {str(key): value for key, value in content.items() if key not in _HOLDERS}
        others = {key: each for key, each in named.items() if not key.startswith("optim") and "_extra_state" not in key}
        inside = {key: self.weights_in(value, depth - 1) for key, value in others.items()}
        return {key: found for key, found in inside.items() if found is not None}


def _with_note(found: _Found, key: str, others: list[str]) -> _Found:
    beside = f" (not {', '.join(others)})" if others else ""
    note = f"weights are under {key[:80]!r} of the file{beside}"
    return replace(found, notes=(note, *found.notes))


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
