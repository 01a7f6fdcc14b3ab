"""The torch custom operators; importing this package registers them under `torch.ops.normexport`.

Each has a fake (shapes, for `torch.compile` and `torch.export`) and a gradient: that of live norms is a closed form
(`live_formula`), which tests compare with automatic differentiation and finite differences, every other the
vector-Jacobian product of the formula. Arithmetic is float64 for float64 inputs and float32 for every other; results
have the input's dtype. Exporters and compilers are told what the operators are composed of (`decompositions`):
`torch.compile` fuses that, forward and backward.
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
