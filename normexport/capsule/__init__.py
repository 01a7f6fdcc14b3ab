"""A capsule: one file with inputs, float64 references and budgets, by which others judge a candidate elsewhere.

    from normexport import capsule
    report = capsule.prove("model.capsule.npz", "other.onnx")

`normexport convert --capsule` makes one. Reading one and judging by it takes neither torch nor the checkpoint. What
makes, reads and judges is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normexport.capsule.size import MOST_BYTES

if TYPE_CHECKING:
    from normexport.capsule.content import Capsule, Reference, Run, Signal, Within
    from normexport.capsule.making import Origin, make, make_by_signal
    from normexport.capsule.proving import judge, prove
    from normexport.capsule.reading import read
    from normexport.capsule.writing import write

__all__ = [
    "MOST_BYTES",
    "Capsule",
    "Origin",
    "Reference",
    "Run",
    "Signal",
    "Within",
    "judge",
    "make",
    "make_by_signal",
    "prove",
    "read",
    "write",
]

_HOMES = {
    "Capsule": "content",
    "Origin": "making",
    "Reference": "content",
    "Run": "content",
    "Signal": "content",
    "Within": "content",
    "judge": "proving",
    "make": "making",
    "make_by_signal": "making",
    "prove": "proving",
    "read": "reading",
    "write": "writing",
}


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
