"""How a network is called: tensors in a row become forward's arguments, and what it returns becomes tensors in a row.

An input's `argument` says where forward takes it: "boxes.0" is the first of a list, "sizes.width" a key of a dict or a
field of a named tuple or dataclass, "scale" a keyword. Which of them it is, the annotations of forward tell; without
one, positions make a list and words a dict.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch.utils._pytree as pytree
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind

from normexport.errors import UsageError
from normexport.onnx_export.inputs import InputSpec

#: What goes to one argument: an input, by its number, or a container of such, by key or position.
_Part: TypeAlias = "int | dict[str, Any]"

_DEEPEST = 32
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Call:
    """What a network is called with, made of its inputs: `arguments` of one value for each of them, in their order."""

    arguments: Callable[[Sequence[Any]], tuple[Sequence[Any], dict[str, Any]]]


def call_of(model: nn.Module | ExportedProgram, inputs: Sequence[InputSpec], place: str = "model") -> Call:
    """How `model` is called with these inputs, as `bound` has put them in order.

    Raises:
        UsageError: a list has a hole, or an argument is an input and a container at once.
    """
    if isinstance(model, ExportedProgram):
        return Call(lambda values: _program_arguments(model, values))
    parameters = list(inspect.signature(model.forward).parameters.values())
    hints = hints_of(model.forward)
    first = [index for index, spec in enumerate(inputs) if not spec.argument]
    named = _parts(inputs, place)
    for name, part in named.items():
        _require_no_holes(part, hints.get(name), place)

    def arguments(values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        given: dict[str, Any] = {name: _made(part, hints.get(name), values) for name, part in named.items()}
        return _arranged(parameters, hints, [values[index] for index in first], given)

    return Call(arguments)


def outputs_of(returned: Any) -> list[Any]:
    """The leaves of what a network returns, in the order of its file's outputs."""
    return pytree.tree_leaves(plain(returned))


@contextmanager
def called_in_a_row(model: nn.Module, inputs: Sequence[InputSpec], place: str) -> Iterator[None]:
    """Within, `model` takes its inputs one after the other, and returns plain dicts and lists.

    torch's tracer knows neither dataclasses that nobody has registered nor keywords gathered by `**`.
    """
    forward, call = model.forward, call_of(model, inputs, place)
    own = model.__dict__.get("forward")

    def in_a_row(*values: Any) -> Any:
        arguments, named = call.arguments(values)
        return plain(forward(*arguments, **named))

    names = [f"input_{index}" for index in range(len(inputs))]
    only = inspect.Parameter.POSITIONAL_OR_KEYWORD
    in_a_row.__signature__ = inspect.Signature([inspect.Parameter(name, only) for name in names])  # type: ignore[attr-defined]  # torch reads it there
    model.__dict__["forward"] = in_a_row
    try:
        yield
    finally:
        del model.__dict__["forward"]
        if own is not None:
            model.__dict__["forward"] = own


def hints_of(takes: Any) -> dict[str, Any]:
    """Annotations of a function's parameters or a class's fields; those that can't be resolved say nothing."""
    try:
        return typing.get_type_hints(takes)
    except Exception:  # names that exist for type checkers alone, or in another function
        found = getattr(takes, "__annotations__", {})
        return {name: hint for name, hint in found.items() if not isinstance(hint, str)}


def takes_none(hint: Any) -> bool:
    """Whether an annotation allows None."""
    return hint is None or hint is type(None) or any(takes_none(each) for each in _options(hint))


def is_container(hint: Any) -> bool:
    """Whether an annotation is that of something that holds tensors."""
    kind = _kind(hint)
    return isinstance(kind, type) and (_has_fields(kind) or issubclass(kind, (Mapping, Sequence)))


def _program_arguments(program: ExportedProgram, values: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """The values among what was given at export beside tensors: None, numbers and words stand in it as themselves."""
    rest, leaves = iter(values), []
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            leaves.append(spec.arg.value if isinstance(spec.arg, ConstantArgument) else next(rest))
    args, kwargs = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    return args, kwargs


def _parts(inputs: Sequence[InputSpec], place: str) -> dict[str, _Part]:
    """What each argument is made of."""
    tree: dict[str, Any] = {}
    for index, spec in enumerate(inputs):
        if not spec.argument:
            continue
        *path, last = spec.argument.split(".")
        if len(path) > _DEEPEST:
            raise UsageError(f"--input {spec.name}", "lies too deep in its parameter", f"give {_DEEPEST} dots at most")
        inner = tree
        for key in path:
            inner = inner.setdefault(key, {}) if isinstance(inner, dict) else {}
        if not isinstance(inner, dict) or last in inner:
            cause = f"is a part of what {place} is given as a tensor by itself"
            raise UsageError(f"--input {spec.argument}", cause, "name each input once, whole or in parts")
        inner[last] = index
    return tree


def _require_no_holes(part: _Part, hint: Any, place: str) -> None:
    if isinstance(part, int):
        return
    if (
        _is_list(part)
        and not _is_map(_kind(hint))
        and (missing := {str(index) for index in range(len(part))} - part.keys())
    ):
        cause = f"gives positions {', '.join(sorted(part, key=int))} of a list of {place}"
        raise UsageError("--input", cause, f"give position {min(missing, key=int)} too")
    for inner in part.values():
        _require_no_holes(inner, None, place)


def _is_map(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _is_list(part: Mapping[str, Any]) -> bool:
    return all(key.isdecimal() for key in part)


def _made(part: _Part, hint: Any, values: Sequence[Any]) -> Any:
    """One argument: a value, or the container that its annotation names."""
    if isinstance(part, int):
        return values[part]
    kind = _kind(hint)
    if isinstance(kind, type) and _has_fields(kind):
        hints = hints_of(kind)
        unsaid = {name: None for name in _required(kind) if name not in part and takes_none(hints.get(name))}
        return kind(**unsaid, **{key: _made(inner, hints.get(key), values) for key, inner in part.items()})
    inside = typing.get_args(_without_none(hint))
    is_map = _is_map(kind)
    if _is_list(part) and not is_map:
        hints_in_order = _of_items(inside, len(part)) if isinstance(kind, type) else [None] * len(part)
        items = [_made(part[str(index)], each, values) for index, each in enumerate(hints_in_order)]
        return tuple(items) if kind is tuple else items
    whole = is_map and inside[:1] == (int,)
    each = inside[1] if is_map and len(inside) == 2 else None
    made = {(int(key) if whole else key): _made(inner, each, values) for key, inner in part.items()}
    concrete = isinstance(kind, type) and issubclass(kind, dict) and not typing.is_typeddict(kind)
    return kind(made) if concrete else made


def _of_items(inside: Sequence[Any], count: int) -> list[Any]:
    """The annotations of a list's items, of list[X], tuple[X, ...] and tuple[X, Y]."""
    if len(inside) == count and Ellipsis not in inside:
        return list(inside)
    return [inside[0] if inside else None] * count


def _arranged(
    parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], first: Sequence[Any], named: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Values by position, `first` as they come, and by keyword from the first argument on that is left out."""
    arguments, keywords, rest = [], dict(named), list(first)
    in_line = True
    for parameter in parameters:
        name = parameter.name
        if parameter.kind not in _POSITIONAL:
            if parameter.kind is parameter.KEYWORD_ONLY and _is_unsaid(parameter, hints, keywords):
                keywords[name] = None
            continue
        if name in keywords:
            if in_line:
                arguments.append(keywords.pop(name))
        elif rest:
            arguments.append(rest.pop(0))
        elif _is_unsaid(parameter, hints, keywords) and in_line:
            arguments.append(None)
        else:
            in_line = False
    return [*arguments, *rest], keywords


def _is_unsaid(parameter: inspect.Parameter, hints: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether an argument without a default is left out that may be None."""
    required = parameter.default is parameter.empty and parameter.name not in given
    return required and parameter.name in hints and takes_none(hints[parameter.name])


def _options(hint: Any) -> tuple[Any, ...]:
    """The types of a union."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()


def _without_none(hint: Any) -> Any:
    """The annotation itself, of X | None that of X."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    options = [each for each in _options(hint) if each is not type(None)]
    return _without_none(next((each for each in options if is_container(each)), options[0])) if options else hint


def _kind(hint: Any) -> Any:
    hint = _without_none(hint)
    kind = typing.get_origin(hint) or hint
    return dict if typing.is_typeddict(kind) else kind


def _has_fields(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def _required(kind: Any) -> list[str]:
    """Fields without a default."""
    if dataclasses.is_dataclass(kind):
        missing = dataclasses.MISSING
        fields = [each for each in dataclasses.fields(kind) if each.init]
        return [each.name for each in fields if each.default is missing and each.default_factory is missing]
    return [name for name in kind._fields if name not in kind._field_defaults]


def plain(value: Any) -> Any:
    """The same in plain dicts, by key or field, and lists; what is none of them as it is."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: plain(inner) for name, inner in zip(value._fields, value, strict=True)}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value
