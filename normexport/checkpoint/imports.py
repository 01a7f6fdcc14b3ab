"""Code that the user named: import it, from the working folder too, and report failures in one line."""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from normexport.errors import UsageError

Factory = str | Callable[..., Any] | nn.Module


@contextlib.contextmanager
def working_folder_importable() -> Iterator[None]:
    """Let modules of the working folder be imported, as `python -m` does, for the length of the block."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def build_model(factory: Factory, kwargs: Mapping[str, Any] | None) -> nn.Module:
    """The model that `factory` makes: "package.module:name", a class, a function, or a ready module.

    A ready module is copied, so that the caller's stays as it is.

    Raises:
        UsageError: it can't be imported, has no such attribute, can't be called, fails, or makes no nn.Module.
    """
    label = factory if isinstance(factory, str) else getattr(factory, "__name__", type(factory).__name__)
    place = f"--model {label}"
    with working_folder_importable():
        found = _import_name(factory, place) if isinstance(factory, str) else factory
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


def _import_name(text: str, place: str) -> Any:
    module_name, colon, attribute = text.partition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(place, "is not of the form package.module:factory", "e.g. --model models.resnet:resnet18")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise UsageError(place, "names a file, not a module", f"write it as Python imports it: {dotted}:{attribute}")
    try:
        found: Any = importlib.import_module(module_name)
    # Importing runs the user's code, which may raise anything, SystemExit of a script included.
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and module_name.startswith(error.name or " ")
        remedy = "run in the folder that holds it, or set PYTHONPATH" if missing else "import it in Python to see why"
        raise UsageError(place, f"{module_name} can't be imported ({_words(error)})", remedy) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise UsageError(place, f"{module_name} has no attribute {attribute!r}", "check the spelling")
        found = getattr(found, name)
    return found


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
    except (Exception, SystemExit) as error:
        raise UsageError(place, f"failed ({_words(error)})", "check --model-kwargs") from error


def _words(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
