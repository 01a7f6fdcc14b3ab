"""Where a model's keys stand in a file whose keys carry a prefix, as those of a LightningModule do (`model.`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from normexport.checkpoint.state import State


def prefixes(own_keys: Iterable[str], state: State) -> list[str]:
    """Every prefix ("model.") under which `state` has all modules of a model with `own_keys`; sorted.

    Modules are compared, not keys: norms and weight norms of other layouts have other keys. Empty where the model's
    modules stand in the file without a prefix.
    """
    own, stored = ({_owner(key) for key in keys} for keys in (own_keys, state.tensors))
    if not own or own <= stored:
        return []
    longest = max(own, key=len)
    candidates = {path.removesuffix(longest) for path in stored if path.endswith(f".{longest}")}
    if not longest:
        candidates = {f"{path}." for path in stored}
    return sorted(prefix for prefix in candidates if all(f"{prefix}{path}".rstrip(".") in stored for path in own))


def without_common_prefix(own_keys: Iterable[str], state: State) -> State:
    """`state` without the one prefix that all its keys have and the model's keys lack; else as it is."""
    found = prefixes(own_keys, state)
    if len(found) != 1 or not all(key.startswith(found[0]) for key in state.tensors):
        return state
    prefix = found[0]
    tensors = {key.removeprefix(prefix): value for key, value in state.tensors.items()}
    inner = {path: value for path, value in state.metadata.items() if f"{path}.".startswith(prefix)}
    metadata = {f"{path}.".removeprefix(prefix).rstrip("."): value for path, value in inner.items()}
    extras = {key.removeprefix(prefix): value for key, value in state.extras.items()}
    notes = (*state.notes, f"prefix {prefix} taken off")
    return replace(state, tensors=tensors, metadata=metadata, notes=notes, extras=extras)


def _owner(key: str) -> str:
    """Path of the module a key belongs to; that of the layer for a parametrized weight."""
    return key.partition(".parametrizations.")[0] if ".parametrizations." in key else key.rpartition(".")[0]
