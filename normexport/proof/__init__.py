"""Judge a candidate against a float64 reference, relative to PyTorch's own error: metrics, tolerance, check."""

from normexport.proof.check import check
from normexport.proof.inputs.batches import Batch, standard_batches
from normexport.proof.inputs.data import load_arrays, shapes_in
from normexport.proof.inputs.declared import declared_by_file, input_specs
from normexport.proof.inputs.ladder import Tried, choose_batches
from normexport.proof.judge import check_model, common_values, compare
from normexport.proof.metrics import Deviation, fault, measure
from normexport.proof.not_compared import NotCompared, not_compared
from normexport.proof.room import require_room
from normexport.proof.tolerance import FACTOR, FLOOR, Budget, budget
from normexport.proof.torch_candidate import check_torch
from normexport.proof.verdict import ParityReport, Row

__all__ = [
    "FACTOR",
    "FLOOR",
    "Batch",
    "Budget",
    "Deviation",
    "NotCompared",
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
    "not_compared",
    "require_room",
    "shapes_in",
    "standard_batches",
]
