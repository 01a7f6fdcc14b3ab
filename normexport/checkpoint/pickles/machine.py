"""A pickle machine that builds inert records only: it imports nothing, calls nothing, hashes nothing of the file.

It knows the instructions that Python's pickler writes in protocols 2 to 5. Nothing is allocated by a number in the
file: strings are slices of it, memo indices are keys of a dict, and instructions and objects are counted.
The instructions: Lib/pickletools.py of CPython.
"""

from __future__ import annotations

import _compat_pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from normexport.checkpoint.pickles.inert import BadPickle, Call, Dict, Name, Persistent, Set

#: A training checkpoint has some thousands of each; at these limits a pickle takes seconds and a gigabyte. Containers,
#: names, calls and references are objects; the memo is what later instructions can refer to.
MOST_INSTRUCTIONS, MOST_OBJECTS, MOST_IN_MEMO = 3_000_000, 500_000, 1_000_000
#: Bytes of one int: PCG64, the largest state that numpy writes as an int, has 16.
_LONGEST_INT = 128
_LONGEST_NAME = 512


@dataclass(frozen=True)
class Pickle:
    """A pickle that was read: its object in inert records, where it ends, what it names and refers to."""

    root: Any
    end: int
    names: frozenset[str]
    references: tuple[Persistent, ...]


def read_pickle(data: bytes, at: int = 0) -> Pickle:
    """The pickle that begins at `at`.

    Raises:
        BadPickle: cut short, damaged, too large, or with an instruction that pickles of PyTorch don't have.
    """
    machine = _Machine(data, at)
    root = machine.run()
    return Pickle(root, machine.at, frozenset(machine.names), tuple(machine.references))


class _Machine:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: set[str] = set()
        self.references: list[Persistent] = []
        self.objects = 0
        self.protocol = 0

    def run(self) -> Any:
        if self.data[self.at : self.at + 1] != b"\x80":
            raise BadPickle("it is no pickle of protocol 2 or later")
        steps = _STEPS
        try:
            for _ in range(MOST_INSTRUCTIONS):
                code = self.data[self.at]
                self.at += 1
                if code == 0x2E:  # STOP
                    return self._pop()
                steps[code](self)
        except KeyError as error:
            raise BadPickle(
                f"it uses the pickle instruction 0x{error.args[0]:02x}, which PyTorch never writes"
            ) from None
        except (IndexError, struct.error):
            raise BadPickle("its pickle is cut short") from None
        raise BadPickle(f"its pickle has more than {MOST_INSTRUCTIONS:,} instructions")

    # The data.

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise BadPickle("its pickle is cut short")
        taken, self.at = self.data[self.at : end], end
        return taken

    def _number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + _LONGEST_NAME)
        if end < 0:
            raise BadPickle("a name in it has no end")
        return _decode_utf8(self._take(end + 1 - self.at)[:-1])

    # The stack.

    def _pop(self) -> Any:
        if not self.stack or (self.marks and self.marks[-1] == len(self.stack)):
            raise BadPickle("its pickle takes more than it has put down")
        return self.stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self.stack.append(value)
        return value

    def _pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise BadPickle("its pickle takes more than it has put down")
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def _put(self, value: Any) -> None:
        """Push a container or record, which counts."""
        self.objects += 1
        if self.objects > MOST_OBJECTS:
            raise BadPickle(f"its pickle has more than {MOST_OBJECTS:,} objects")
        self.stack.append(value)

    # Instructions with more than a line to them.

    def protocol_is(self) -> None:
        self.protocol = self._number(1)
        if not 2 <= self.protocol <= 5:
            raise BadPickle(f"it is a pickle of protocol {self.protocol}")

    def frame(self) -> None:
        if self._number(8) > len(self.data) - self.at:
            raise BadPickle("its pickle is cut short")

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def integer(self, size: int) -> None:
        if size > _LONGEST_INT:
            raise BadPickle(f"it holds an int of {size} bytes")
        self.stack.append(self._number(size, signed=True))

    def text(self, size: int) -> None:
        self.stack.append(_decode_utf8(self._take(size)))

    def old_text(self, size: int) -> None:
        """A str of Python 2: text where it is UTF-8, as torch.load reads it, else bytes (numpy's data)."""
        raw = self._take(size)
        try:
            self.stack.append(raw.decode())
        except UnicodeDecodeError:
            self.stack.append(raw)

    def tuple_of(self, count: int) -> None:
        self._put(tuple(reversed([self._pop() for _ in range(count)])))

    def memoize(self, index: int) -> None:
        if len(self.memo) >= MOST_IN_MEMO:
            raise BadPickle(f"its pickle remembers more than {MOST_IN_MEMO:,} objects")
        self.memo[index] = self._top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise BadPickle(f"its pickle refers to object {index}, which it does not have")
        self.stack.append(self.memo[index])

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise BadPickle("it names a class by something that is no text")
        if self.protocol < 3:  # names of Python 2
            if (module, name) in _compat_pickle.NAME_MAPPING:
                module, name = _compat_pickle.NAME_MAPPING[(module, name)]
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        dotted = f"{module}.{name}"
        if len(dotted) > _LONGEST_NAME:
            raise BadPickle("a name in it has no end")
        self.names.add(dotted)
        self._put(Name(dotted))

    def stack_name(self) -> None:
        name, module = self._pop(), self._pop()
        self.name(module, name)

    def call(self) -> None:
        args, what = self._pop(), self._pop()
        if not isinstance(args, tuple):
            raise BadPickle("it calls something with arguments that are no tuple")
        self._put(Call(what, args))

    def call_with_keywords(self) -> None:
        keywords = self._pop()
        if not isinstance(keywords, Dict) or keywords.pairs:
            raise BadPickle("it makes an object with keyword arguments")
        self.call()

    def build(self) -> None:
        state, target = self._pop(), self._top()
        if not isinstance(target, Call):
            raise BadPickle("it sets the state of something that has none")
        target.states.append(state)

    def append(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, (list, Call)):
            raise BadPickle("it appends to something that is no list")
        (target if isinstance(target, list) else target.items).extend(items)

    def set_items(self, pairs: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, (Dict, Call)) or len(pairs) % 2:
            raise BadPickle("it sets items of something that is no dict")
        target.pairs.extend(pairs)

    def add_items(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, Set) or target.frozen:
            raise BadPickle("it adds to something that is no set")
        target.items.extend(items)

    def refer(self) -> None:
        self.references.append(Persistent(self._pop()))
        self._put(self.references[-1])

    def append_one(self) -> None:
        item = self._pop()
        self.append([item])

    def set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self.set_items([key, value])


def _decode_utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadPickle("it holds text that is no UTF-8") from None


_Step = Callable[[_Machine], object]

#: Instruction -> what it does; in the order of pickletools.
_STEPS: dict[int, _Step] = {
    0x80: _Machine.protocol_is,
    0x95: _Machine.frame,
    ord("("): _Machine.mark,
    ord("0"): lambda m: m._pop(),
    ord("1"): lambda m: m._pop_to_mark(),
    ord("N"): lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    ord("J"): lambda m: m.integer(4),
    ord("K"): lambda m: m.stack.append(m._number(1)),
    ord("M"): lambda m: m.stack.append(m._number(2)),
    0x8A: lambda m: m.integer(m._number(1)),
    0x8B: lambda m: m.integer(m._number(4)),
    ord("G"): lambda m: m.stack.append(struct.unpack(">d", m._take(8))[0]),
    ord("X"): lambda m: m.text(m._number(4)),
    0x8C: lambda m: m.text(m._number(1)),
    0x8D: lambda m: m.text(m._number(8)),
    ord("U"): lambda m: m.old_text(m._number(1)),
    ord("T"): lambda m: m.old_text(m._number(4)),
    ord("B"): lambda m: m.stack.append(m._take(m._number(4))),
    ord("C"): lambda m: m.stack.append(m._take(m._number(1))),
    0x8E: lambda m: m.stack.append(m._take(m._number(8))),
    0x96: lambda m: m._put(bytearray(m._take(m._number(8)))),
    ord(")"): lambda m: m.stack.append(()),
    ord("t"): lambda m: m._put(tuple(m._pop_to_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("]"): lambda m: m._put([]),
    ord("l"): lambda m: m._put(m._pop_to_mark()),
    ord("a"): _Machine.append_one,
    ord("e"): lambda m: m.append(m._pop_to_mark()),
    ord("}"): lambda m: m._put(Dict([])),
    ord("s"): _Machine.set_one,
    ord("u"): lambda m: m.set_items(m._pop_to_mark()),
    0x8F: lambda m: m._put(Set([], frozen=False)),
    0x90: lambda m: m.add_items(m._pop_to_mark()),
    0x91: lambda m: m._put(Set(m._pop_to_mark(), frozen=True)),
    ord("h"): lambda m: m.recall(m._number(1)),
    ord("j"): lambda m: m.recall(m._number(4)),
    ord("q"): lambda m: m.memoize(m._number(1)),
    ord("r"): lambda m: m.memoize(m._number(4)),
    0x94: lambda m: m.memoize(len(m.memo)),
    ord("c"): lambda m: m.name(m._line(), m._line()),
    0x93: _Machine.stack_name,
    ord("R"): _Machine.call,
    0x81: _Machine.call,
    0x92: _Machine.call_with_keywords,
    ord("b"): _Machine.build,
    ord("Q"): _Machine.refer,
}
