"""Does a half-precision file compute what its reference computes? By the rule that its conversion is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from normexport.dtypes import HALVES
from normexport.errors import FoldError
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes
from normexport.onnx_export import InputSpec, Layer
from normexport.precision.config import Half
from normexport.precision.half.baseline import HalfParity
from normexport.precision.half.rounding import rounding_in_float32
from normexport.precision.half.search import Halved, halve
from normexport.proof import ParityReport, not_compared
from normexport.proof.doubts.random_numbers import random_nodes
from normexport.runtime import Array, OnnxRuntime, Opener

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


def check_half(
    source: nn.Module | ExportedProgram | None,
    model: ir.Model,
    candidate: ir.Model,
    dtype: str,
    inputs: Sequence[InputSpec],
    layers: Sequence[Layer] = (),
    *,
    data: Mapping[str, Array] | None = None,
    sizes: Sequence[int] | None = None,
    on: Opener = OnnxRuntime,
) -> ParityReport:
    """Judge a half-precision file, made by whomever.

    Args:
        source: the torch model that is right; None: `model` is.
        model: the float32 graph; the yardstick is it, rounded where the candidate stores a half type.
        candidate: the model that is judged.
        dtype: "float16" or "bfloat16".
        inputs, layers, data, sizes, on: as in `normexport.proof.check_model`.
    """
    rule = HalfParity(source, inputs, dtype, model, data, sizes, others=(candidate,))
    stored = halved_values(model, candidate, dtype)
    report = rule.report(Halved(candidate, (), (), stored, _stand_ins(model, dtype)), layers, on)
    # Rounded in float32, as the report computes it: of bfloat16 the CPU has few operators.
    unseen = not_compared(model, rounding_in_float32(candidate), rule.batches)
    unproven = (*report.unproven, *random_nodes(model), *random_nodes(candidate), *unseen.doubts)
    return replace(report, notes=(*report.notes, *unseen.notes), unproven=unproven)


def halved_values(model: ir.Model, candidate: ir.Model, dtype: str) -> frozenset[str]:
    """Names of the float32 graph's values that the candidate stores in the half type: all but those in float32."""
    types = Shapes(candidate)
    kept = {name for name, value in _values(candidate).items() if types.dtype(value) == ir.DataType.FLOAT}
    widened = {name for name, value in _values(candidate).items() if name in kept and _is_widened(value, types, dtype)}
    return frozenset(set(_values(model)) - (kept - widened))


def _values(model: ir.Model) -> dict[str, ir.Value]:
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [value for node in model.graph for value in node.outputs]
    return {str(value.name): value for value in values if value.name}


def _is_widened(value: ir.Value, types: Shapes, dtype: str) -> bool:
    """Whether a float32 value is no more than one of the half type, cast."""
    node = value.producer()
    source = node.inputs[0] if node is not None and op(node) == "Cast" else None
    return source is not None and types.dtype(source) == HALVES[dtype].ir


def _stand_ins(model: ir.Model, dtype: str) -> frozenset[str]:
    """Values that hold a mask's number beyond the half type, for which a file holds another."""
    try:
        return halve(model, Half(dtype)).stand_ins
    except FoldError:  # a graph that would not be converted here: nothing is known of its masks
        return frozenset()
