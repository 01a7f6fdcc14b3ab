"""What a search for a fault gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from normexport.narrowing.evidence import Evidence
from normexport.verdicts import Judgement


@dataclass(frozen=True)
class Fault:
    """The part of a candidate that leaves its budget.

    Attributes:
        output: the value that it computes, by its name in the candidate.
        inputs: names of the values that it reads there.
        nodes: its nodes: "Conv 'conv1'", constants left out.
        operators: their operators.
        words: how far it is off.
        times: of its budget; infinite where that is no number.
        whose: "graph" where the candidate's graph computes something else, "runtime" where it is right in float64.
        shapes: of each input that it is fed.
        shown: what the script said in a process of its own; None where it did not show the fault there.
        evidence: what is written.
    """

    output: str
    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    words: str
    times: float
    whose: str
    shapes: tuple[tuple[int, ...], ...]
    shown: str | None
    evidence: Evidence = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinities are left to the writer."""
        return {name: value for name, value in vars(self).items() if name != "evidence"}


@dataclass(frozen=True)
class Bisection:
    """What was searched and found.

    Attributes:
        judgement: FAILED with a fault; else what parity says of the whole.
        fault: None where nothing differs, or no part of the candidate could be told to be the cause.
        inputs: the name of the inputs that it was found on.
        files: what was written: the model, its inputs, the script.
        notes: what the reader should know, in words.
        no_files: why the files are not there; empty where they are, or none were asked for.
    """

    judgement: Judgement
    fault: Fault | None
    inputs: str = ""
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    no_files: str = ""

    @property
    def passed(self) -> bool:
        return self.judgement.passed

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.judgement.as_dict(),
            "fault": None if self.fault is None else self.fault.as_dict(),
            "inputs": self.inputs,
            "files": list(self.files),
            "notes": list(self.notes),
            "no_files": self.no_files,
        }
