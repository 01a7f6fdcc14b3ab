"""From a file to a checkpoint with one meaning: what it is, whose layout its norms have, what they compute."""

from normexport.checkpoint.dialects import DIALECTS, dialects
from normexport.checkpoint.inspect_state import inspect_state
from normexport.checkpoint.load import load, read_state
from normexport.checkpoint.records import Checkpoint, NormRecord, WeightNormRecord
from normexport.checkpoint.state import State
from normexport.checkpoint.weight_norm import LAYOUTS

__all__ = [
    "DIALECTS",
    "LAYOUTS",
    "Checkpoint",
    "NormRecord",
    "State",
    "WeightNormRecord",
    "dialects",
    "inspect_state",
    "load",
    "read_state",
]
