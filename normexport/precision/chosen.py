"""A runtime whose chosen indices (ArgMax, ArgMin, TopK) are given as the scores behind them.

Which of two classes wins where they are nearly equal is no error of a candidate; by how much the scores are off is one.
An index that is not of the best of the runtime's own scores makes them NaN, which no rule passes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from normexport.precision.decisions import Choice, are_best, decisions
from normexport.runtime import Array, Feeds, Runtime, Sink
from normexport.runtime.around import Around


def choices_of(model: ir.Model, like: Mapping[str, Choice] | None = None) -> dict[str, Choice]:
    """The outputs of a graph that one node chose by floating-point scores; with `like`, those chosen as there."""
    found = {name: each.choice for name, each in decisions(model).items() if each.choice is not None}
    if like is None:
        return found
    return {name: choice for name, choice in found.items() if name in like and choice.largest == like[name].largest}


class AsScores(Around):
    """A runtime of a graph with these choices; all else is as the inner runtime's."""

    def __init__(self, inner: Runtime, choices: Mapping[str, Choice]) -> None:
        super().__init__(inner)
        self._choices = choices

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """As the inner runtime's, with scores in place of indices."""
        asked = set(capture)
        needed = {name for each in self._choices.values() for name in (each.scores, each.indices)}
        inner = needed - set(self.output_names) - set(self.input_names)
        kept: dict[str, Array] = {}

        def take(name: str, value: Array) -> None:
            if name in needed:
                kept[name] = value.copy()
            if name in asked and sink is not None:
                sink(name, value)

        values = self.inner.run(feeds, [*capture, *sorted(inner - asked)], take if sink is not None else None)
        self.dropped = {name: why for name, why in self.inner.dropped.items() if name in asked}
        known = {**{name: np.asarray(array) for name, array in feeds.items()}, **values, **kept}
        scores = {name: _scores(choice, known) for name, choice in self._choices.items()}
        wanted = {name: value for name, value in values.items() if name in self.output_names or name in asked}
        return {**wanted, **scores}


def _scores(choice: Choice, values: Mapping[str, Array]) -> Array:
    """The scores; NaN throughout where the indices are not those of the best."""
    scores = values[choice.scores]
    return scores if are_best(choice, scores, values[choice.indices]) else np.full_like(scores, np.nan)
