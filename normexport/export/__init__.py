"""torch -> ONNX: names and module paths kept, norms as nodes of domain `normexport` with portable bodies."""

from normexport.export.bodies import attach_bodies
from normexport.export.exported import Exported, export
from normexport.export.inputs import InputSpec, inputs_of_program, parse_inputs
from normexport.export.layers import Layer, layers_of, module_path, present

__all__ = [
    "Exported",
    "InputSpec",
    "Layer",
    "attach_bodies",
    "export",
    "inputs_of_program",
    "layers_of",
    "module_path",
    "parse_inputs",
    "present",
]
