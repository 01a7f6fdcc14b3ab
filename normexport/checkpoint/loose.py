"""Numbers of a model that no state_dict holds: buffers that are not persistent, and attributes that are none at all.

A trained network whose forward reads one that training changed (a running statistic kept as a plain tensor, a
temperature kept as a float) can't be had back from its state_dict: the factory's fresh value stands in, without a word.
"""

from __future__ import annotations

import copy
import operator
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake

_Place: TypeAlias = tuple[str, Any, Callable[[Any], None]]

#: What nn.Module has for itself.
_OWN = frozenset(vars(nn.Module()))
#: Longer lists are data; deeper nesting is not followed.
_LONGEST, _DEEPEST = 4096, 4


def loose_numbers(model: nn.Module, own_classes: bool = False) -> dict[str, Any]:
    """Path ("layer1.0.scale") -> number, tensor or array, or list, tuple or dict of such; copies.

    Found in attributes of modules, in lists and dicts there, in plain objects, and in modules that stand in lists and
    are part of no model. Tensors that share the memory of a parameter or persistent buffer are left out: loading writes
    into them.

    Args:
        own_classes: leave out the attributes of PyTorch's layers, which are what their constructors were given.
    """
    return {path: _copy_of(value) for path, value, _ in _places(model, own_classes)}


def set_number(model: nn.Module, path: str, value: Any) -> None:
    """Put a copy of `value` where `loose_numbers` found one."""
    for place, _, put in _places(model, False):
        if place == path:
            put(_copy_of(value))
            return


def copy_of_model(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with `model`, weights that pruning or weight norm have computed included.

    Raises:
        Exception: of whatever kind, where the model's own code or something that it holds can't be copied.
    """
    computed = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed if not value.is_leaf})


def _copy_of(value: Any) -> Any:
    """PyTorch copies no tensor that remembers how it was computed."""
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def same_number(one: Any, other: Any) -> bool:
    """Whether two such values are equal, number by number, NaN with NaN."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and _same_tensors(one.detach(), other.detach())
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and _same_each(one.values(), other.values())
    if isinstance(one, (list, tuple, deque)):
        return type(one) is type(other) and len(one) == len(other) and _same_each(one, other)
    return type(one) is type(other) and (one == other or (one != one and other != other))


def is_drawn(value: Any) -> bool:
    """Whether it can have been drawn at random: anything but a whole number, which counts things or is a size."""
    return not isinstance(value, (bool, int, np.integer, np.bool_))


def _places(model: nn.Module, own_classes: bool) -> Iterator[_Place]:
    modules = dict(model.named_modules())
    held = {_memory(value) for value in model.state_dict().values() if _is_number(value)}
    seen = {id(module) for module in modules.values()}
    for path, module in modules.items():
        if own_classes and type(module).__module__.startswith("torch.nn.modules."):
            continue
        for name in [name for name in vars(module) if name not in _OWN]:
            yield from _inside(f"{path}.{name}".lstrip("."), vars(module), name, held, seen, _DEEPEST)
        for name in module._non_persistent_buffers_set:
            yield from _inside(f"{path}.{name}".lstrip("."), module._buffers, name, held, seen, 0)


def _inside(path: str, owner: Any, key: Any, held: set[int], seen: set[int], depth: int) -> Iterator[_Place]:
    """The number at `owner[key]`, or those within what stands there."""
    value = owner[key]
    if _is_number(value):
        if not (isinstance(value, Tensor) and _memory(value) in held):
            yield path, value, partial(operator.setitem, owner, key)
        return
    if depth == 0 or id(value) in seen:
        return
    seen.add(id(value))
    for inner in _holders(value):
        for name in list(range(len(inner)) if isinstance(inner, list) else inner):
            yield from _inside(f"{path}.{name}", inner, name, held, seen, depth - 1)


def _holders(value: Any) -> list[Any]:
    """The lists and dicts in which the parts of `value` stand."""
    if isinstance(value, nn.Module):
        return [value._parameters, value._buffers, value._modules]
    if isinstance(value, (list, dict)):
        return [value] if len(value) <= _LONGEST else []
    if isinstance(value, type) or type(value).__module__.partition(".")[0] in ("torch", "builtins", "numpy"):
        return []
    return [vars(value)] if hasattr(value, "__dict__") else []


def _is_number(value: Any, depth: int = 3) -> bool:
    if isinstance(value, Tensor):
        return value.layout == torch.strided and not value.is_meta and not value.is_quantized and not is_fake(value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufc"
    if isinstance(value, (list, tuple, deque, dict)):
        items = list(value.values() if isinstance(value, dict) else value)
        return (
            bool(items) and depth > 0 and len(items) <= _LONGEST and all(_is_number(item, depth - 1) for item in items)
        )
    return isinstance(value, (bool, int, float, complex, np.number, np.bool_))


def _memory(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _same_tensors(one: Tensor, other: Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and bool(torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num()))


def _same_each(ones: Any, others: Any) -> bool:
    return all(same_number(one, other) for one, other in zip(ones, others, strict=True))
