"""Whether calibration data is like that of training: its statistics against those of the network's first norms.

Images in [0, 1] for a network that was trained on standardised ones calibrate and judge alike, and no SNR tells. The
first norms do: at what they read, or made, mean and deviation of each channel should be as they were.

Told only where it is clear, for the median channel: deviations off by a factor of more than 2 (3 where the statistic is
of extremes: of the 21 examples on their own data the furthest is at 2.2), or means by more than 2 deviations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.graphs.moments import Moments, Vector
from normexport.norms import KINDS
from normexport.precision.int8.from_norms import known_moments
from normexport.runtime import Array
from normexport.text import one_line

_FACTOR, _FACTOR_OF_EXTREMES, _SHIFT = 2.0, 3.0, 2.0


@dataclass
class _Sums:
    """Of each channel: sum and sum of squares of deviations from the norm's mean; and of how many numbers."""

    total: Vector
    squares: Vector
    count: int = 0


@dataclass(frozen=True)
class Comparison:
    """The first tensors that a norm knows, and what was seen of them."""

    known: Mapping[str, Moments]
    _sums: dict[str, _Sums] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ir.Model) -> Comparison:
        """For a model; of one whose metadata is damaged nothing is known."""
        try:
            known = known_moments(model)
        except UsageError:
            return cls({})
        behind = {value for value in model.graph.inputs if value.name in known}
        first = [str(value.name) for value in behind]
        for node in model.graph:
            follows = any(value in behind for value in node.inputs if value is not None)
            first += [str(value.name) for value in node.outputs if value.name in known and not follows]
            behind.update(value for value in node.outputs if follows or value.name in known)
        return cls({name: known[name] for name in first})

    def look(self, name: str, array: Array) -> None:
        """Take in an array of a tensor; of other tensors, and of another number of channels, nothing."""
        moments = self.known.get(name)
        if moments is None or array.ndim <= moments.axis or array.shape[moments.axis] != len(moments.mean):
            return
        rows = np.moveaxis(array, moments.axis, 0).reshape(len(moments.mean), -1) - moments.mean[:, None]
        sums = self._sums.setdefault(name, _Sums(np.zeros(len(rows)), np.zeros(len(rows))))
        sums.total += rows.sum(axis=1)
        sums.squares += np.square(rows).sum(axis=1)
        sums.count += rows.shape[1]

    def notes(self) -> list[str]:
        """A sentence about the first tensor that contradicts its norm; none where all agree."""
        told = (_contradiction(moments, self._sums[name]) for name, moments in self.known.items() if name in self._sums)
        return [words for words in told if words][:1]


def _contradiction(moments: Moments, sums: _Sums) -> str:
    live = moments.std > 0
    if not live.any() or not sums.count:
        return ""
    shift = sums.total / sums.count
    std = np.sqrt(np.maximum(sums.squares / sums.count - shift**2, 0.0))
    ratio = float(np.median(std[live] / moments.std[live]))
    away = float(np.median(np.abs(shift[live]) / moments.std[live]))
    kind = KINDS.get(moments.kind)
    most = _FACTOR if kind is None or np.isinf(kind.extreme) else _FACTOR_OF_EXTREMES
    found = []
    if not 1 / most <= ratio <= most:
        found.append(f"vary by {ratio:.3g} of what the norm was trained on")
    if away > _SHIFT:
        found.append(f"lie {away:.3g} deviations from its mean")
    if not found:
        return ""
    return (
        f"the calibration data at {one_line(moments.norm)}: numbers {' and '.join(found)}; "
        "are samples scaled (mean, standard deviation, 0 to 1 or 0 to 255) as in training?"
    )
