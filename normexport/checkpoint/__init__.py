"""From a file to a checkpoint with one meaning: what it is, whose layout its norms have, what they compute.

What a checkpoint is can be asked without PyTorch; whatever reads one is loaded on first use, and needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normexport.checkpoint.dialects import DIALECTS, dialects
from normexport.checkpoint.part import Part
from normexport.checkpoint.records import Checkpoint, NormRecord, WeightNormRecord
from normexport.errors import needing_torch

if TYPE_CHECKING:
    from normexport.checkpoint.load_file import checkpoint_of, load, read_state
    from normexport.checkpoint.state import State
    from normexport.checkpoint.weight_norm import LAYOUTS

__all__ = [
    "DIALECTS",
    "LAYOUTS",
    "Checkpoint",
    "NormRecord",
    "Part",
    "State",
    "WeightNormRecord",
    "checkpoint_of",
    "dialects",
    "load",
    "read_state",
]

_WITH_TORCH = {
    "LAYOUTS": "weight_norm",
    "State": "state",
    "checkpoint_of": "load_file",
    "load": "load_file",
    "read_state": "load_file",
}


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> Any:
        if name in _WITH_TORCH:
            with needing_torch():
                return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
