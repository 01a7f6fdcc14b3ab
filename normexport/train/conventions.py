"""How the code behind each dialect trained on: its momentum, its constant, and what our norms do otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_RECIPROCALS = "its running average was one of reciprocals, and goes on as one of the statistic itself"
_QUANTISED = "fake quantisation of its input and parameters is left out"


@dataclass(frozen=True)
class Convention:
    """How a dialect's own layer trained.

    Attributes:
        momentum: the default of its constructor; None where the file's layer did not train.
        keeps: whether momentum is the share of the old value that is kept, not that of the new one.
        correction: of our norm, where the layer's constant is another than the kind's own.
        lost: what does not go on as it was, in words.
    """

    momentum: float | None = 0.1
    keeps: bool = False
    correction: float | None = None
    lost: tuple[str, ...] = ()

    def share(self, momentum: float | None) -> float | None:
        """PyTorch's momentum, the share of the new value, of the constructor's (None: its default)."""
        own = self.momentum if momentum is None else momentum
        return 1 - own if own is not None and self.keeps else own


_AUTHORS = Convention(keeps=True, lost=(_RECIPROCALS,))

#: By the name of the dialect; of "batchnorm" and "normexport" the model's own momentum says the same.
CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        "batchnorm": Convention(
            momentum=None, lost=("its running average was one of the variance, and goes on as one of sigma",)
        ),
        "normexport": Convention(momentum=None),
        "normexport-running": Convention(
            momentum=None, lost=("it was no layer that trains: momentum and epsilon are the model's",)
        ),
        "lp-norm": _AUTHORS,
        "ghost-topk": Convention(
            keeps=True,
            lost=(_RECIPROCALS, "meanTOPK, the average that its statistic was taken of: here it is each batch's own"),
        ),
        "convnet-ghost-topk": Convention(
            keeps=True,
            lost=(_RECIPROCALS, "meanTOPK, the average that its statistic was taken of: here it is each batch's own"),
        ),
        "mean-bn-l1": Convention(keeps=True, lost=("it was trained without an epsilon: build the model with eps=0",)),
        "convnet-lp": _AUTHORS,
        "own-divisor": Convention(),
        "range-quantized": Convention(keeps=True, lost=(_RECIPROCALS, _QUANTISED)),
        "range-convnet": Convention(keeps=True, lost=(_QUANTISED,)),
        "elektronn3": Convention(momentum=0.9, keeps=True, correction=math.sqrt(3.1416 / 2)),
        "running-mad": Convention(
            correction=1.0, lost=("its scale buffer is multiplied into the weight, which is learned",)
        ),
        "running-maxdev": Convention(
            correction=1.0, lost=("its scale buffer is multiplied into the weight, which is learned",)
        ),
    }
)
