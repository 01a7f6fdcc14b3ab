"""Judge a candidate against a float64 reference, relative to PyTorch's own error: metrics, tolerance, check."""

from normexport.parity.check import check
from normexport.parity.inputs import Batch, integer_highs, load_arrays, standard_batches
from normexport.parity.judge import check_model, common_values, compare, input_specs
from normexport.parity.metrics import Errors, fault, measure
from normexport.parity.room import require_room
from normexport.parity.tolerance import FACTOR, FLOOR, Budget, budget
from normexport.parity.torch_candidate import check_torch
from normexport.parity.verdict import ParityReport, Row

__all__ = [
    "FACTOR",
    "FLOOR",
    "Batch",
    "Budget",
    "Errors",
    "ParityReport",
    "Row",
    "budget",
    "check",
    "check_model",
    "check_torch",
    "common_values",
    "compare",
    "fault",
    "input_specs",
    "integer_highs",
    "load_arrays",
    "measure",
    "require_room",
    "standard_batches",
]
