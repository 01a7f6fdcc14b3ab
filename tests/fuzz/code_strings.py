"""Strings that PyTorch evaluates, changed word by word: size expressions, guards, dotted names."""

from __future__ import annotations

import re

from tests.fuzz import hostile
from tests.fuzz.dice import Dice

_WORD = re.compile(r"'[^']*'|\"[^\"]*\"|\w+|[^\w\s]")
_WORDS = (
    "L", "'x'", "[", "]", "(", ")", ".", "size", "shape", "ndim", "stride", "+", "-", "*", "**", "//", "/", "%", "<<",
    ">>", "<", ">=", "==", "!=", "and", "or", "not", "is", "in", "lambda", "if", "else", "for", ":", ":=", ",", "=",
    "0", "1", "2", "-1", "64", "10**12", "9**9**9", "1e400", "0x1", "1j", "1_0", "99999999999999999999", "__class__",
    "__globals__", "torch", "sym_max", "sym_min", "sym_not", "math", "floor", "Symbol", "Integer", "Float", "Rational",
    "Pow", "Max", "Mod", "FloorDiv", "Piecewise", "s0", "s77", "u0", "True", "None", "f'{x}'", "{}", "[0]", "[-1]",
    "...", "@", "~", "^", "|", "&", "\\", ";", "#", "\n", "\t", "'a'*9**9", "positive=True", "integer=1",
    "precision=53", "*args", "**kwargs",
)  # fmt: skip

_KEYWORDS = frozenset({"and", "or", "not", "is", "in", "lambda", "if", "else", "for"})


def mutate(text: str, dice: Dice) -> str:
    """The text with a word replaced, dropped, added, repeated or put into brackets."""
    words = _WORD.findall(text) or [""]
    at = dice.randrange(len(words))
    new = dice.one_of(hostile.CODE) if dice.chance(10) else dice.one_of(_WORDS)
    way = dice.one_of(("other", "other", "drop", "add", "own", "inside", "twice"))
    changed = {
        "other": [*words[:at], new, *words[at + 1 :]],
        "drop": [*words[:at], *words[at + 1 :]],
        "add": [*words[:at], new, *words[at:]],
        "own": [*words[:at], dice.one_of(words), *words[at + 1 :]],
        "inside": [
            *words[:at],
            f"({words[at]})" if dice.chance(70) else "(" * 200 + words[at] + ")" * 200,
            *words[at + 1 :],
        ],
        "twice": words + words[at:],
    }[way]
    return "".join(f" {word} " if word in _KEYWORDS else word for word in changed)
