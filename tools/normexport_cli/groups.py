"""Option groups: a dataclass of options that several commands take whole.

    @dataclass(frozen=True)
    class Limits:
        min_snr: Annotated[float, typer.Option("--min-snr", help="...")] = 25.0

    @grouped
    def parity(reference: Reference, limits: Limits, json: Json = False) -> None: ...

typer sees one option for each field, in the order of the fields, where the group stands in the signature; the command
gets the group. A group refuses what is wrong with its own values in `__post_init__`, before the command begins. Under
--help its options stand in a panel of their own, by the title that it has under `PANEL`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

from typer.models import OptionInfo


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer has to see it: with the fields of its groups in their places."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(command)
    def flat(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(_flat_name(name, field)) for field in fields(group)})
        command(**given)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _expanded(parameter.name, groups[parameter.name])
        else:
            hint = hints[parameter.name]
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect.signature reads it there
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def _expanded(name: str, group: Any) -> Iterator[inspect.Parameter]:
    """One parameter for each field of the group, with the field's type, texts and default."""
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield inspect.Parameter(
            _flat_name(name, field),
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=_in_panel(hints[field.name], _panel_of(group, field.name)),
        )


def _panel_of(group: type, name: str) -> str | None:
    """The title of the panel of a field: that of the class which declares it."""
    declaring = (each for each in group.__mro__ if name in inspect.get_annotations(each))
    return getattr(next(declaring, group), "PANEL", None)


def _in_panel(hint: Any, panel: str | None) -> Any:
    """The hint with its option in a panel; the option itself, which other groups may share, is not changed."""
    if panel is None:
        return hint
    kind, *said = get_args(hint)
    shown = [copy(each) if isinstance(each, OptionInfo) else each for each in said]
    for option in (each for each in shown if isinstance(each, OptionInfo)):
        option.rich_help_panel = panel
    return Annotated[(kind, *shown)]


def _flat_name(name: str, field: Field[Any]) -> str:
    """A name that no other parameter has: fields of two groups, or a field and an argument, may share theirs."""
    return f"{name}__{field.name}"


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default
