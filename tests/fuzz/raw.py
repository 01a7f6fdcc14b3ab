"""Mutations that know nothing of the format: flips, cuts, repeats and foreign numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fuzz import hostile
from tests.fuzz.dice import Dice


def mutate(data: bytes, dice: Dice) -> tuple[bytes, str]:
    """The bytes changed in one way, and that way in words."""
    if not data:
        return dice.randbytes(dice.randrange(1, 40)), "bytes where there were none"
    at = _place(data, dice)
    length = min(dice.one_of((1, 1, 2, 4, 8, 64, 1000)), len(data) - at)
    end = at + length
    way = dice.one_of(("flip", "set", "cut", "drop", "insert", "repeat", "number", "zero", "swap"))
    changed = {
        "flip": lambda: data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :],
        "set": lambda: data[:at] + dice.randbytes(length) + data[end:],
        "cut": lambda: data[:at],
        "drop": lambda: data[:at] + data[end:],
        "insert": lambda: data[:at] + dice.randbytes(length) + data[at:],
        "repeat": lambda: data[:end] + data[at:end] * dice.one_of((1, 2, 100)) + data[end:],
        "number": lambda: _with_number(data, at, dice),
        "zero": lambda: data[:at] + bytes(length) + data[end:],
        "swap": lambda: (
            data[end : end + length] + data[at:end] + data[end + length :] if at == 0 else data[at:] + data[:at]
        ),
    }[way]()
    return changed, f"{way} at {at} of {len(data)}"


def unless(change: Callable[..., tuple[bytes, str]], data: bytes, dice: Dice, *more: Any) -> tuple[bytes, str]:
    """What `change` makes of the data; a change of its bytes where earlier changes left nothing that it could read."""
    try:
        return change(data, dice, *more)
    except Exception:  # other code meets bytes that it was not written for
        return mutate(data, dice)


def _place(data: bytes, dice: Dice) -> int:
    """Anywhere; often near the ends, where headers and directories stand."""
    near = min(200, len(data))
    return dice.one_of((dice.randrange(len(data)), dice.randrange(near), len(data) - 1 - dice.randrange(near)))


def _with_number(data: bytes, at: int, dice: Dice) -> bytes:
    number = hostile.little_endian(dice, hostile.integer(dice))
    return data[:at] + number + data[at + len(number) :]
