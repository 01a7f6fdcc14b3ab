"""Pickles opcode by opcode: globals, arguments, memo, nesting; and the files of `torch.save` around them."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable

from tests.fuzz import hostile
from tests.fuzz.dice import Dice
from tests.narrow import present

#: One opcode with its argument, as it stands in the file.
Ops = list[bytes]

_INTEGERS = (b"K", b"M", b"J", b"I", b"L", b"\x8a")
_STRINGS = (b"X", b"\x8c", b"U", b"V", b"\x8d", b"T")


def read(data: bytes) -> tuple[list[Ops], bytes]:
    """All pickles that follow each other (old files hold five), and what stands behind them (their tensors)."""
    pickles: list[Ops] = []
    while data[:1] == b"\x80":
        starts = [present(place) for _, _, place in pickletools.genops(data)]
        ends = [*starts[1:], starts[-1] + 1]
        pickles.append([data[start:end] for start, end in zip(starts, ends, strict=True)])
        data = data[ends[-1] :]
    return pickles, data


def mutate(data: bytes, dice: Dice) -> tuple[bytes, str]:
    """A file of pickles with one change, and that change in words."""
    pickles, rest = read(data)
    if not pickles:
        return data + hostile.payload(dice), "pickle appended"
    at = (
        max(range(len(pickles)), key=lambda each: len(pickles[each]))
        if dice.chance(80)
        else dice.randrange(len(pickles))
    )
    way = dice.weighted(WAYS)
    pickles[at] = way(pickles[at], dice)
    return b"".join(b"".join(ops) for ops in pickles) + rest, f"pickle {way.__name__.strip('_')}"


def global_of(module: str, name: str) -> bytes:
    """The opcode GLOBAL."""
    return b"c" + module.replace("\n", "").encode() + b"\n" + name.encode() + b"\n"


def string(text: str) -> bytes:
    """The opcode BINUNICODE."""
    data = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<L", len(data)) + data


def integer(value: int) -> bytes:
    """BININT where it fits, else LONG1."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<l", value)
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _of_kind(ops: Ops, kinds: tuple[bytes, ...], dice: Dice) -> int:
    """Where an opcode of these kinds stands; anywhere, where there is none."""
    return dice.one_of([at for at, op in enumerate(ops) if op[:1] in kinds] or range(len(ops)))


def _replaced(ops: Ops, at: int, *new: bytes) -> Ops:
    return [*ops[:at], *new, *ops[at + 1 :]]


def _inserted(ops: Ops, dice: Dice, *new: bytes) -> Ops:
    """Anywhere between PROTO and STOP."""
    at = dice.randrange(1, max(len(ops), 2))
    return [*ops[:at], *new, *ops[at:]]


def _global(ops: Ops, dice: Dice) -> Ops:
    return _replaced(ops, _of_kind(ops, (b"c",), dice), global_of(*dice.one_of(hostile.GLOBALS)))


def _integer(ops: Ops, dice: Dice) -> Ops:
    return _replaced(ops, _of_kind(ops, _INTEGERS, dice), integer(hostile.integer(dice)))


def _string(ops: Ops, dice: Dice) -> Ops:
    return _replaced(
        ops, _of_kind(ops, _STRINGS, dice), string(hostile.name(dice) if dice.chance(70) else hostile.text(dice))
    )


def _swapped_string(ops: Ops, dice: Dice) -> Ops:
    """One attribute's or key's name or text where another's stood."""
    return _replaced(ops, _of_kind(ops, _STRINGS, dice), ops[_of_kind(ops, _STRINGS, dice)])


def _code_string(ops: Ops, dice: Dice) -> Ops:
    """Every string equal to one of them becomes code, as a name that stands in several places must."""
    old = ops[_of_kind(ops, _STRINGS, dice)]
    new = string(dice.one_of(hostile.CODE))
    return [new if op == old else op for op in ops]


def _constant(ops: Ops, dice: Dice) -> Ops:
    kinds = (b"N", b"\x88", b"\x89", b")", b"]", b"}", b"G", *_INTEGERS)
    return _replaced(ops, _of_kind(ops, kinds, dice), dice.one_of(_values(dice)))


def _values(dice: Dice) -> tuple[bytes, ...]:
    number = struct.pack(">d", dice.one_of(hostile.FLOATS))
    return (
        b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f", b"G" + number, string(hostile.text(dice)),
        integer(hostile.integer(dice)), global_of(*dice.one_of(hostile.GLOBALS)), b"C\x03abc",
        b"\x8e" + struct.pack("<Q", 2**62), b"B" + struct.pack("<L", 2**31), b"\x96" + struct.pack("<Q", 10**11),
        b"\x8b" + struct.pack("<l", -1), b"\x8b" + struct.pack("<l", 2**30),
    )  # fmt: skip


def _drop(ops: Ops, dice: Dice) -> Ops:
    at = dice.randrange(len(ops))
    return ops[:at] + ops[at + dice.one_of((1, 1, 2, 5)) :]


def _twice(ops: Ops, dice: Dice) -> Ops:
    at = dice.randrange(len(ops))
    length = dice.one_of((1, 1, 2, 5, 20))
    return ops[: at + length] + ops[at : at + length] * dice.one_of((1, 1, 3)) + ops[at + length :]


def _swap(ops: Ops, dice: Dice) -> Ops:
    first, second = dice.randrange(len(ops)), dice.randrange(len(ops))
    changed = list(ops)
    changed[first], changed[second] = ops[second], ops[first]
    return changed


def _memo(ops: Ops, dice: Dice) -> Ops:
    at = _of_kind(ops, (b"h", b"j", b"q", b"r"), dice)
    index = dice.one_of((0, 1, dice.randrange(256), dice.randrange(256), 2**31, 2**32 - 1))
    narrow, wide = (b"h", b"j") if ops[at][:1] in b"hj" else (b"q", b"r")
    return _replaced(ops, at, narrow + bytes([index]) if index < 256 else wide + struct.pack("<L", index))


def _call(ops: Ops, dice: Dice) -> Ops:
    """A call whose result is dropped, or stands where another value stood."""
    target = global_of(*dice.one_of(hostile.GLOBALS))
    arguments = dice.one_of((
        string(hostile.MARKER) + b"\x85", string(dice.one_of(hostile.CODE)) + b"\x85",
        integer(hostile.integer(dice)) + b"\x85", b")",
        integer(hostile.integer(dice)) + integer(hostile.integer(dice)) + b"\x86", b"]\x85", b"N\x85",
        global_of("builtins", "range") + integer(10**10) + b"\x85R\x85", global_of("builtins", "list") + b")\x86",
        integer(10**5) + integer(10**5) + integer(3) + b"\x87", b"h\x00\x85", b"h\x05h\x01\x86",
    ))  # fmt: skip
    call = target + arguments + dice.one_of((b"R", b"\x81", b"R", b"R", b"}b", b"}\x92"))
    if dice.chance(40):
        return _replaced(ops, dice.randrange(1, max(len(ops) - 1, 2)), call)
    return _inserted(ops, dice, call, *([] if dice.chance(20) else [b"0"]))


def _deep(ops: Ops, dice: Dice) -> Ops:
    depth = dice.one_of((100, 900, 5000, 200_000))
    nested = dice.one_of(
        (
            b"]" * depth + b"a" * (depth - 1),
            b"(" * depth + b"t" * depth,
            b")" + b"\x85" * depth,
            b"(" * depth,
            b"}" * depth,
            b"N" + b"\x85" * depth,
        )
    )
    return (
        _inserted(ops, dice, nested)
        if dice.chance(50)
        else _replaced(ops, dice.randrange(1, max(len(ops) - 1, 2)), nested)
    )


def _persistent(ops: Ops, dice: Dice) -> Ops:
    load = dice.one_of(
        (
            b"Q",
            b"Pabc\n",
            b"0Q",
            b"(X\x07\x00\x00\x00storagec"
            + b"torch\nFloatStorage\n"
            + string("0")
            + string("cpu")
            + integer(hostile.integer(dice))
            + b"tQ",
        )
    )
    return _replaced(ops, _of_kind(ops, (b"Q",), dice), load)


def _odd(ops: Ops, dice: Dice) -> Ops:
    """Opcodes that PyTorch's own files never hold."""
    odd = dice.one_of((
        b"\x82\x01", b"\x83\x01\x00", b"\x84\xff\xff\xff\x7f", b"ios\nmkdir\n", b"(ios\nsystem\nS'touch OWNED'\n", b"o",
        b"b", b"R", b"\x81", b"\x92", b"\x93", b"\x94", b"\x95" + struct.pack("<Q", 2**63), b"\x97", b"\x98",
        b"\x80\xff", b"\x80\x05", b".", b"1", b"2", b"0", b"u", b"s", b"e", b"a", b"\x90", b"\x91", b"\x8a\x00",
        b"\x8b\xff\xff\xff\xff", b"I99999999999999999999\n", b"L" + b"9" * 5000 + b"L\n", b"S'abc'\n", b"Fnan\n",
        b"F1e999\n", b"g0\n", b"p-1\n", b"Vabc\\ud800\n", b"X\xff\xff\xff\xff", b"\xff",
    ))  # fmt: skip
    return _inserted(ops, dice, odd) if dice.chance(60) else _replaced(ops, dice.randrange(len(ops)), odd)


def _state(ops: Ops, dice: Dice) -> Ops:
    """Another state for an object."""
    state = dice.one_of((b"N", b"}", b")", b"]", b"}" + string("__dict__") + b"}s", b"N}\x86",
    b"}" + string("__class__") + global_of("os", "mkdir") + b"s",
        b"}" + string("_modules") + b"Ns", b"}" + string("forward") + global_of("os", "system") + b"s",
        integer(5)))  # fmt: skip
    return (
        _replaced(ops, _of_kind(ops, (b"b",), dice), b"0" + state + b"b")
        if dice.chance(70)
        else _inserted(ops, dice, state + b"b")
    )


def _replaced_whole(ops: Ops, dice: Dice) -> Ops:
    """Another pickle altogether: one that runs code, or one value."""
    whole = dice.one_of((hostile.payload(dice), b"\x80\x02" + dice.one_of(_values(dice)) + b".", b"\x80\x02."))
    return [whole]


def _ahead(ops: Ops, dice: Dice) -> Ops:
    """A call that runs code in front of an otherwise honest pickle, its result dropped."""
    return [ops[0], b"cos\nmkdir\n" + string(hostile.MARKER) + b"\x85R0", *ops[1:]]


WAYS: dict[Callable[[Ops, Dice], Ops], int] = {
    _global: 6, _integer: 8, _string: 8, _swapped_string: 4, _code_string: 5, _constant: 6, _drop: 4, _twice: 4,
    _swap: 4, _memo: 4, _call: 8, _deep: 1, _persistent: 2, _odd: 3, _state: 4, _replaced_whole: 1, _ahead: 2,
}  # fmt: skip
