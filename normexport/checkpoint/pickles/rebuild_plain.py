"""Plain data of the standard library that training scripts put beside the weights: containers, paths, numbers."""

from __future__ import annotations

import argparse
import pathlib
import types
from collections import OrderedDict
from typing import Any

import torch
from torch.nn import functional

from normexport.checkpoint.pickles.inert import BadPickle, Call, Dict, text_of, whole
from normexport.checkpoint.pickles.rebuilder import Rebuilder

#: Functions that layers keep as an attribute (the activation of a transformer's layer).
BARE_NAMES: dict[str, Any] = {
    "torch.nn.functional.relu": functional.relu,
    "torch.nn.functional.gelu": functional.gelu,
    "torch._C._nn.gelu": functional.gelu,
}
_MOST_PARTS = 64


def _no_more(call: Call, *, pairs: bool = False, items: bool = False, states: int = 0) -> None:
    if (call.pairs and not pairs) or (call.items and not items) or len(call.states) > states:
        raise BadPickle("an object in it is made in an unusual way")


def ordered_dict(rebuilder: Rebuilder, call: Call) -> Any:
    """`OrderedDict()` or `OrderedDict([(key, value), ...])`, its items, and of its attributes `_metadata` alone."""
    _no_more(call, pairs=True, states=1)
    made: Any = rebuilder.mapping(_given_pairs(call), OrderedDict())
    rebuilder.mapping(call.pairs, made)
    state = rebuilder.value(call.states[0]) if call.states else {}
    metadata = state.get("_metadata") if isinstance(state, dict) else None
    if isinstance(metadata, dict):
        made._metadata = metadata
    return made


def default_dict(rebuilder: Rebuilder, call: Call) -> Any:
    """`defaultdict(factory)` as a plain dict; the factory is not kept."""
    _no_more(call, pairs=True)
    return rebuilder.mapping(call.pairs, {})


def counter(rebuilder: Rebuilder, call: Call) -> Any:
    """`Counter({...})` as a plain dict."""
    _no_more(call, pairs=True)
    given = call.args[0].pairs if call.args and isinstance(call.args[0], Dict) else []
    return rebuilder.mapping([*given, *call.pairs], {})


def deque(rebuilder: Rebuilder, call: Call) -> Any:
    """`deque([], maxlen)` as a list."""
    _no_more(call, items=True)
    given = rebuilder.value(call.args[0]) if call.args else []
    return [*(given if isinstance(given, (list, tuple)) else []), *(rebuilder.value(each) for each in call.items)]


def _given_pairs(call: Call) -> list[Any]:
    if not call.args:
        return []
    if len(call.args) > 1 or not isinstance(call.args[0], list):
        raise BadPickle("a dict in it is made in an unusual way")
    pairs: list[Any] = []
    for each in call.args[0]:
        if not isinstance(each, (tuple, list)) or len(each) != 2:
            raise BadPickle("a dict in it is made in an unusual way")
        pairs.extend(each)
    return pairs


def namespace(kind: type[Any]) -> Any:
    """A builder of `Namespace` and `SimpleNamespace`: attributes from a dict."""

    def build(rebuilder: Rebuilder, call: Call) -> Any:
        _no_more(call, states=1)
        state = rebuilder.value(call.states[0]) if call.states else {}
        if call.args or not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise BadPickle("a namespace in it is made in an unusual way")
        made = kind()
        made.__dict__.update(state)
        return made

    return build


def path(kind: type[pathlib.PurePath]) -> Any:
    """A builder of paths, as pure ones: a file written on Windows opens on Linux."""

    def build(rebuilder: Rebuilder, call: Call) -> pathlib.PurePath:
        _no_more(call)
        parts = [text_of(each) for each in call.args]
        if len(parts) > _MOST_PARTS or any(part is None for part in parts):
            raise BadPickle("a path in it is made in an unusual way")
        return kind(*[part for part in parts if part is not None])

    return build


def whole_numbers(kind: Any) -> Any:
    """A builder of `slice` and `range`, which take whole numbers and make nothing of them until they are used."""

    def build(rebuilder: Rebuilder, call: Call) -> Any:
        _no_more(call)
        args = [rebuilder.value(each) for each in call.args]
        if not 1 <= len(args) <= 3 or not all(whole(each) or (each is None and kind is slice) for each in args):
            raise BadPickle(f"a {kind.__name__} in it is made in an unusual way")
        if kind is range and len(args) == 3 and args[2] == 0:
            raise BadPickle("a range in it has a step of 0")
        return kind(*args)

    return build


def collection(kind: Any) -> Any:
    """A builder of `set([...])`, `frozenset`, `list`, `tuple` and `dict` from what the pickle lists itself."""

    def build(rebuilder: Rebuilder, call: Call) -> Any:
        _no_more(call, items=kind is list, pairs=kind is dict)
        given = rebuilder.value(call.args[0]) if len(call.args) == 1 else () if not call.args else None
        if kind is dict:
            return rebuilder.mapping(call.pairs, {}) if not call.args else dict(_as_dict(given))
        if not isinstance(given, (list, tuple)):
            raise BadPickle(f"a {kind.__name__} in it is made in an unusual way")
        if kind in (set, frozenset):
            return kind([rebuilder.key(each) for each in (call.args[0] if call.args else ())])
        return kind([*given, *(rebuilder.value(each) for each in call.items)])

    return build


def _as_dict(given: Any) -> dict[Any, Any]:
    if not isinstance(given, dict):
        raise BadPickle("a dict in it is made in an unusual way")
    return given


def build_bytes(rebuilder: Rebuilder, call: Call) -> bytes:
    """`_codecs.encode(text, "latin1")`: bytes in protocol 2."""
    _no_more(call)
    args = call.args
    if len(args) != 2 or not isinstance(args[0], str) or text_of(args[1]) not in ("latin1", "latin-1"):
        raise BadPickle("bytes in it are made in an unusual way")
    try:
        return args[0].encode("latin1")
    except UnicodeEncodeError:
        raise BadPickle("bytes in it are made in an unusual way") from None


def byte_string(kind: Any) -> Any:
    """A builder of `bytes()` and `bytearray(...)`, of nothing, of bytes, or of text with its encoding."""

    def build(rebuilder: Rebuilder, call: Call) -> Any:
        _no_more(call)
        if len(call.args) == 2:
            return kind(build_bytes(rebuilder, call))
        given = rebuilder.value(call.args[0]) if len(call.args) == 1 else b"" if not call.args else None
        if not isinstance(given, (bytes, bytearray)):
            raise BadPickle("bytes in it are made in an unusual way")
        return kind(given)

    return build


def complex_number(rebuilder: Rebuilder, call: Call) -> complex:
    """`complex(real, imaginary)`."""
    _no_more(call)
    if len(call.args) != 2 or not all(type(each) is float for each in call.args):
        raise BadPickle("a complex number in it is made in an unusual way")
    return complex(*call.args)


def size(rebuilder: Rebuilder, call: Call) -> torch.Size:
    """`torch.Size((2, 3))`."""
    _no_more(call)
    given = rebuilder.value(call.args[0]) if len(call.args) == 1 else None
    if not isinstance(given, (list, tuple)) or not all(whole(each) and each >= 0 for each in given):
        raise BadPickle("a size in it is no list of whole numbers")
    return torch.Size(given)


def device(rebuilder: Rebuilder, call: Call) -> torch.device:
    """`torch.device("cuda", 0)`, which need not be there: everything is loaded onto the CPU."""
    _no_more(call)
    try:
        return torch.device(*[each if whole(each) else text_of(each) for each in call.args])  # type: ignore[arg-type]  # torch refuses other numbers of arguments itself
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise BadPickle("a device in it is of an unknown kind") from None


def _paths() -> dict[str, Any]:
    found = {}
    for module in ("pathlib", "pathlib._local"):
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
            kind: type[pathlib.PurePath] = pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath
            found[f"{module}.{name}"] = path(kind)
    return found


def _unbuildable(rebuilder: Rebuilder, call: Call) -> Any:
    raise BadPickle("it makes a number or a type in an unusual way")


PLAIN_BUILDERS: dict[str, Any] = {
    "collections.OrderedDict": ordered_dict,
    "collections.defaultdict": default_dict,
    "collections.Counter": counter,
    "collections.deque": deque,
    "argparse.Namespace": namespace(argparse.Namespace),
    "types.SimpleNamespace": namespace(types.SimpleNamespace),
    **{f"builtins.{kind.__name__}": collection(kind) for kind in (set, frozenset, list, tuple, dict)},
    **{f"builtins.{kind.__name__}": whole_numbers(kind) for kind in (slice, range)},
    **{f"builtins.{kind.__name__}": byte_string(kind) for kind in (bytes, bytearray)},
    **{f"builtins.{name}": _unbuildable for name in ("int", "float", "str", "bool")},
    "builtins.complex": complex_number,
    "_codecs.encode": build_bytes,
    "torch.Size": size,
    "torch.device": device,
    **dict.fromkeys(("numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter"), _unbuildable),
    **_paths(),
}
