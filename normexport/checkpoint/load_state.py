"""Put a state_dict into the model a factory made, reading norms and weight norms of other layouts on the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from normexport.checkpoint.dialect import EPS, Dialect
from normexport.checkpoint.fake_quantisers import give_room
from normexport.checkpoint.finite import require_finite, require_finite_norm
from normexport.checkpoint.loose import loose_numbers, set_number
from normexport.checkpoint.prefix import prefixes, what_keeps, without_common_prefix
from normexport.checkpoint.recognise import Stored, choose, stored_norms
from normexport.checkpoint.records import WeightNormRecord
from normexport.checkpoint.replace_norms import Settled, has_hooks, inherits_forward, is_leaf, own_tensors
from normexport.checkpoint.state import EXTRA_STATE, State, unwrap
from normexport.checkpoint.tensor_quantisers import put_quantisers, take_largest
from normexport.checkpoint.trained_ranges import without_ranges
from normexport.checkpoint.weight_norm import stored_weights
from normexport.errors import CheckpointError
from normexport.nn import BoundedWeightNorm, Norm, RunningNorm
from normexport.text import first_line, shortened

_COUNTER = "num_batches_tracked"
_FACTORY = "make the model as it was when it was trained (--model, --model-kwargs)"


def fit(
    model: nn.Module, state: State, named: Dialect | None, place: str, unquantised: bool = False
) -> tuple[Settled, list[WeightNormRecord]]:
    """Load `state` into `model`.

    Norms that `state` stores in another dialect than their module's become `nn.RunningNorm`; weights stored
    under weight norm for layers that have a plain one are resolved.

    Returns:
        The model with the records of the norms replaced (others are left to `settle`), and the weights resolved.

    Raises:
        CheckpointError: NaN or Inf, an ambiguous dialect, missing or extra keys, other shapes.
    """
    own_keys = [key for key in model.state_dict() if not key.endswith(EXTRA_STATE)]
    state = without_common_prefix(own_keys, unwrap(state, own_keys))
    state, ranges = without_ranges(state, own_keys, unquantised, place)
    state, largest = take_largest(state, own_keys)
    settled = Settled(model, notes=list(state.notes), unquantised=unquantised, has_ranges=bool(ranges or largest))
    for path in ranges:
        settled.doubt(path, "fake quantisation of torch.ao is left out")
    for path in largest if unquantised else ():
        settled.doubt(path, "fake quantisation is left out")
    give_room(model, state.tensors)
    for path, module in model.named_modules():
        if isinstance(module, BoundedWeightNorm):
            module.give_room(state.tensors.get(f"{path}.rho"))
    _note_types(settled, state)
    norms = {stored.path: stored for stored in stored_norms(state)}
    for stored in norms.values():
        require_finite_norm(stored)
    state, weights = _plain_weights(model, state)
    places = _places(model)
    replaced: set[str] = set()
    for path, module in list(model.named_modules()):
        if path in norms and (dialect := _other_dialect(module, norms[path], named)) is not None:
            _require_channels(path, module, norms[path])
            _require_one_norm(norms, path, places[module])
            eps = float(getattr(module, "eps", EPS))
            settled.replace(module, norms[path], dialect, eps)
            if has_hooks(module):
                settled.doubt(path, "its hooks are left out with the norm that it replaces")
            if dialect.reading.uses_eps:
                settled.remark(path, f"epsilon {eps:g} is the model's; the file does not store it")
            replaced |= {f"{each}." if each else "" for each in places[module]}
            state = state.without({prefix + key for prefix in replaced for key in norms[path].values})
    _load(settled.model, _without_loose(settled, state), tuple(replaced), place)
    if not unquantised:
        put_quantisers(settled, largest, place)
    return settled, weights


def _without_loose(settled: Settled, state: State) -> State:
    """Numbers of the file that the model keeps outside its state_dict are put there: no buffer, or not persistent.

    Older versions of a model saved what newer ones do not, and TorchScript saves all of them.
    """
    extra = state.tensors.keys() - settled.model.state_dict().keys()
    loose = loose_numbers(settled.model) if extra else {}
    for key in [key for key in state.tensors if key in extra and _fits(loose.get(key), state.tensors[key])]:
        set_number(settled.model, key, state.tensors[key].to(loose[key].dtype))
        settled.remark(key, "is no part of the model's state_dict; the file's numbers stand in it")
        settled.held.add(key)
    return state.without(settled.held)


def _fits(own: Any, value: torch.Tensor) -> bool:
    return (
        isinstance(own, torch.Tensor)
        and own.shape == value.shape
        and own.is_floating_point() == value.is_floating_point()
    )


def _note_types(settled: Settled, state: State) -> None:
    narrow = {value.dtype for value in state.tensors.values() if value.is_floating_point() and value.itemsize < 4}
    for dtype in sorted(narrow, key=str):
        settled.notes.append(f"weights stored as {str(dtype).removeprefix('torch.')} are computed in float32")


def _plain_weights(model: nn.Module, state: State) -> tuple[State, list[WeightNormRecord]]:
    own, records = model.state_dict().keys(), []
    for stored in list(stored_weights(state)):
        if stored.key in own and stored.key not in state.tensors:
            kept = state.without(set(stored.stored_keys()))
            weight = stored.weight()
            require_finite({stored.key: weight})
            state = replace(kept, tensors={**kept.tensors, stored.key: weight})
            records.append(stored.record())
    return state, records


def _other_dialect(module: nn.Module, stored: Stored, named: Dialect | None) -> Dialect | None:
    """The dialect to decode `stored` by, or None where the module itself loads it with the right meaning."""
    own = Stored(stored.path, own_tensors(module))
    is_norm = isinstance(module, (Norm, RunningNorm)) or (isinstance(module, _BatchNorm) and inherits_forward(module))
    loads_it = own.keys - {_COUNTER} == stored.keys - {_COUNTER} and stored.keys <= own.keys
    if not is_norm and (loads_it or not own.readings() or not is_leaf(module)):
        return None
    ours = isinstance(module, (Norm, RunningNorm)) and named not in stored.readings(named)
    if ours and set(own.readings()) & set(stored.readings()):
        return None  # the user named the factory: its module says what the keys mean, where they can mean that
    dialect = choose(stored, named)
    return None if dialect in own.readings() else dialect


def _require_channels(path: str, module: nn.Module, stored: Stored) -> None:
    own = getattr(module, "num_features", None)
    found = next(iter(stored.readings())).decode(stored.arrays()).channels
    if isinstance(own, int) and own != found:
        raise CheckpointError(path, f"has {own} channels in the model and {found} in the file", _FACTORY)


def _places(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every path of every module: one that is used twice has two, and its tensors stand in a file twice."""
    places: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        places.setdefault(module, []).append(path)
    return places


def _require_ties(model: nn.Module, state: State, place: str) -> None:
    """Refuse a file whose values do not all stand in the `model` that has taken them, where tensors of it share memory.

    One parameter under several names, or views of one: of values that differ, the last wins without a word.
    """
    sharing: dict[int, list[str]] = {}
    named = dict((*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)))
    for name in named.keys() & state.tensors.keys():
        sharing.setdefault(named[name].untyped_storage().data_ptr(), []).append(name)
    for names in (each for each in sharing.values() if len(each) > 1):
        kept = {name: _is_same(named[name], state.tensors[name]) for name in sorted(names)}
        if len(set(kept.values())) == 2:  # where none is, the model's own code makes other values of them
            lost, won = (next(name for name, is_kept in kept.items() if is_kept == each) for each in (False, True))
            raise _two_values(place, *sorted((lost, won)))


def _require_one_norm(stored: Mapping[str, Stored], path: str, places: Sequence[str]) -> None:
    """Refuse several norms of the file for one module that the model uses at several places."""
    for other in places:
        values = stored[path].values, stored[other].values if other in stored else {}
        for key in values[0].keys() & values[1].keys():
            if not _is_same(values[0][key], values[1][key]):
                raise _two_values(path, *sorted(f"{each}.{key}".lstrip(".") for each in (path, other)))


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Number by number, NaN with NaN, in the type of the first."""
    return one.shape == other.shape and torch.equal(one.detach().nan_to_num(), other.to(one.dtype).nan_to_num())


def _two_values(place: str, one: str, other: str) -> CheckpointError:
    cause = f"{one} and {other} are one tensor in the model and two in the file"
    return CheckpointError(place, cause, "give a model in which they are two, or save the one that is meant")


def _load(model: nn.Module, state: State, replaced: tuple[str, ...], place: str) -> None:
    """`load_state_dict` with one line where it fails; keys of norms under `replaced` are loaded already."""
    own = model.state_dict()
    state = replace(state, extras={key: value for key, value in state.extras.items() if key in own})
    clashes = [
        key
        for key, value in state.tensors.items()
        if isinstance(own.get(key), torch.Tensor) and own[key].shape != value.shape
    ]
    if clashes:
        key = clashes[0]
        raise CheckpointError(
            place,
            f"{key} is {_shape(state.tensors[key])} in the file and {_shape(own[key])} in the model"
            + (f", and {len(clashes) - 1} more differ" if len(clashes) > 1 else ""),
            _FACTORY,
        )
    _require_floats(own, state, place)
    try:
        found = model.load_state_dict(state.to_load(), strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise CheckpointError(place, lines[1] if len(lines) > 1 else lines[0], _FACTORY) from error
    except Exception as error:  # of the model's own code, such as `set_extra_state`
        raise CheckpointError(place, f"the model does not take it ({first_line(error, 160)})", _FACTORY) from error
    _require_ties(model, state, place)
    missing = [
        key for key in found.missing_keys if not key.endswith(_COUNTER) and not (replaced and key.startswith(replaced))
    ]
    if missing or found.unexpected_keys:
        raise CheckpointError(
            place,
            _differences(missing, found.unexpected_keys),
            _hint(missing, found.unexpected_keys, own, state),
        )


def _require_floats(own: Mapping[str, Any], state: State, place: str) -> None:
    """Integers would load into a float weight without a word: quantised ones, whose scale is elsewhere."""
    for key, value in state.tensors.items():
        takes = own.get(key)
        if isinstance(takes, torch.Tensor) and takes.is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(
                place, f"{key} is {kind} in the file and floating-point in the model", "give the float weights"
            )


def _shape(value: torch.Tensor) -> str:
    return "x".join(str(size) for size in value.shape) or "a scalar"


def _differences(missing: list[str], extra: list[str]) -> str:
    parts = []
    if missing:
        parts.append(f"the model needs {shortened(missing)}, which the file lacks")
    if extra:
        parts.append(f"the file has {shortened(extra)}, which the model lacks")
    return ", and ".join(parts)


def _hint(missing: list[str], extra: list[str], own: Collection[str], state: State) -> str:
    """What explains the difference, where a prefix, a weight norm or missing buffers do."""
    found_under = prefixes(own, state)
    if len(found_under) > 1:
        choice = " or ".join(f"--prefix {prefix}" for prefix in found_under[:4])
        return f"the file has the model under each of {', '.join(found_under)}: choose with {choice}"
    if found_under:
        why = what_keeps(found_under[0], state)
        beside = f", and {why}" if why else ""
        return (
            f"the file has the model under {found_under[0]}{beside}: pass --prefix {found_under[0]} to read that alone"
        )
    copies = [] if missing else prefixes(own, state.without(state.tensors.keys() - set(extra)))
    if copies:
        return f"the model stands there by itself and under {copies[0]}: pass --ignore-keys or --prefix {copies[0]}"
    for key in missing[:1]:
        prefix = next((key.removesuffix(each) for each in extra if key.endswith(f".{each}")), "")
        if prefix and all(each.startswith(prefix) for each in missing):
            return f"all of them start with {prefix} in the model: let the factory return the part that is meant"
    if not extra and all(key.rpartition(".")[2].startswith("running_") for key in missing):
        return "it holds parameters without running statistics: save model.state_dict(), which has both"
    if any(key.endswith(("_v", ".original", ".original1")) for key in extra):
        return "the file has weight norms that no layer of the model matches; " + _FACTORY
    if any(key.rpartition(".")[2].startswith("running_") for key in [*missing, *extra]):
        return "norms are of another dialect or place than the model's; " + _FACTORY
    if missing:
        return _FACTORY
    inside = {key.partition(".")[0] for key in own}
    heads = {key.partition(".")[0]: f"{key.partition('.')[0]}{'.' if '.' in key else ''}" for key in extra}
    if inside & heads.keys():
        return _FACTORY
    ignoring = shortened([f"--ignore-keys {start}" for start in heads.values()], 4)
    return f"pass {ignoring}, if they are no part of the network, or {_FACTORY}"
