"""An Einsum of a tensor and vectors of constants, "nchw,c->nchw", is a Mul along the axis that the vectors share.

Refuses: one that also lays the axes out anew ("nchw,c->nhwc").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import Vector
from normexport.graphs.nodes import label
from normexport.graphs.refusal import Refuse

_AXES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class Scale:
    """Input `data`, times `values` (C,) along `axis`."""

    data: int
    values: Vector
    axis: int


def read_scale(node: ir.Node, draft: Draft) -> Scale | None:
    """What an Einsum multiplies its only tensor by, None where it does anything else.

    Raises:
        Refuse: it multiplies and transposes.
    """
    places = [place for place, value in enumerate(node.inputs) if value not in draft.constants]
    if len(places) != 1 or len(node.inputs) < 2:
        return None
    data, tensor = places[0], node.inputs[places[0]]
    rank = draft.shapes.rank(tensor) if tensor is not None else None
    if tensor is None or rank is None:
        return None
    read = letters_of(node, tuple(rank if place == data else None for place in range(len(node.inputs))))
    if read is None:
        return None
    *letters, result = read
    names = letters[data]
    if not names.isalpha() or len(set(names)) != len(names) or set(result) != set(names) or len(result) != len(names):
        return None
    return _product(node, data, letters, result, draft)


def letters_of(node: ir.Node, ranks: Sequence[int | None]) -> list[str] | None:
    """The letters of the axes of each operand and, at the end, of the result; None where they are not all told.

    An ellipsis becomes capital letters, which an equation that has one must not use itself; an operand whose rank is
    not given must have none.
    """
    terms, arrow, result = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    letters = [*terms.split(","), result]
    if not arrow or len(letters) != len(ranks) + 1:
        return None
    if "..." in terms:
        wide = [rank + 3 - len(term) if rank is not None else -1 for rank, term in zip(ranks, letters, strict=False)]
        counts = [count for count, term in zip(wide, letters, strict=False) if "..." in term]
        if terms.lower() != terms or "..." not in result or not all(0 <= count < len(_AXES) for count in counts):
            return None
        most = max(counts)  # axes of an ellipsis are aligned at their end
        spread = [_AXES[most - count : most] for count in (*wide, most)]
        letters = [term.replace("...", axes) for term, axes in zip(letters, spread, strict=True)]
    if not all(term.isalpha() or not term for term in letters):
        return None
    told = all(rank is None or len(term) == rank for term, rank in zip(letters, ranks, strict=False))
    return letters if told and set(letters[-1]) <= set("".join(letters[:-1])) else None


def _product(node: ir.Node, data: int, letters: list[str], result: str, draft: Draft) -> Scale | None:
    names, tensor = letters[data], node.inputs[data]
    vectors = {letter for place, letter in enumerate(letters) if place != data and letter}
    if tensor is None or len(vectors) > 1 or any(len(each) != 1 or each not in names for each in vectors):
        return None
    values, axis = np.ones(1), names.index(vectors.pop()) if vectors else 1
    for place, value in enumerate(node.inputs):
        if place != data:
            array = draft.constants.array(value)
            if array.dtype.kind != "f" or array.ndim != len(letters[place]):
                return None
            values = values * array.reshape(-1)
    if len(values) not in (1, draft.shapes.size(tensor, axis)):
        return None
    if result != names:
        if len(values) == 1:
            return None
        raise Refuse(f"{label(node)} scales and transposes at once")
    return Scale(data, values, axis)
