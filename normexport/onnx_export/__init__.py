"""torch -> ONNX: names and module paths kept, norms as nodes of domain `normexport` with portable bodies."""

from normexport.onnx_export.binding import bound
from normexport.onnx_export.bodies import attach_bodies
from normexport.onnx_export.exported import Exported, export
from normexport.onnx_export.inputs import InputSpec, inputs_of_program, parse_inputs
from normexport.onnx_export.layers import Layer, layers_of, present
from normexport.onnx_export.sidecar import read_sidecar, sidecar_path, sidecar_text

__all__ = [
    "Exported",
    "InputSpec",
    "Layer",
    "attach_bodies",
    "bound",
    "export",
    "inputs_of_program",
    "layers_of",
    "parse_inputs",
    "present",
    "read_sidecar",
    "sidecar_path",
    "sidecar_text",
]
