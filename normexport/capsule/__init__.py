"""A capsule: one file with inputs, float64 references and budgets, by which others judge a candidate elsewhere.

    from normexport import capsule
    report = capsule.prove("model.capsule.npz", "other.onnx")

`normexport convert --capsule` makes one. Reading one and judging by it takes neither torch nor the checkpoint.
"""

from normexport.capsule.content import Capsule, Reference, Run, Signal, Within
from normexport.capsule.making import MOST_BYTES, Origin, make, make_by_signal
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
