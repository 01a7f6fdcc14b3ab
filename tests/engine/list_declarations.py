"""Prints what Python bindings made with pybind11 declare, as JSON; a script, for the process that imports them.

    python list_declarations.py tensorrt_bindings

{"version": "11.4.0.106", "enums": {"BuilderFlag": {"REFIT": 2}}, "functions": {name: docstring}, "classes": {"Builder":
{"bases": [], "methods": {name: docstring}, "properties": {name: {"get": docstring, "set": true}}, "constants": {}}}}
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def describe(module: Any) -> dict[str, Any]:
    """All public classes, enums and functions of a module, and the enums inside classes."""
    found: dict[str, Any] = {"version": module.__version__, "enums": {}, "classes": {}, "functions": {}}
    kinds: dict[Any, str] = {}
    for name, value in vars(module).items():
        if isinstance(value, type) and value.__module__.startswith("tensorrt"):
            kinds.setdefault(value, name)
            inner = [(key, each) for key, each in vars(value).items() if isinstance(each, type)]
            kinds |= {each: f"{name}.{key}" for key, each in inner if hasattr(each, "__members__")}
        elif callable(value) and not name.startswith("_") and "->" in (value.__doc__ or ""):
            found["functions"][name] = value.__doc__
    for kind, name in kinds.items():
        if hasattr(kind, "__members__"):
            found["enums"][name] = {key: int(member) for key, member in kind.__members__.items()}
    for kind, name in kinds.items():
        if not hasattr(kind, "__members__"):
            found["classes"][name] = describe_class(kind, kinds)
    return found


def describe_class(kind: Any, kinds: dict[Any, str]) -> dict[str, Any]:
    """Methods, properties and constants that a class itself declares."""
    methods, properties, constants = {}, {}, {}
    for name, value in vars(kind).items():
        if isinstance(value, property):
            properties[name] = {"get": value.fget.__doc__ or "", "set": value.fset is not None}
        elif type(value) in kinds and hasattr(type(value), "__members__"):
            constants[name] = [kinds[type(value)], value.name]
        elif callable(value) and not isinstance(value, type) and (name == "__init__" or not name.startswith("_")):
            methods[name] = value.__doc__ or ""
    bases = [kinds[base] for base in kind.__bases__ if base in kinds]
    return {"bases": bases, "methods": methods, "properties": properties, "constants": constants}


if __name__ == "__main__":
    print(json.dumps(describe(importlib.import_module(sys.argv[1]))))
