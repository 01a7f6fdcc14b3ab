"""Code that the user named, as package.module:name: import it, from the working folder too, or say in one line why not.

Naming code is consent to import it. Nothing that a file says comes here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from normexport.errors import UsageError


@dataclass(frozen=True)
class NamedFunction:
    """Something that can be called, and the name that it was given by."""

    name: str
    function: Callable[..., Any]

    def __call__(self, *given: Any) -> Any:
        return self.function(*given)


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


def import_name(text: str, option: str, what: str, example: str) -> Any:
    """What "package.module:name" names; to be called where `working_folder_importable`.

    Args:
        option: where the text was given, as "--model".
        what: in words, "factory".
        example: a whole one: "models.resnet:resnet18".

    Raises:
        UsageError: it is not of that form, can't be imported, or its module has no such name.
    """
    place = f"{option} {text}"
    module_name, colon, attribute = text.partition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(place, f"is not of the form package.module:{what}", f"e.g. {option} {example}")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise UsageError(place, "names a file, not a module", f"write it as Python imports it: {dotted}:{attribute}")
    try:
        found: Any = importlib.import_module(module_name)
    # Importing runs the user's code, which may raise anything, SystemExit of a script included.
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and module_name.startswith(error.name or " ")
        remedy = "run in the folder that holds it, or set PYTHONPATH" if missing else "import it in Python to see why"
        raise UsageError(place, f"{module_name} can't be imported ({words_of(error)})", remedy) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise UsageError(place, f"{module_name} has no attribute {attribute!r}", "check the spelling")
        found = getattr(found, name)
    return found


def load_function(text: str, option: str, example: str) -> NamedFunction:
    """What "package.module:function" names, imported, from the working folder too.

    Raises:
        UsageError: see `import_name`; it can't be called.
    """
    with working_folder_importable():
        found = import_name(text, option, "function", example)
    if not callable(found):
        cause = f"is a {type(found).__name__}, which can't be called"
        raise UsageError(f"{option} {text}", cause, "name a function")
    return NamedFunction(text, found)


def name_of(function: str | Callable[..., Any]) -> str:
    """What a function is called, which may be the text that names it or an object that can be called."""
    if isinstance(function, str):
        return function
    if isinstance(function, NamedFunction):
        return function.name
    return str(getattr(function, "__qualname__", type(function).__name__))


def words_of(error: BaseException) -> str:
    """The class of an error and the first line that it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
