"""The three verdicts of every judgement: parity, precision and evaluate share them, their order and exit codes.

PASSED says that something was proven, so what proves nothing is INCONCLUSIVE: neither right nor wrong was shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from normexport.errors import ExitCode


class Verdict(Enum):
    """PASSED: proven to hold. FAILED: shown not to. INCONCLUSIVE: neither; the reasons say what was missing."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> ExitCode:
        """What the command line leaves with."""
        codes = {
            Verdict.PASSED: ExitCode.GOOD,
            Verdict.FAILED: ExitCode.FAILED,
            Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        }
        return codes[self]

    @property
    def word(self) -> str:
        """For people: "PASSED"."""
        return self.name


@dataclass(frozen=True)
class Judgement:
    """A verdict and, where it is not PASSED, why: each reason names what it is about, in plain words."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASSED

    def as_dict(self) -> dict[str, object]:
        """For JSON: `verdict`, `passed` and `reasons`."""
        return {"passed": self.passed, "verdict": self.verdict.value, "reasons": list(self.reasons)}


def passed() -> Judgement:
    """Proven."""
    return Judgement(Verdict.PASSED)


def failed(reason: str) -> Judgement:
    """Shown to be wrong."""
    return Judgement(Verdict.FAILED, (reason,))


def inconclusive(reason: str) -> Judgement:
    """Neither shown to be right nor to be wrong."""
    return Judgement(Verdict.INCONCLUSIVE, (reason,))


def together(judgements: Iterable[Judgement], nothing: str = "nothing was compared") -> Judgement:
    """The judgement of a whole from those of its parts: one that failed decides, else one that is inconclusive.

    The reasons are those of the parts that decide. A whole without parts is inconclusive, for the reason `nothing`.
    """
    parts = list(judgements)
    if not parts:
        return inconclusive(nothing)
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE):
        deciding = [part for part in parts if part.verdict is verdict]
        if deciding:
            return Judgement(verdict, tuple(dict.fromkeys(reason for part in deciding for reason in part.reasons)))
    return passed()
