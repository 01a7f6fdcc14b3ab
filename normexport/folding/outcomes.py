"""What a fold has to tell: one outcome per norm, and the warnings."""

from __future__ import annotations

from collections.abc import Iterable

from normexport.folding.per_channel import PerChannel
from normexport.folding.result import Fate, FoldWarning, NormOutcome
from normexport.folding.runs import OriginalNorm
from normexport.text import bracketed


class Log:
    """Outcomes and warnings by norm; a later outcome of the same norm replaces the earlier one."""

    def __init__(self) -> None:
        self._outcomes: dict[OriginalNorm, NormOutcome] = {}
        self._warnings: dict[tuple[str, OriginalNorm, tuple[int, ...]], FoldWarning] = {}

    def __contains__(self, norm: OriginalNorm) -> bool:
        return norm in self._outcomes

    def decide(self, norm: OriginalNorm, fate: Fate, rule: str, reason: str, into: tuple[str, ...] = ()) -> None:
        """Set a norm's outcome."""
        self._outcomes[norm] = NormOutcome(norm.node, norm.path, norm.kind, fate, rule, into, reason)

    def warn(self, code: str, norm: OriginalNorm, message: str, channels: Iterable[int]) -> None:
        """Add a warning about a norm; of several with one code and the same channels, the first stays.

        Of a norm that overflows wherever it is tried ("overflow"), the first place is enough.
        """
        found = tuple(channels)
        key = (code, norm, () if code == "overflow" else found)
        self._warnings.setdefault(key, FoldWarning(code, norm.node, norm.path, message, found))

    def warn_of_map(self, norm: OriginalNorm, map: PerChannel) -> None:
        """Warn of channels that ignore their input or hold no number."""
        if broken := map.broken():
            text = (
                f"scale or shift is infinite or not a number in channels {bracketed(broken)} (a running scale of zero?)"
            )
            self.warn("not_finite", norm, text, broken)
        if dead := map.dead():
            text = f"channels {bracketed(dead)} ignore their input (scale 0): their output is a constant"
            self.warn("dead_channel", norm, text, dead)

    def outcomes(self) -> tuple[NormOutcome, ...]:
        """All outcomes, in the order in which the norms were met."""
        return tuple(self._outcomes.values())

    def warnings(self) -> tuple[FoldWarning, ...]:
        """All warnings, in order."""
        return tuple(self._warnings.values())
