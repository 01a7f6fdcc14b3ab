"""What it costs that layers of ours stand for a network's own quantising ones: both are run, in float64.

Each layer was compared with the one that it replaces, but not the whole: an observer that rounds its input in place
changes what other layers read, and fake quantisation that is left out on request changes everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from normexport.checkpoint import Checkpoint
from normexport.checkpoint.load_file import settle_quantisation
from normexport.checkpoint.loose import copy_of_model
from normexport.checkpoint.without_noise import WithoutNoise
from normexport.onnx_export import InputSpec
from normexport.onnx_export.calls import Call, call_of, outputs_of
from normexport.proof.inputs.batches import standard_batches
from normexport.runtime import Array

#: Both sides are float64, on the same grids: what differs by more, of the largest number, is another network.
_ROUNDING = 1e-7
#: Samples of each of the random batches.
_SAMPLES = 32


@dataclass
class _Cost:
    """The largest error of an output, its largest number, and how many of its decisions are others."""

    error: float = 0.0
    size: float = 0.0
    flips: int = 0
    decisions: int = 0

    def add(self, own: Tensor, ours: Tensor) -> None:
        if own.shape != ours.shape:
            self.error, self.size = float("inf"), 1.0
            return
        if own.numel() == 0:
            return
        error = (own.double() - ours.double()).abs().max()
        self.error = max(self.error, float(error) if torch.isfinite(error) else float("inf"))
        self.size = max(self.size, float(own.double().abs().max()))
        if own.dim() == 2 and own.shape[1] > 1 and own.is_floating_point():
            self.flips += int((own.argmax(1) != ours.argmax(1)).sum())
            self.decisions += own.shape[0]

    @property
    def share(self) -> float:
        return self.error / self.size if self.size > 0 else self.error

    @property
    def words(self) -> str:
        decisions = f", and {self.flips} of {self.decisions} decisions are others" if self.decisions else ""
        return f"{self.share:.1e} of its largest number off{decisions}"


def substitution_doubts(
    checkpoint: Checkpoint, inputs: Sequence[InputSpec], data: Mapping[str, Array] | None = None
) -> tuple[str, ...]:
    """In words, what the network computes otherwise than with its own code, noise off; empty where that is nothing.

    Args:
        checkpoint: as it was loaded; only where it has an `original` there is anything to ask.
        inputs: what the network reads.
        data: real inputs, run too where given.
    """
    original = checkpoint.original
    if original is None:
        return ()
    what = "without its fake quantisation" if checkpoint.unquantised else "with layers of ours for its quantising ones"
    costs: dict[int, _Cost] = {}
    try:
        own = copy_of_model(original).double().eval()
        ours = settle_quantisation(copy_of_model(own), checkpoint.unquantised)
        call = call_of(original, inputs)
        for batch in standard_batches(inputs, data, sizes=(_SAMPLES, _SAMPLES)):
            feeds = [torch.tensor(batch.feeds[spec.name]) for spec in inputs]
            for index, pair in enumerate(zip(_outputs(own, call, feeds), _outputs(ours, call, feeds), strict=True)):
                costs.setdefault(index, _Cost()).add(*pair)
    except Exception as error:  # the network's own code can raise anything
        return (f"{what} it could not be compared with its own code ({type(error).__name__})",)
    wrong = [(index, cost) for index, cost in costs.items() if cost.share > _ROUNDING]
    return tuple(f"{what} output {index} is {cost.words}" for index, cost in wrong)


def _outputs(model: nn.Module, call: Call, feeds: Sequence[Tensor]) -> list[Tensor]:
    sides = [feed.double().clone() if feed.is_floating_point() else feed.clone() for feed in feeds]
    with torch.no_grad(), WithoutNoise():
        arguments, named = call.arguments(sides)
        return [leaf for leaf in outputs_of(model(*arguments, **named)) if isinstance(leaf, Tensor)]
