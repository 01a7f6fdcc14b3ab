"""What the inputs leave out of two graphs: branches not taken, limits and steps that no number reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from normexport.proof.doubts.branches import untaken_branches
from normexport.proof.exercised import doubts_of_one_side, note_on, unexercised
from normexport.proof.inputs.batches import Batch
from normexport.runtime import OnnxRuntime, Opener


@dataclass(frozen=True)
class NotCompared:
    """What two graphs ask of numbers that no input gave: to be told, and why nothing is proven of it."""

    notes: tuple[str, ...]
    doubts: tuple[str, ...]


def not_compared(
    first: ir.Model,
    second: ir.Model,
    batches: Sequence[Batch],
    on: Opener = OnnxRuntime,
    *,
    quantised: bool = False,
) -> NotCompared:
    """Branches, limits and steps of either graph that no input exercises.

    Args:
        on: what runs a graph with what measures it.
        quantised: the second is. Its quantisers take over limits of the first, and round to nothing, and to one number,
            what is little and varies little: neither is a doubt.
    """
    of_second = unexercised(second, batches, on)
    unreached = of_second if first is second else unexercised(first, batches, on), of_second
    one_sided = doubts_of_one_side(first, second, *unreached, quantised=quantised)
    return NotCompared(
        note_on([each for one in unreached for each in one]), (*untaken_branches(second, batches), *one_sided)
    )
