"""Inputs named like parameters of `forward` belong to those parameters, in whatever order they were given.

"boxes.0" is a part of the parameter `boxes`; in the file it is called boxes_0. `normexport.onnx_export.calls` says what
the parts make.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from normexport.errors import UsageError
from normexport.graphs.names import fresh_name
from normexport.onnx_export.calls import hints_of, is_container, takes_none
from normexport.onnx_export.inputs import InputSpec

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def bound(model: nn.Module, inputs: Sequence[InputSpec], place: str) -> tuple[InputSpec, ...]:
    """`inputs` in the order in which `forward` takes them, each with its `argument`; empty for one in line.

    Names that are none of forward's parameters are just names: the inputs are then positional, as given. Those beside
    names of parameters belong to `*args`, or else to `**kwargs`. Parameters with a default may be left out, and those
    that may be None.

    Raises:
        UsageError: some names are parameters and others not, or a parameter is left out that has to be given.
    """
    signature = inspect.signature(model.forward).parameters
    own = {name: each for name, each in signature.items() if each.kind not in _VARIADIC}
    kinds = {each.kind for each in signature.values()}
    hints = hints_of(model.forward)
    asked = _asked(inputs, own, hints, kinds)
    heads = {argument: argument.split(".")[0] for argument in asked}
    known = [name for name in own if name in heads.values()]
    if not known and not any("." in argument for argument in asked):
        positional = [name for name, each in own.items() if each.kind in _POSITIONAL]
        by_keyword = inspect.Parameter.VAR_KEYWORD in kinds and not positional
        return tuple(replace(spec, argument=spec.name) if by_keyword else spec for spec in inputs)
    listed = ", ".join(own)
    more = [argument for argument in asked if heads[argument] not in own]
    in_line = inspect.Parameter.VAR_POSITIONAL in kinds
    for argument in more:
        if inspect.Parameter.VAR_KEYWORD not in kinds and ("." in argument or not in_line):
            raise UsageError(f"--input {argument}", f"is no parameter of {place}'s forward({listed})", "use its names")
    in_line = in_line and not any("." in argument for argument in more)
    _require_all(own, hints, known, bool(more) and in_line, place)
    ordered = [argument for name in known for argument in asked if heads[argument] == name]
    plain = _in_line(list(own.values()), ordered) + (more if in_line else [])
    return _named([(asked[each], "" if each in plain else each) for each in (*ordered, *more)])


def named_by(model: nn.Module, inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """Inputs that nobody has named, called as forward calls them: by its parameters in line, those of `*xs` xs_0, xs_1.

    They are left as they are where one has a name, or forward takes fewer, or its names would make two alike.
    """
    if any(spec.named for spec in inputs):
        return tuple(inputs)
    parameters = list(inspect.signature(model.forward).parameters.values())
    names = [each.name for each in parameters if each.kind in _POSITIONAL][: len(inputs)]
    more = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), None)
    if more is not None:
        names += [f"{more}_{index}" for index in range(len(inputs) - len(names))]
    if len(set(names)) < len(inputs):
        return tuple(inputs)
    return tuple(replace(spec, name=name, named=True) for spec, name in zip(inputs, names, strict=True))


def _asked(
    inputs: Sequence[InputSpec], own: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], kinds: set[Any]
) -> dict[str, InputSpec]:
    """Where each input goes: as it says, or by its name; boxes_0 is a part of `boxes` where that alone can be meant."""
    asked = {spec.argument or spec.name: spec for spec in inputs}
    if any("." in argument or argument in own for argument in asked):
        return asked
    parts = {argument: name for argument in asked for name in own if argument.startswith(f"{name}_")}
    room = sum(each.kind in _POSITIONAL for each in own.values())
    too_many = len(asked) > room and not kinds & set(_VARIADIC)
    if len(parts) == len(asked) and (too_many or any(is_container(hints.get(name)) for name in parts.values())):
        return {_path(argument, parts[argument]): spec for argument, spec in asked.items()}
    return asked


def _path(name: str, parameter: str) -> str:
    """ "boxes.0" of boxes_0."""
    rest = name.removeprefix(f"{parameter}_")
    return f"{parameter}.{rest.replace('_', '.') if re.fullmatch('[0-9_]+', rest) else rest}"


def _require_all(
    own: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], known: Sequence[str], before_more: bool, place: str
) -> None:
    """Refuse to leave out a parameter that has no default and may not be None, or any before those of `*args`."""
    order = list(own)
    for name, parameter in own.items():
        optional = parameter.default is not parameter.empty or (name in hints and takes_none(hints[name]))
        if name in known or (optional and not (before_more and parameter.kind in _POSITIONAL)):
            continue
        later = [each for each in known if order.index(each) > order.index(name)]
        where = f"comes after {name}" if later or before_more else f"is given without {name}"
        cause = f"{where} in {place}'s forward({', '.join(own)})"
        raise UsageError(f"--input {known[-1]}", cause, f"give {name} too")


def _in_line(parameters: Sequence[inspect.Parameter], ordered: Sequence[str]) -> list[str]:
    """Those that are whole parameters, one after the other from forward's first on."""
    found = []
    for parameter, argument in zip(parameters, ordered, strict=False):
        parts = [each for each in ordered if each.split(".")[0] == parameter.name]
        if parts != [argument] or parameter.name != argument or parameter.kind not in _POSITIONAL:
            break
        found.append(argument)
    return found


def _named(placed: Sequence[tuple[InputSpec, str]]) -> tuple[InputSpec, ...]:
    """Parts of parameters get names that are identifiers: boxes.0 is called boxes_0."""
    used = {spec.name for spec, _ in placed if "." not in spec.name}
    found = []
    for spec, argument in placed:
        name = spec.name
        if "." in name and name == argument:
            name = fresh_name(re.sub(r"\W", "_", name), used, first=2)
            used.add(name)
        found.append(replace(spec, name=name, argument=argument))
    return tuple(found)
