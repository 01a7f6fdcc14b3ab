"""torch -> ONNX: names and module paths kept, norms as nodes of domain `normexport` with portable bodies.

Torch is imported only when something that exports is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normexport.errors import needing_torch
from normexport.norms.bodies import attach_bodies
from normexport.onnx_export.input_texts import parse_inputs
from normexport.onnx_export.inputs import DTYPES, BatchRange, InputSpec, OpenAxis, smallest_batch
from normexport.onnx_export.layers import Layer, layers_of, present
from normexport.onnx_export.open_sizes import Declared, Open, close_sizes, left_open, narrow, symbol_for
from normexport.onnx_export.program_inputs import declared_by_program, inputs_of_program
from normexport.onnx_export.sidecar import read_sidecar, sidecar_path, sidecar_text

if TYPE_CHECKING:
    from normexport.onnx_export.binding import bound, named_by
    from normexport.onnx_export.exported import Exported, export, inputs_to_export
    from normexport.onnx_export.foreseen import modules_foreseen, outputs_foreseen

__all__ = [
    "DTYPES",
    "BatchRange",
    "Declared",
    "Exported",
    "InputSpec",
    "Layer",
    "Open",
    "OpenAxis",
    "attach_bodies",
    "bound",
    "close_sizes",
    "declared_by_program",
    "export",
    "inputs_of_program",
    "inputs_to_export",
    "layers_of",
    "left_open",
    "modules_foreseen",
    "named_by",
    "narrow",
    "outputs_foreseen",
    "parse_inputs",
    "present",
    "read_sidecar",
    "sidecar_path",
    "sidecar_text",
    "smallest_batch",
    "symbol_for",
]

_WITH_TORCH = {
    "Exported": "exported",
    "bound": "binding",
    "export": "exported",
    "inputs_to_export": "exported",
    "modules_foreseen": "foreseen",
    "named_by": "binding",
    "outputs_foreseen": "foreseen",
}


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> Any:
        if name in _WITH_TORCH:
            with needing_torch():
                return getattr(import_module(f"normexport.onnx_export.{_WITH_TORCH[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
