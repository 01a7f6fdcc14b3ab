"""Where a model's keys stand in a file whose keys carry a prefix, as those of a LightningModule do (`model.`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from normexport.checkpoint.entry_names import names_average
from normexport.checkpoint.recognise import stored_norms
from normexport.checkpoint.state import State, unwrap
from normexport.errors import UsageError
from normexport.text import printable, shortened


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
    """`state` under the one prefix that the model's keys lack and all of it has; else as it is.

    Keys beside the prefix are left out, as a loss's or a metric's of a LightningModule, where they can be no part of
    the network: no norm is among them, and no average of weights.
    """
    found = prefixes(own_keys, state)
    if len(found) != 1 or what_keeps(found[0], state):
        return state
    return _under(found[0], state)


def what_keeps(prefix: str, state: State) -> str:
    """Why the keys beside a prefix are not left out without being asked, in words; empty where they are."""
    beside = state.without({key for key in state.tensors if key.startswith(prefix)})
    norm = next((stored.path for stored in stored_norms(beside)), None)
    if norm is not None:
        return f"a norm stands beside it ({printable(norm, 80)})"
    average = next((key for key in beside.tensors if any(map(names_average, key.split(".")[:-1]))), None)
    return "" if average is None else f"averages of weights stand beside it ({printable(average, 80)})"


def only_under(prefix: str, state: State, place: str) -> State:
    """What the user asks for: the keys that start with `prefix`, without it, prefixes of wrappers before it or not.

    Raises:
        UsageError: there are none.
    """
    dotted = prefix if prefix.endswith(".") else f"{prefix}."
    for given in (state, unwrap(state)):
        if any(key.startswith(dotted) for key in given.tensors):
            return _under(dotted, given)
    raise _no_such_key("--prefix", prefix, state, place)


def without_ignored(ignored: Iterable[str], state: State, place: str) -> State:
    """`state` without the keys that start with one of `ignored`.

    Raises:
        UsageError: none starts with one of them.
    """
    for start in ignored:
        left = [key for key in state.tensors if start and key.startswith(start)]
        if not left:
            raise _no_such_key("--ignore-keys", start, state, place)
        notes = (*state.notes, f"left out, as --ignore-keys says: {_shown(left)}")
        state = replace(state.without(left), notes=notes)
    return state


def _no_such_key(option: str, start: str, state: State, place: str) -> UsageError:
    first = dict.fromkeys(key.partition(".")[0] for key in state.tensors)
    names = printable(shortened([f"{name}." for name in first], 8), 300)
    return UsageError(
        f"{option} {printable(start, 80)}", f"no key of {place} starts with it", f"they start with {names}"
    )


def _shown(keys: Iterable[str]) -> str:
    return shortened([printable(key, 80) for key in keys], 8)


def _under(prefix: str, state: State) -> State:
    tensors = {key.removeprefix(prefix): value for key, value in state.tensors.items() if key.startswith(prefix)}
    inner = {path: value for path, value in state.metadata.items() if f"{path}.".startswith(prefix)}
    metadata = {f"{path}.".removeprefix(prefix).rstrip("."): value for path, value in inner.items()}
    extras = {key.removeprefix(prefix): value for key, value in state.extras.items() if key.startswith(prefix)}
    notes = [*state.notes, f"prefix {prefix} taken off"]
    if left := [key for key in state.tensors if not key.startswith(prefix)]:
        notes.append(f"left out, as it is not under {prefix}: {_shown(left)}")
    return replace(state, tensors=tensors, metadata=metadata, notes=tuple(notes), extras=extras)


def _owner(key: str) -> str:
    """Path of the module a key belongs to; that of the layer for a parametrized weight."""
    return key.partition(".parametrizations.")[0] if ".parametrizations." in key else key.rpartition(".")[0]
