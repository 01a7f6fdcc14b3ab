"""JSON documents that nobody vouches for: parsed strictly, then read field by field, each checked by its type.

    fields = record(read_json(path), "")
    size = fields.get("bytes", count)
    inputs = fields.get("inputs", many(tensor))
    fields.no_more()

A message names the field: "inputs[2].shape[0] is 'x', and a whole number is needed". File names in a document are
names: nothing here, and nothing that reads these documents, opens what they name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from normexport.io.opening import read_bytes

T = TypeVar("T")
Check = Callable[[Any, str], T]

#: The documents of a network of 1000 layers have 0.3 MB. Eight MiB of empty lists take 0.4 GB, and seconds, to parse.
MOST_BYTES = 8 << 20
_MOST_NUMBER = 1 << 63
#: From 3.14 on Python's parser goes as deep as memory lets it, and what reads the value would not.
_DEEPEST = 500
_STRING, _BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL), re.compile(r"[][{}]")


class BadJson(ValueError):
    """The document is no JSON, or not of the form that it should have; the message says where."""


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The document at `path`.

    Args:
        most: bytes of it. Where that is more than 8 MiB, all but 8 MiB of them are inside of strings: a long string
            costs its length, a long list of lists fifty times as much.

    Raises:
        UsageError: it can't be read, or has more bytes.
        BadJson: see `parse_json`; it has more outside of strings.
    """
    return parse_json(read_bytes(path, most), bare=MOST_BYTES)


def parse_json(content: bytes | str, *, bare: int | None = None) -> Any:
    """A value from JSON as RFC 8259 has it: UTF-8, every name once in an object, no NaN, no lone surrogates.

    Args:
        bare: characters outside of strings, at most; None: any number.

    Raises:
        BadJson: it is something else, nested more than `_DEEPEST` deep, or has more outside of strings.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        _require_shallow(text, bare)
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError as error:
        raise BadJson("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise BadJson("it is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise BadJson(f"it is no JSON: {error}") from error
    except BadJson:
        raise
    except ValueError as error:  # a number of more digits than Python reads
        raise BadJson("it holds a number that is too long") from error


def finite(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _require_shallow(text: str, most: int | None) -> None:
    depth, bare = 0, _STRING.sub("", text)
    if most is not None and len(bare) > most:
        raise BadJson(f"it has more than {most >> 20} MiB outside of strings")
    for bracket in _BRACKET.finditer(bare):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > _DEEPEST:
            raise BadJson("it is nested too deeply")


class Record:
    """A JSON object, of which each field is read once."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        self._fields, self._where, self._read = fields, where, set[str]()

    def get(self, name: str, check: Check[T]) -> T:
        """The field `name`, of the form that `check` accepts."""
        place = f"{self._where}.{name}" if self._where else name
        if name not in self._fields:
            raise BadJson(f"{place} is missing")
        self._read.add(name)
        return check(self._fields[name], place)

    def has(self, name: str) -> bool:
        """Whether there is a field `name`, for what earlier versions did not write."""
        return name in self._fields

    def require_format(self, number: int) -> None:
        """Refuse another version of the document than `number`."""
        found = self.get("format", count)
        if found != number:
            raise BadJson(f"its format is {found}, and this version of normexport reads {number}")

    def no_more(self) -> None:
        """Refuse fields that were not read."""
        for name in self._fields:
            if name not in self._read:
                raise BadJson(f"{self._where or 'it'} has an unknown field {_describe_value(name)}")


def record(value: Any, where: str) -> Record:
    """An object, to be read field by field."""
    return Record(_of(value, dict, where, "an object is needed"), where)


def text(value: Any, where: str) -> str:
    """Any string."""
    found: str = _of(value, str, where, "text is needed")
    if any("\ud800" <= char <= "\udfff" for char in found):
        raise BadJson(f"{where} is {_describe_value(value)}, which is no Unicode text")
    return found


def word(value: Any, where: str) -> str:
    """A string of at most 100 printable characters, for what is no more than a name."""
    if len(found := text(value, where)) > 100 or not found.isprintable():
        raise BadJson(f"{where} is {_describe_value(value)}, and a word is needed")
    return found


def line(value: Any, where: str) -> str:
    """At most 1000 printable characters: the name of a tensor or a module, or a sentence."""
    if len(found := text(value, where)) > 1000 or not found.isprintable():
        raise BadJson(f"{where} is {_describe_value(value)}, and one line of printable characters is needed")
    return found


def file_name(value: Any, where: str) -> str:
    """The name of a file, without any folder."""
    if (found := text(value, where)) in ("", ".", "..") or "/" in found or "\\" in found or not found.isprintable():
        raise BadJson(f"{where} is {_describe_value(value)}, and a file name is needed")
    return found


def digest(value: Any, where: str) -> str:
    """A SHA-256 in hexadecimal digits."""
    if len(found := text(value, where)) != 64 or not set(found) <= set("0123456789abcdef"):
        raise BadJson(f"{where} is {_describe_value(value)}, and a SHA-256 is needed")
    return found


def flag(value: Any, where: str) -> bool:
    """true or false."""
    return bool(_of(value, bool, where, "true or false is needed"))


def count(value: Any, where: str) -> int:
    """A whole number of 0 or more."""
    return _whole(value, where, 0)


def dimension(value: Any, where: str) -> int:
    """A size of an axis; -1 stands for one that is open."""
    return _whole(value, where, -1)


def number(value: Any, where: str) -> float:
    """A finite number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (abs(value) >= _MOST_NUMBER and isinstance(value, int)) or not math.isfinite(value):
        raise BadJson(f"{where} is {_describe_value(value)}, and a finite number is needed")
    return float(value)


def amount(value: Any, where: str) -> float:
    """A finite number of 0 or more."""
    if (found := number(value, where)) < 0:
        raise BadJson(f"{where} is {_describe_value(value)}, and a number of 0 or more is needed")
    return found


def scalar(value: Any, where: str) -> str | float | bool | None:
    """Text, a finite number, true, false or null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, where)
    return _whole(value, where, -_MOST_NUMBER) if isinstance(value, int) else number(value, where)


def optional(check: Check[T]) -> Check[T | None]:
    """What `check` accepts, or null."""
    return lambda value, where: None if value is None else check(value, where)


def many(check: Check[T]) -> Check[tuple[T, ...]]:
    """A list of what `check` accepts."""

    def checked(value: Any, where: str) -> tuple[T, ...]:
        items = _of(value, list, where, "a list is needed")
        return tuple(check(item, f"{where}[{index}]") for index, item in enumerate(items))

    return checked


def by_name(check: Check[T]) -> Check[dict[str, T]]:
    """An object of any names, each with what `check` accepts."""

    def checked(value: Any, where: str) -> dict[str, T]:
        items = _of(value, dict, where, "an object is needed")
        return {text(name, where): check(item, f"{where}[{_describe_value(name)}]") for name, item in items.items()}

    return checked


def _whole(value: Any, where: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _MOST_NUMBER:
        raise BadJson(f"{where} is {_describe_value(value)}, and a whole number of {least} or more is needed")
    return value


def _of(value: Any, kind: type, where: str, needed: str) -> Any:
    if not isinstance(value, kind):
        raise BadJson(f"{where or 'it'} is {_describe_value(value)}, and {needed}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise BadJson(f"it gives {_describe_value(next(name for name in found if names.count(name) > 1))} twice")
    return found


def _no_constant(name: str) -> Any:
    raise BadJson(f"it holds {name}")


def _describe_value(value: Any) -> str:
    """A value in a message: ASCII, on one line, at most some 60 characters, however large it is."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a number of many digits"
    shown = ascii(value[:60] if isinstance(value, str) else value)
    return shown if len(shown) <= 80 else f"{shown[:76]}...'"
