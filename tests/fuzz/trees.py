"""JSON documents: values, keys and types changed at places chosen by the schema, and what only its text can say."""

from __future__ import annotations

import copy
import json
import re
from collections import defaultdict
from typing import Any

from tests.fuzz import hostile
from tests.fuzz.dice import Dice

#: A key or number that `json` does not write stands in the tree as this string, and in the text as it is.
_RAW = "@RAW "


def mutate(text: bytes, dice: Dice, strings: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """A document with one change, and that change in words; `strings` are values worth trying in this format."""
    if dice.chance(12):
        return _as_text(text, dice)
    tree = json.loads(text)
    return in_tree(tree, dice, strings)


def in_tree(tree: Any, dice: Dice, strings: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """The same of a document that has been read; `tree` is changed."""
    root = {"": tree}
    container, key, path = _place(root, dice)
    words = _change(root, container, key, dice, strings)
    return written(root.get("")), f"{path}: {words}"


def mutate_plausibly(text: bytes, dice: Dice) -> tuple[bytes, str]:
    """A document in which one value is another of the same kind: one that stands elsewhere in it, or one near it."""
    tree = json.loads(text)
    found = places(tree)
    path = dice.one_of(sorted(found))
    container, key = dice.one_of(found[path])
    value = container[key]
    same_name = [other for other in sorted(found) if other.rpartition(".")[2] == path.rpartition(".")[2]]
    other, place = dice.one_of(found[path if dice.chance(60) else dice.one_of(same_name)])
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, int):
        container[key] = dice.one_of(
            (value + 1, value - 1, 0, 1, 2, 3, 4, 6, 7, 8, 16, -1, copy.deepcopy(other[place]))
        )
    elif isinstance(container, list) and dice.chance(40):
        way = dice.one_of(("drop", "twice", "shuffle"))
        if way == "drop":
            del container[key]
        elif way == "twice":
            container.insert(dice.randrange(len(container) + 1), copy.deepcopy(value))
        else:
            dice.shuffle(container)
        return written(tree), f"{path}: {way}"
    else:
        container[key] = copy.deepcopy(other[place])
    return written(tree), f"{path}: {_short(value)} -> {_short(other[place])}"


def written(tree: Any) -> bytes:
    """The tree as text, raw parts as they are."""
    text = json.dumps(tree, ensure_ascii=True)
    raw = re.sub(rf'"{_RAW}([^"\\]*)"', lambda found: found[1].replace("~", '"'), text)
    return raw.encode()


def places(tree: Any) -> dict[str, list[tuple[Any, Any]]]:
    """Schema path -> places (container, key) under it; indices of lists are one path."""
    found: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
    pending = [(tree, "")]
    while pending:
        container, path = pending.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in items:
            here = f"{path}.{key}" if isinstance(container, dict) else f"{path}[]"
            found[here].append((container, key))
            if isinstance(value, (dict, list)):
                pending.append((value, here))
    return dict(found)


def _place(tree: Any, dice: Dice) -> tuple[Any, Any, str]:
    """Uniform over schema paths, so that what stands once is changed as often as what stands a thousand times."""
    found = places(tree)
    path = dice.one_of(sorted(found))
    return (*dice.one_of(found[path]), path)


def _change(tree: Any, container: Any, key: Any, dice: Dice, strings: tuple[str, ...]) -> str:
    value = container[key]
    if dice.chance(50):
        container[key] = _alike(value, dice, strings)
        return f"{_short(value)} -> {_short(container[key])}"
    way = dice.one_of(("other", "delete", "twin", "rename", "nest", "elsewhere", "many", "raw"))
    if way == "delete":
        del container[key]
    elif way == "twin" and isinstance(container, dict):
        # JSON readers take the last of two equal keys, others the first.
        container[f"{_RAW}~{key}~"] = _alike(copy.deepcopy(value), dice, strings)
        return f"key {key} twice"
    elif way == "twin" or way == "many":
        if isinstance(container, list):
            container[key:key] = [copy.deepcopy(value)] * dice.one_of(
                (1, 1, 100, 3000 if len(_short(value)) < 30 else 2)
            )
        else:
            container[key] = [value] * dice.one_of((1, 2, 1000))
    elif way == "rename" and isinstance(container, dict):
        container[hostile.text(dice)] = container.pop(key)
    elif way == "nest":
        depth = dice.one_of((1, 3, 100, 1500, 100_000))
        container[key] = _nested(dice, depth)
        return f"nested {depth} deep"
    elif way == "elsewhere":
        other, place, _ = _place(tree, dice)
        container[key] = copy.deepcopy(other[place])
    elif way == "raw":
        number = dice.one_of(
            ("1e999", "-0", "NaN", "-Infinity", "9" * 5000, "1e-999", "0.1e400", "00", "0x10", "1_0", "{~a~:0,~a~:1}")
        )
        container[key] = _RAW + number
        return f"raw {number[:20]}"
    else:
        container[key] = _other(dice)
        return f"{_short(value)} -> {_short(container[key])}"
    return way


def _alike(value: Any, dice: Dice, strings: tuple[str, ...]) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return hostile.integer(dice) if dice.chance(70) else value + dice.one_of((1, -1, 2, -2))
    if isinstance(value, float):
        return dice.one_of(hostile.FLOATS)
    if isinstance(value, str):
        if strings and dice.chance(35):
            return dice.one_of(strings)
        return hostile.text(dice) if dice.chance(75) else _edited(value, dice)
    if isinstance(value, list):
        return dice.one_of(([], value[:-1], value[::-1], [*value, 0], [value], value * 2, [*value, None]))
    if isinstance(value, dict):
        return dice.one_of(({}, {**value, hostile.text(dice): 0}, dict(list(value.items())[1:]), [value], [*value]))
    return _other(dice)


def _edited(value: str, dice: Dice) -> str:
    """The string with something written into it."""
    at = dice.randrange(len(value) + 1)
    code = dice.one_of(hostile.CODE)
    return dice.one_of(
        (value[:at] + code + value[at:], value + code, value.upper(), value + "\r" + code, value * 3, value[:at])
    )


def _other(dice: Dice) -> Any:
    return dice.one_of((
        None, True, False, 0, -1, 1.5, "", [], {}, [[]], [None], {"a": None}, "1", hostile.integer(dice),
        hostile.text(dice), dice.one_of(hostile.FLOATS), [0] * 1000, {str(number): number for number in range(300)},
    ))  # fmt: skip


def _nested(dice: Dice, depth: int) -> str:
    """So deep that no reader of Python follows: written as text."""
    opening, closing = dice.one_of((("[", "]"), ("{~a~:", "}")))
    return _RAW + opening * depth + "0" + closing * depth


def _as_text(text: bytes, dice: Dice) -> tuple[bytes, str]:
    """Changes below the tree: encodings, escapes, cuts."""
    half = len(text) // 2
    escaped = _escaped(text, dice)
    ways = {
        "cut": text[: dice.randrange(len(text) + 1)],
        "marked UTF-8": b"\xef\xbb\xbf" + text,
        "UTF-16": text.decode().encode("utf-16"),
        "trailing": text + dice.one_of((b"0", b"\0", b"{}", b"]")),
        "no UTF-8": text[:half] + b"\xff\xfe" + text[half:],
        "surrogate": text.replace(b'": "', b'": "\\ud800', 1),
        "empty": b"",
        "other": dice.one_of(
            (b"null", b"[]", b"{}", b"0", b'""', b"[" * 100_000, b"{" * 1000, b'{"a":' * 50_000, b"nan", b"1e400")
        ),
        "escapes": escaped,
        "escapes too": escaped,
        "control": text.replace(b": ", b":\x00", 1),
        "byte": text[:half] + bytes([text[half] ^ 1 << dice.randrange(8)]) + text[half + 1 :] if text else b"0",
    }
    way = dice.one_of(sorted(ways))
    return ways[way], f"text: {way}"


def _escaped(text: bytes, dice: Dice) -> bytes:
    """One string written in escapes: equal to every JSON reader, unlike to every search in the text."""
    found = sorted(set(re.findall(rb'"([A-Za-z_.0-9]{2,40})"', text)))
    if not found:
        return text
    word = dice.one_of(found)
    return text.replace(b'"' + word + b'"', b'"' + b"".join(b"\\u%04x" % byte for byte in word) + b'"')


def _short(value: Any) -> str:
    return repr(value)[:60]
