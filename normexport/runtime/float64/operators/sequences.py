"""Sequences are lists of arrays; an optional is its element, or None."""

from __future__ import annotations

from typing import Any

import numpy as np

from normexport.runtime.float64.operators.shape import ints
from normexport.runtime.float64.registry import Call, Unsupported, operator


def _position(position: Any, length: int) -> int:
    at = int(position.reshape(()))
    if not -length <= at < length:
        raise Unsupported(f"position {at} is outside of a sequence of {length}")
    return at


@operator("SequenceEmpty")
def sequence_empty(_: Call) -> Any:
    return []


@operator("SequenceConstruct")
def sequence_construct(_: Call, *items: Any) -> Any:
    return list(items)


@operator("SequenceAt")
def sequence_at(_: Call, sequence: list[Any], position: Any) -> Any:
    return sequence[_position(position, len(sequence))]


@operator("SequenceLength")
def sequence_length(_: Call, sequence: list[Any]) -> Any:
    return np.array(len(sequence), dtype=np.int64)


@operator("SequenceInsert")
def sequence_insert(_: Call, sequence: list[Any], item: Any, position: Any = None) -> Any:
    at = len(sequence) if position is None else int(position.reshape(()))
    if not -len(sequence) <= at <= len(sequence):
        raise Unsupported(f"position {at} is outside of a sequence of {len(sequence)}")
    copy = list(sequence)
    copy.insert(at, item)
    return copy


@operator("SequenceErase")
def sequence_erase(_: Call, sequence: list[Any], position: Any = None) -> Any:
    copy = list(sequence)
    del copy[-1 if position is None else _position(position, len(sequence))]
    return copy


@operator("ConcatFromSequence")
def concat_from_sequence(call: Call, sequence: list[Any]) -> Any:
    return (np.stack if call["new_axis"] else np.concatenate)(sequence, axis=call["axis"])


@operator("SplitToSequence")
def split_to_sequence(call: Call, x: Any, split: Any = None) -> Any:
    axis = (call["axis"] or 0) % x.ndim
    side = x.shape[axis]
    if split is None:
        parts = np.split(x, side, axis=axis) if side else []
        return parts if call["keepdims"] else [np.squeeze(part, axis) for part in parts]
    sizes = ints(split)
    if split.ndim == 0:
        ends = list(range(sizes[0], side, sizes[0]))
    elif sum(sizes) != side:
        raise Unsupported(f"parts of {sizes} do not make up {side}")
    else:
        ends = np.cumsum(sizes)[:-1].tolist()
    return list(np.split(x, ends, axis=axis))


@operator("Optional")
def optional(_: Call, x: Any = None) -> Any:
    return x


@operator("OptionalGetElement")
def optional_get_element(_: Call, x: Any) -> Any:
    if x is None:
        raise Unsupported("the optional is empty")
    return x


@operator("OptionalHasElement")
def optional_has_element(_: Call, x: Any = None) -> Any:
    return np.array(x is not None)
