"""The model that the user's code makes, named or given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from normexport.errors import UsageError
from normexport.user_code import import_name, words_of, working_folder_importable

Factory = str | Callable[..., Any] | nn.Module


def build_model(factory: Factory, kwargs: Mapping[str, Any] | None) -> nn.Module:
    """The model that `factory` makes: "package.module:name", a class, a function, or a ready module.

    A ready module is copied, so that the caller's stays as it is.

    Raises:
        UsageError: it can't be imported, has no such attribute, can't be called, fails, or makes no nn.Module.
    """
    label = factory if isinstance(factory, str) else getattr(factory, "__name__", type(factory).__name__)
    place = f"--model {label}"
    with working_folder_importable():
        found: Any = factory
        if isinstance(factory, str):
            found = import_name(factory, "--model", "factory", "models.resnet:resnet18")
        made = _ready(found, kwargs, place) if isinstance(found, nn.Module) else _call_factory(found, kwargs, place)
    if not isinstance(made, nn.Module):
        raise UsageError(place, f"returned {type(made).__name__}, not an nn.Module", "return the model itself")
    _require_numbers(made, place)
    return made


def _require_numbers(model: nn.Module, place: str) -> None:
    """Refuse a model whose weights have no numbers to be replaced: lazy layers, and device meta."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(value):
            raise UsageError(place, f"has a lazy layer without weights ({name})", "run it once in the factory")
        if value.is_meta:
            raise UsageError(place, f"makes weights without numbers, on device meta ({name})", "make it on the CPU")


def _ready(model: nn.Module, kwargs: Mapping[str, Any] | None, place: str) -> nn.Module:
    if kwargs:
        raise UsageError(place, "is a ready module and takes no arguments", "leave --model-kwargs out")
    try:
        return copy.deepcopy(model)
    except RuntimeError:  # weight norm of the older kind holds a computed weight, which can't be copied
        return model


def _call_factory(factory: Any, kwargs: Mapping[str, Any] | None, place: str) -> Any:
    if not callable(factory):
        raise UsageError(place, f"is a {type(factory).__name__}, which can't be called", "name a class or a function")
    try:
        return factory(**(kwargs or {}))
    except (Exception, SystemExit) as error:  # the user's code can raise anything, and call sys.exit
        raise UsageError(place, f"failed ({words_of(error)})", "check --model-kwargs") from error
