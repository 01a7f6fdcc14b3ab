"""Optimisation profiles: the smallest, the expected and the largest shape of every input.

A plan may hold several: the builder chooses the kernels of each for its expected shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from normexport.errors import EngineError, UsageError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

#: Batch sizes of inputs that were given no shapes: smallest, expected, largest.
DEFAULT_BATCH = (1, 8, 32)

_WORDS = re.compile(r"(?P<name>.+?)[:=](?P<sizes>\d+(?:x\d+)*)")
_OPTIONS = ("--minShapes", "--optShapes", "--maxShapes")


@dataclass(frozen=True)
class ShapeRange:
    """Shapes by input name. An input that only one of them names has this one shape."""

    smallest: Shapes = field(default_factory=dict)
    expected: Shapes = field(default_factory=dict)
    largest: Shapes = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """The three shapes of one input, complete."""

    name: str
    smallest: Shape
    expected: Shape
    largest: Shape


def parse_shapes(text: str, option: str) -> dict[str, Shape]:
    """ "x:1x3x224x224,mask:1x128" as trtexec writes it -> {"x": (1, 3, 224, 224), "mask": (1, 128)}.

    Raises:
        UsageError: it is written otherwise, or names an input twice.
    """
    shapes: dict[str, Shape] = {}
    for words in text.split(","):
        match = _WORDS.fullmatch(words.strip())
        if match is None or match["name"] in shapes:
            raise UsageError(option, f"{text!r} is not understood", "write it as name:1x3x224x224,other:1x128")
        shapes[match["name"]] = tuple(int(size) for size in match["sizes"].split("x"))
    return shapes


def ranges_of(smallest: Sequence[str], expected: Sequence[str], largest: Sequence[str]) -> tuple[ShapeRange, ...]:
    """The ranges that `--minShapes`, `--optShapes` and `--maxShapes` ask for: the first of each, the second of each.

    Raises:
        UsageError: one is not understood, or they are not given equally often.
    """
    given = dict(zip(_OPTIONS, (smallest, expected, largest), strict=True))
    counts = {option: len(texts) for option, texts in given.items() if texts}
    if len(set(counts.values())) > 1:
        cause = f"of several profiles are not equally many: {', '.join(f'{each} {n}' for each, n in counts.items())}"
        raise UsageError("shapes", cause, "give each option once for every profile")
    parsed = [[parse_shapes(text, option) for text in texts] for option, texts in given.items()]
    number = max(counts.values(), default=1)
    return tuple(ShapeRange(*(shapes[index] if shapes else {} for shapes in parsed)) for index in range(number))


def all_profiles(inputs: Sequence[Mapping[str, Any]], asked: Sequence[ShapeRange]) -> tuple[tuple[Profile, ...], ...]:
    """For each range that is asked for what `profiles` makes of it.

    Raises:
        EngineError, UsageError: as `profiles`; or two profiles are the same.
    """
    found = tuple(profiles(inputs, each) for each in asked)
    for index, each in enumerate(found):
        if each in found[:index]:
            cause = f"{index + 1} is the same as {found.index(each) + 1}"
            raise EngineError("profile", cause, "give each profile shapes of its own")
    return found


def profiles(inputs: Sequence[Mapping[str, Any]], asked: ShapeRange) -> tuple[Profile, ...]:
    """The three shapes of each input in one profile; an open batch and nothing asked gets `DEFAULT_BATCH`.

    Args:
        inputs: each with its "name" and "shape", -1 for an open size.

    Raises:
        EngineError: shapes that don't fit the model or each other, or an input without an input's name.
        UsageError: a size other than the batch is open and nothing says how large it is.
    """
    names = [each["name"] for each in inputs]
    for option, shapes in zip(_OPTIONS, (asked.smallest, asked.expected, asked.largest), strict=True):
        for name in shapes:
            if name not in names:
                raise EngineError(option, f"the model has no input {name}", f"its inputs are {', '.join(names)}")
    return tuple(_profile(each["name"], tuple(each["shape"]), asked) for each in inputs)


def _profile(name: str, declared: Shape, asked: ShapeRange) -> Profile:
    given = [asked.smallest.get(name), asked.expected.get(name), asked.largest.get(name)]
    named = [shape for shape in given if shape is not None]
    if not named:
        return Profile(name, *_by_default(name, declared))
    smallest = given[0] or given[1] or named[-1]
    largest = given[2] or given[1] or named[0]
    expected = given[1] or largest
    for shape in (smallest, expected, largest):
        fits = len(shape) == len(declared) and all(
            size in (-1, wanted) for size, wanted in zip(declared, shape, strict=True)
        )
        if not fits:
            raise EngineError(f"input {name}", f"{_text(shape)} does not fit {_text(declared)}", "give shapes that fit")
    ordered = all(a <= b <= c for a, b, c in zip(smallest, expected, largest, strict=True))
    if not ordered or 0 in largest:
        cause = f"min {_text(smallest)}, opt {_text(expected)}, max {_text(largest)} is an impossible profile"
        raise EngineError(f"input {name}", cause, "every size must grow, or stay, from min to opt to max")
    return Profile(name, smallest, expected, largest)


def _by_default(name: str, declared: Shape) -> tuple[Shape, Shape, Shape]:
    if -1 in declared[1:]:
        example = _text(tuple(abs(size) for size in declared))
        remedy = f"give --minShapes {name}:{example}, --optShapes and --maxShapes"
        raise UsageError(f"input {name}", f"has open sizes ({_text(declared)})", remedy)
    if -1 not in declared:
        return declared, declared, declared
    one, two, three = ((batch, *declared[1:]) for batch in DEFAULT_BATCH)
    return one, two, three


def _text(shape: Shape) -> str:
    return "x".join("?" if size < 0 else str(size) for size in shape)
