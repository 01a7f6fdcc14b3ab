"""TensorRT as its Python bindings declare it, played back: every name, property, enum and signature of a version, and
nothing behind them. What our code asks of it that is not declared so is an error, as it would be there.

The bindings install without the libraries that they call: `make bindings` puts some versions into build/bindings. They
are imported in a process of its own, on empty libraries that a C compiler makes here; TensorRT for RTX with its own.
"""

from __future__ import annotations

import enum
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(__file__).parents[2] / "build" / "bindings"

#: Run in the process that imports the bindings: prints what is there, as JSON.
_LISTING = Path(__file__).with_name("list_declarations.py")

#: What the bindings want of TensorRT's libraries before they load; nothing is called.
_SYMBOLS = (
    *(
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getPluginRegistry",
    ),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    *("getBuilderPluginRegistry", "initLibNvInferPlugins"),
)
_LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")


@dataclass(frozen=True)
class Source:
    """A version of the bindings: its name in words, the module, and the folder that it is imported from."""

    name: str
    module: str
    folder: Path | None


def sources() -> tuple[Source, ...]:
    """The versions that can be asked here, oldest first."""
    found = [Source(each.name, "tensorrt_bindings", each) for each in FOLDER.glob("*") if _holds_bindings(each)]
    rtx = [Source("rtx", "tensorrt_rtx", None)] if find_spec("tensorrt_rtx") is not None else []
    return (*sorted(found, key=lambda each: [int(part) for part in re.findall(r"\d+", each.name)]), *rtx)


def missing() -> str | None:
    """Why enterprise TensorRT can't be asked here, in words; None where it can."""
    if not any(each.folder is not None for each in sources()):
        return f"no bindings of TensorRT in {FOLDER}: run make bindings"
    return None if shutil.which("cc") else "no C compiler (cc) to make empty libraries for TensorRT's bindings with"


def _holds_bindings(folder: Path) -> bool:
    return (folder / "tensorrt_bindings" / "__init__.py").is_file()


@cache
def listed(source: Source) -> dict[str, Any]:
    """All that a version declares, as `list_declarations.py` prints it."""
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        if source.folder is not None:
            make_libraries(Path(scratch), source.folder)
            environment |= {"LD_LIBRARY_PATH": scratch, "PYTHONPATH": str(source.folder)}
        command = [sys.executable, str(_LISTING), source.module]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make_libraries(folder: Path, bindings: Path) -> None:
    """libnvinfer.so.11 and its like, under the names that the bindings look for."""
    content = (bindings / "tensorrt_bindings" / "tensorrt.so").read_bytes()
    code = folder / "empty.c"
    code.write_text("".join(f"void* {name}(void) {{ return 0; }}\n" for name in _SYMBOLS))
    for library in _LIBRARIES:
        (name,) = {found.decode() for found in re.findall(rb"lib%s\.so\.\d+" % library.encode(), content)}
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", code, "-o", folder / name], check=True)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a signature, with its type in the bindings' words."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True)
class Signature:
    """One overload: its parameters without `self`, and what it returns."""

    parameters: tuple[Parameter, ...]
    returns: str


@cache
def signatures(name: str, doc: str) -> list[Signature]:
    """The overloads that a docstring of pybind11 begins with."""
    found = re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\) -> (.+)$", doc or "", re.MULTILINE)
    return [Signature(tuple(_parameters(inside)), returns.strip()) for inside, returns in found]


def _parameters(inside: str) -> Iterator[Parameter]:
    for text in _split(inside):
        declared, _, default = text.partition(" = ")
        name, _, kind = declared.partition(": ")
        if name not in ("self", "", "*", "/") and not (name == "arg0" and not kind):
            yield Parameter(name, kind.strip(), not default)


def _split(inside: str) -> list[str]:
    """At commas that are in no bracket. What stands in <> is the text of a default value."""
    parts, depth = [""], 0
    for char in inside.replace("->", "=>"):
        depth += (char in "([{<") - (char in ")]}>")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def _type_of(words: str) -> tuple[str, str]:
    """The last name of a type and what stands in its brackets: typing.List[str] -> list, str.

    Older versions of pybind11 write List for list; a C++ name is one that it could not translate.
    """
    name, _, inner = words.removesuffix("]").partition("[")
    last = re.split(r"[.:]+", name)[-1].removesuffix("*").strip()
    return {"List": "list", "Tuple": "tuple", "IParserError": "ParserError"}.get(last, last), inner


class Undeclared(AssertionError):
    """Something was called as no overload of it is declared."""


class Vendor(SimpleNamespace):
    """The module: enums, classes and functions by their declared names.

    Args:
        answers: what methods and properties give instead of a value of their declared type, by "Class.name"; a callable
            is called with the arguments.

    Attributes:
        used: every "Class.name" that was called, read or set, with the arguments it was given last.
    """

    def __init__(self, declared: Mapping[str, Any], answers: Mapping[str, Any] | None = None) -> None:
        super().__init__(__version__=declared["version"])
        self.answers, self.used, self.docs = dict(answers or {}), dict[str, tuple[Any, ...]](), dict[str, str]()
        self.types: dict[str, Any] = {}
        for name, members in declared["enums"].items():
            self._hold(name, _enum(name, members))
        for name in declared["classes"]:
            self._class(name, declared["classes"])
        for name, doc in declared["functions"].items():
            setattr(self, name, self._called(name, name, doc))

    def _hold(self, name: str, kind: Any) -> None:
        """Under its last name too where it lies in the module, and in its class where it lies in one."""
        self.types[name] = kind
        owner, _, inner = name.rpartition(".")
        if not owner:
            setattr(self, name, kind)
        elif owner in self.types:
            setattr(self.types[owner], inner, kind)

    def _class(self, name: str, classes: Mapping[str, Any]) -> Any:
        if name in self.types:
            return self.types[name]
        declared = classes[name]
        bases = tuple(self._class(base, classes) for base in declared["bases"] if base in classes) or (_Declared,)
        body: dict[str, Any] = {}
        for method, doc in declared["methods"].items():
            body[method] = self._called(f"{name}.{method}", method, doc)
        for read, doc in declared["properties"].items():
            body[read] = self._property(f"{name}.{read}", doc["get"], settable=doc["set"])
        for constant, (owner, member) in declared["constants"].items():
            body[constant] = self.types[owner][member]
        kind = type(name.rpartition(".")[2], bases, body)
        self._hold(name, kind)
        return kind

    def _called(self, place: str, name: str, doc: str) -> Callable[..., Any]:
        self.docs[place] = doc
        vendor, is_method = self, "." in place

        def call(*arguments: Any, **named: Any) -> Any:
            given = arguments[1:] if is_method else arguments
            vendor.used[place] = given
            fitting = next((each for each in signatures(name, doc) if vendor.takes(each, given, named)), None)
            if fitting is None:
                raise Undeclared(f"{place}{given!r}{named or ''} is not declared so: {doc.strip().splitlines()[:1]}")
            return None if name == "__init__" else vendor._answer(place, fitting.returns, given)

        call.__doc__ = doc
        return call

    def _property(self, place: str, doc: str, *, settable: bool) -> property:
        returns = doc.rpartition(" -> ")[2].strip()
        self.docs[place] = doc

        def get(self: Any) -> Any:
            vendor.used[place] = ()
            return self.__dict__.get(place) or vendor._answer(place, returns, ())

        def put(self: Any, value: Any) -> None:
            vendor.used[place] = (value,)
            if not vendor.fits(returns, value):
                raise Undeclared(f"{place} = {value!r}, and {returns} is declared")
            self.__dict__[place] = value

        vendor = self
        return property(get, put if settable else None)

    def takes(self, signature: Signature, given: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
        """Whether a call fits a signature, in number, names and types."""
        parameters = signature.parameters
        if len(given) > len(parameters) or not set(named) <= {each.name for each in parameters[len(given) :]}:
            return False
        values = dict(zip((each.name for each in parameters), given, strict=False)) | dict(named)
        return all(
            self.fits(each.type, values[each.name]) if each.name in values else not each.required for each in parameters
        )

    def fits(self, declared: str, value: Any) -> bool:
        """Whether a value is of a declared type; a type that pybind11 has no Python name for takes anything."""
        if " | " in declared:
            return any(self.fits(each, value) for each in declared.split(" | "))
        last, inner = _type_of(declared)
        if last in _PLAIN:
            return isinstance(value, _PLAIN[last]) and (not inner or all(self.fits(inner, each) for each in value))
        if last == "SupportsInt":
            return hasattr(value, "__int__") and not isinstance(value, str | bytes)
        if last == "SupportsFloat":
            return hasattr(value, "__float__")
        if last == "Dims":
            return isinstance(value, tuple | list) and all(isinstance(size, int) for size in value)
        if last in ("Buffer", "buffer", "IHostMemory"):
            return isinstance(value, bytes)
        found = self._named(last)
        return isinstance(value, tuple(found)) if found else True

    def _named(self, last: str) -> list[Any]:
        return [each for name, each in self.types.items() if name.split(".")[-1] == last]

    def _answer(self, place: str, returns: str, given: tuple[Any, ...]) -> Any:
        if place in self.answers:
            answer = self.answers[place]
            return answer(*given) if callable(answer) else answer
        last, inner = _type_of(returns)
        if last in ("list", "tuple"):
            return [self._answer("", inner, ())] if inner and inner != "object" else []
        if last in _VALUES:
            return _VALUES[last]
        (found,) = self._named(last)
        return next(iter(found)) if issubclass(found, enum.Enum) else found.__new__(found)


class _Declared:
    """The root of declared classes: no attribute but the declared ones."""

    def __setattr__(self, name: str, value: Any) -> None:
        declared = getattr(type(self), name, None)
        if not isinstance(declared, property):
            raise AttributeError(f"{type(self).__name__} has no property {name}")
        declared.__set__(self, value)

    def __init_subclass__(cls, **options: Any) -> None:
        """A class of ours that TensorRT calls: each method is one of the declared ones, with as many parameters."""
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__ and cls.__module__.startswith("normexport"):
            for name, method in cls.__dict__.items():
                if not name.startswith("__"):
                    declared = signatures(name, getattr(cls.__mro__[1], name).__doc__)
                    count = method.__code__.co_argcount - 1
                    assert any(len(each.parameters) == count for each in declared), f"{cls.__mro__[1]}.{name}"


_PLAIN: dict[str, Any] = {
    "int": int, "str": str, "bool": bool, "float": float, "tuple": tuple, "list": list, "object": object,
}  # fmt: skip
_VALUES: dict[str, Any] = {
    "None": None, "bool": True, "int": 1, "str": "x", "float": 1.0, "Dims": (1, 3), "object": object(),
    "CapsuleType": object(), "capsule": object(), "IHostMemory": b"a plan",
}  # fmt: skip


def _enum(name: str, members: Mapping[str, int]) -> type[enum.Enum]:
    """As pybind11's: a member is no integer, and gives one."""

    class Base(enum.Enum):
        def __int__(self) -> int:
            return int(self.value)

    kind: Any = Base  # the functional call of a base class is unknown to type checkers
    made: type[enum.Enum] = kind(name.rpartition(".")[2], dict(members))
    return made
