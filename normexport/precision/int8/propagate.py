"""From what the norms know to how every tensor of a network is spread: one walk along the graph.

Where a norm has said mean and std of a tensor (`graphs.moments`), that is what it is; elsewhere its spread follows from
what it is made of (`spread_rules`). Not known, so that data would be needed: what no rule covers, such as products of
two activations (attention), and what follows from these up to the next norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from normexport.graphs.moments import Moments
from normexport.graphs.nodes import op
from normexport.graphs.refusal import Refuse
from normexport.precision.int8.spread_rules import BOUNDED, MOVES, OPERATORS, Known
from normexport.precision.int8.spreads import NODES, Spread, spread_at

Origin = Literal["norm", "propagated", "bound"]


@dataclass(frozen=True, eq=False)
class Tensor:
    """How a tensor is spread, and where that comes from.

    Attributes:
        origin: "norm": a norm said so. "propagated": it follows from what the tensor is made of. "bound": the tensor
            holds nothing beyond the ends of the spread, whose inside says little.
    """

    spread: Spread
    origin: Origin


def propagate(model: ir.Model, known: Mapping[str, Moments], inputs: Mapping[str, Spread]) -> dict[str, Tensor]:
    """Every tensor of the main graph whose spread is known, by name.

    Args:
        known: what norms say, by value name.
        inputs: what is known of the graph's inputs, which lie within the ends of these spreads.
    """
    so_far, found = Known(model), dict[ir.Value, Tensor]()

    def learn(value: ir.Value, tensor: Tensor) -> None:
        if np.isfinite(tensor.spread.points).all():
            found[value], so_far.spreads[value] = tensor, tensor.spread

    for value in model.graph.inputs:
        if (given := inputs.get(value.name or "")) is not None:
            learn(value, Tensor(given, "bound"))
    for node in model.graph:
        for index, value in enumerate(node.outputs):
            moments = known.get(value.name or "")
            if moments is not None:
                learn(value, Tensor(spread_at(moments), "norm"))
            elif op(node) in BOUNDED and index < BOUNDED[op(node)].outputs:
                low, high = BOUNDED[op(node)].ends
                learn(value, Tensor(Spread(np.linspace(low, high, len(NODES))[None]), "bound"))
            elif index == 0 and op(node) in OPERATORS:
                try:
                    with np.errstate(all="ignore"):
                        spread = OPERATORS[op(node)](so_far, node)
                except (Refuse, ValueError, IndexError):
                    continue
                source = node.inputs[0]
                bound = op(node) in MOVES and source in found and found[source].origin == "bound"
                learn(value, Tensor(spread, "bound" if bound else "propagated"))
    return {value.name: tensor for value, tensor in found.items() if value.name}
