"""Judge a candidate against a float64 reference, relative to PyTorch's own error: metrics, tolerance, check."""

from normexport.parity.check import check
from normexport.parity.file_inputs import declared_by_file, input_specs
from normexport.parity.inputs import Batch, load_arrays, shapes_in, standard_batches
from normexport.parity.judge import check_model, common_values, compare
from normexport.parity.ladder import Tried, choose_batches
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
    "Tried",
    "budget",
    "check",
    "check_model",
    "check_torch",
    "choose_batches",
    "common_values",
    "compare",
    "declared_by_file",
    "fault",
    "input_specs",
    "load_arrays",
    "measure",
    "require_room",
    "shapes_in",
    "standard_batches",
]
