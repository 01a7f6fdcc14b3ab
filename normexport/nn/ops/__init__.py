"""The torch custom operators; importing this package registers them under `torch.ops.normexport`.

Each has a fake (shapes, for `torch.compile` and `torch.export`) and a gradient. A gradient is the vector-Jacobian
product of the very formula the operator computes, so there is no second derivation to keep equal. Arithmetic is
float64 for float64 inputs and float32 for every other; results have the input's dtype. Exporters and compilers that do
not know the operators are told what they are composed of (`decompositions`).
"""

from normexport.nn.ops.decompositions import call, register_decompositions
from normexport.nn.ops.live import live_norm
from normexport.nn.ops.quantizer import fake_quantize, uniform_quantize
from normexport.nn.ops.running import running_norm
from normexport.nn.ops.weight import bounded_weight_norm, slice_norms

__all__ = [
    "bounded_weight_norm",
    "call",
    "fake_quantize",
    "live_norm",
    "running_norm",
    "slice_norms",
    "uniform_quantize",
]

register_decompositions()
