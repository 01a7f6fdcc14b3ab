"""An Einsum of a tensor and vectors of constants, "nchw,c->nchw", is a Mul along the axis that the vectors share.

Refuses: one that also lays the axes out anew ("nchw,c->nhwc").
"""

from __future__ import annotations

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
    terms, arrow, result = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    letters = terms.split(",")
    if tensor is None or rank is None or not arrow or len(letters) != len(node.inputs) or terms.upper() == terms:
        return None
    if letters[data].count("...") == 1 and result.count("...") == 1:
        spread = _AXES[: rank + 3 - len(letters[data])]
        letters[data], result = (each.replace("...", spread) for each in (letters[data], result))
    names = letters[data]
    if not names.isalpha() or len(set(names)) != len(names) or set(result) != set(names) or len(result) != len(names):
        return None
    return _product(node, data, letters, result, draft)


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
