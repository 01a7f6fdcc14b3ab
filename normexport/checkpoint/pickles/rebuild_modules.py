"""Layers of torch.nn and normexport.nn from their records: never by a constructor, with every attribute checked.

What a layer needs and no more is taken over: tables of parameters, buffers and children whose names follow the
grammar of `names`, attributes of known names, types and ranges (`layer_attributes`), shapes that agree with them
(`layer_shapes`). Hooks, methods and anything else that would run are refused; attributes no layer reads are left out.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.weight_norm import WeightNorm

from normexport.checkpoint.names import is_attribute_name
from normexport.checkpoint.pickles.inert import BadPickle, Call, Dict, Name
from normexport.checkpoint.pickles.layer_attributes import ATTRIBUTES, describe_value
from normexport.checkpoint.pickles.layer_shapes import require_shapes
from normexport.checkpoint.pickles.rebuild_tensors import NoNumbers
from normexport.checkpoint.pickles.rebuilder import Rebuilder
from normexport.nn import BoundedWeightNorm, Norm, RunningNorm, batch, group, instance
from normexport.nn.derived import class_of
from normexport.norms import KINDS

#: Tables of a module, and those of its hooks, which must be empty (but for the older weight norm).
_TABLES = ("_parameters", "_buffers", "_modules")
_HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_PRE_HOOKS = "_forward_pre_hooks"
_OWN = frozenset((*_TABLES, *_HOOKS, _PRE_HOOKS, "training", "_non_persistent_buffers_set"))
#: Attributes that a class has for itself and an instance may have too.
_SHADOWING = frozenset(ATTRIBUTES) - {"kind"}
_WEIGHT_NORM = "torch.nn.utils.weight_norm.WeightNorm"


def module_of(kind: type[nn.Module]) -> Callable[[Rebuilder, Call], nn.Module]:
    """A builder of modules of class `kind`."""

    def build(rebuilder: Rebuilder, call: Call) -> nn.Module:
        if call.args or call.items or call.pairs or len(call.states) != 1 or not isinstance(call.states[0], Dict):
            raise BadPickle(f"a {kind.__name__} in it is made in an unusual way")
        if issubclass(kind, LazyModuleMixin):
            raise BadPickle(f"a {kind.__name__} in it has no weights yet", "run the network once and save it again")
        return _rebuilt(rebuilder, kind, _fields(kind, call.states[0]))

    return build


def _fields(kind: type[nn.Module], state: Dict) -> dict[str, Any]:
    """The state by name, values still inert."""
    fields: dict[str, Any] = {}
    for key, value in state.entries():
        if not isinstance(key, str) or key in fields:
            raise BadPickle(f"a {kind.__name__} in it has a state that is no plain dict")
        fields[key] = value
    for key in fields:
        if key.startswith("__") or (key not in _OWN and key not in _SHADOWING and hasattr(kind, key)):
            raise BadPickle(
                f"a {kind.__name__} in it replaces {key[:60]}, which its class defines",
                "pass --trust if you trust its author, or give a state_dict with --model",
            )
    return fields


def _rebuilt(rebuilder: Rebuilder, kind: type[nn.Module], fields: dict[str, Any]) -> nn.Module:
    label = f"a {kind.__name__} in it"
    tables = {name: _table(label, fields, name) for name in _TABLES}
    for name in _HOOKS:
        if name in fields and not _is_empty(fields[name]):
            raise BadPickle(f"{label} has hooks, which are code", "pass --trust if you trust its author")
    state: dict[str, Any] = {name: OrderedDict() for name in (*_HOOKS, _PRE_HOOKS)}
    if not isinstance(fields.get("training"), bool):
        raise BadPickle(f"{label} does not say whether it is in training")
    state["training"] = fields["training"]
    state["_parameters"] = {key: _tensor(rebuilder, label, key, value) for key, value in tables["_parameters"]}
    state["_buffers"] = {key: _tensor(rebuilder, label, key, value) for key, value in tables["_buffers"]}
    state["_non_persistent_buffers_set"] = _names(rebuilder, label, fields, state["_buffers"])
    state["_modules"] = {key: _child(rebuilder, label, key, value) for key, value in tables["_modules"]}
    _require_apart(kind, label, [state[name] for name in _TABLES])
    for key, value in state["_parameters"].items():
        if value is not None and not isinstance(value, nn.Parameter):
            raise BadPickle(f"{label} has a parameter {key} that is a plain tensor")
    state |= dict(_attributes(rebuilder, label, fields))
    taken = next((name for table in _TABLES for name in state[table] if name in state), None)
    if taken is not None:
        raise BadPickle(f"{label} has two parts called {taken}")
    state |= _weight_norms(rebuilder, kind, label, fields, state)
    module = kind.__new__(kind)
    _set_state(module, label, state)
    rebuilder.tree.add(module, label)
    return module


def _set_state(module: nn.Module, label: str, state: dict[str, Any]) -> None:
    """Set a state of checked values by torch's own `__setstate__`, which adds what older versions did not have."""
    for name, value in vars(nn.Module()).items():
        state.setdefault(name, value)
    require_shapes(type(module), label, state)
    if isinstance(module, nn.RNNBase):
        state["_all_weights"] = [[None]]  # makes torch list the weights itself, from the numbers that were checked
    module.__setstate__(state)
    missing = [name for name in getattr(type(module), "__constants__", ()) if not hasattr(module, name)]
    if missing:
        raise BadPickle(f"{label} lacks {missing[0]}", "save it with the PyTorch that made it, or give a state_dict")


def _table(label: str, fields: dict[str, Any], name: str) -> list[tuple[str, Any]]:
    """Entries of `_parameters`, `_buffers` or `_modules`, each name checked."""
    table = fields.get(name)
    if isinstance(table, Call) and _is_ordered_dict(table):
        pairs = [*_listed_pairs(table), *table.pairs]
    elif isinstance(table, Dict):
        pairs = table.pairs
    else:
        raise BadPickle(f"{label} has no {name}")
    entries = list(zip(pairs[::2], pairs[1::2], strict=True))
    for key, _ in entries:
        if not is_attribute_name(key):
            words = repr(key[:40]) if isinstance(key, str) else f"a {type(key).__name__}"
            raise BadPickle(f"{label} has a part with a name that could be code ({words})", "rename it and save again")
    if len({key for key, _ in entries}) != len(entries):
        raise BadPickle(f"{label} has two parts of one name")
    return entries


def _is_ordered_dict(call: Call) -> bool:
    return isinstance(call.what, Name) and call.what.dotted == "collections.OrderedDict" and not call.states


def _listed_pairs(call: Call) -> Iterator[Any]:
    """`OrderedDict([[key, value], ...])`, as Python 2 wrote it."""
    for each in call.args[0] if call.args and isinstance(call.args[0], list) else ():
        if not isinstance(each, (list, tuple)) or len(each) != 2:
            raise BadPickle("a dict in it is made in an unusual way")
        yield from each


def _is_empty(table: Any) -> bool:
    if isinstance(table, Call):
        return _is_ordered_dict(table) and not table.pairs and not any(table.args)
    return isinstance(table, Dict) and not table.pairs


def _tensor(rebuilder: Rebuilder, label: str, key: str, record: Any) -> Tensor | None:
    made = rebuilder.value(record)
    if isinstance(made, NoNumbers):
        raise BadPickle(f"{key} of {label[:-6]} {made.words}", made.remedy)
    if made is not None and (not isinstance(made, Tensor) or made.layout != torch.strided):
        raise BadPickle(f"{label} has a {key} that is no dense tensor")
    return made


def _child(rebuilder: Rebuilder, label: str, key: str, record: Any) -> nn.Module | None:
    made = rebuilder.value(record)
    if made is not None and not isinstance(made, nn.Module):
        raise BadPickle(f"{label} has a child {key} that is no module")
    return made


def _names(rebuilder: Rebuilder, label: str, fields: dict[str, Any], buffers: dict[str, Any]) -> set[str]:
    """The buffers that are not persistent; older versions wrote none, or None."""
    names = rebuilder.value(fields.get("_non_persistent_buffers_set"))
    if names is None:
        return set()
    if not isinstance(names, (set, frozenset)) or not names <= buffers.keys():
        raise BadPickle(f"{label} lists buffers that it does not have")
    return set(names)


def _require_apart(kind: type[nn.Module], label: str, tables: list[dict[str, Any]]) -> None:
    """A name is in one table only, and none is a method of the class (as nn.Module itself demands)."""
    counts = Counter(name for table in tables for name in table)
    taken = next((name for name, count in counts.items() if count > 1 or _is_code(kind, name)), None)
    if taken is not None:
        raise BadPickle(f"{label} has a part called {taken}, which is something else of it", "rename it and save again")


def _is_code(kind: type[nn.Module], name: str) -> bool:
    """Whether `name` is a method of the class, or anything but an attribute that instances have for themselves."""
    return hasattr(kind, name) and not (name in ATTRIBUTES and not callable(getattr(kind, name)))


def _attributes(rebuilder: Rebuilder, label: str, fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Attributes of known names, checked; others are read by no layer and stay behind."""
    for key, record in fields.items():
        test = ATTRIBUTES.get(key)
        if key in _OWN or test is None:
            continue
        value = rebuilder.value(record)
        value = value.item() if isinstance(value, np.generic) else value
        if not test(value):
            raise BadPickle(f"{label} has {key} = {describe_value(value)}")
        yield key, value
    for key in ("bias_k", "bias_v", "options", "process_group"):
        if key in fields:
            if fields[key] is not None:
                raise BadPickle(f"{label} has {key} = {describe_value(fields[key])}")
            yield key, None
    if "_keys" in fields:  # nn.ParameterDict
        keys = rebuilder.value(fields["_keys"])
        if not isinstance(keys, dict) or not all(is_attribute_name(key) for key in keys):
            raise BadPickle(f"{label} has keys that are no names")
        yield "_keys", dict.fromkeys(keys)


def _weight_norms(
    rebuilder: Rebuilder, kind: type[nn.Module], label: str, fields: dict[str, Any], state: dict[str, Any]
) -> dict[str, Any]:
    """The only hook that is taken over: torch's older weight norm, and the weight it computed last."""
    hooks = fields.get(_PRE_HOOKS)
    if hooks is None or _is_empty(hooks):
        return {}
    if not isinstance(hooks, Call) or not _is_ordered_dict(hooks) or hooks.args:
        raise BadPickle(f"{label} has hooks, which are code", "pass --trust if you trust its author")
    rebuilt: dict[str, Any] = {_PRE_HOOKS: OrderedDict()}
    for key, record in zip(hooks.pairs[::2], hooks.pairs[1::2], strict=True):
        hook = rebuilder.value(record)
        if type(key) is not int or not isinstance(hook, WeightNorm):
            raise BadPickle(f"{label} has hooks, which are code", "pass --trust if you trust its author")
        name, parameters = hook.name, state["_parameters"]
        v, g = parameters.get(f"{name}_v"), parameters.get(f"{name}_g")
        if hasattr(kind, name) or any(name in state[table] for table in _TABLES) or v is None or g is None:
            raise BadPickle(f"{label} has a weight norm of {name}, which it does not have")
        _require_slices(label, v, g, hook.dim)
        rebuilt[_PRE_HOOKS][key] = hook
        rebuilt[name] = torch._weight_norm(v, g, hook.dim).detach()
    return rebuilt


def _require_slices(label: str, v: Tensor, g: Tensor, dim: int) -> None:
    """g has one length per slice of v along `dim`, or one for all of it (-1)."""
    expected = tuple(size if axis == dim else 1 for axis, size in enumerate(v.shape)) if dim != -1 else ()
    if not -1 <= dim < v.dim() or tuple(g.shape) != expected or v.dtype != g.dtype or not v.is_floating_point():
        raise BadPickle(f"{label} has a weight norm whose parts do not fit together")


def weight_norm_hook(rebuilder: Rebuilder, call: Call) -> WeightNorm:
    """The hook of torch's older weight norm: the name of a parameter, and the axis of its slices."""
    state = rebuilder.value(call.states[0]) if len(call.states) == 1 else None
    if call.args or call.items or call.pairs or not isinstance(state, dict) or set(state) != {"name", "dim"}:
        raise BadPickle("a weight norm in it is made in an unusual way")
    if not is_attribute_name(state["name"]) or type(state["dim"]) is not int:
        raise BadPickle("a weight norm in it is made in an unusual way")
    return WeightNorm(state["name"], state["dim"])


def module_classes() -> Iterator[type[nn.Module]]:
    """Layers that are rebuilt, beside norms: public classes of torch.nn.modules and normexport.nn, and DataParallel."""
    pending: list[type[nn.Module]] = [nn.Module]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        if kind.__module__.startswith("torch.nn.modules.") and not kind.__name__.startswith("_"):
            yield kind
    yield from (nn.DataParallel, RunningNorm, BoundedWeightNorm)


def norm_builders() -> dict[str, Any]:
    """Builders of the norms of every kind that is registered by now."""
    bases: tuple[type[Norm], ...] = (*batch.BASES, *instance.BASES, *group.BASES)
    return _builders(class_of(kind, base) for kind in KINDS.values() for base in bases)


def _builders(classes: Iterable[type[nn.Module]]) -> dict[str, Any]:
    return {f"{kind.__module__}.{kind.__qualname__}": module_of(kind) for kind in classes}


MODULE_BUILDERS: dict[str, Any] = {**_builders(module_classes()), _WEIGHT_NORM: weight_norm_hook}
