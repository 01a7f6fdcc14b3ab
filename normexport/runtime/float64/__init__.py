"""A float64 interpreter of ONNX graphs: the reference that everything else is judged against.

`Float64Runtime` turns a model into `Program`s (`program.py`), each node bound to the function that computes it
(`registry.py`, `operators/`). What a node's name means is decided in `resolve.py`.
"""

from normexport.runtime.float64.runtime import Float64Runtime

__all__ = ["Float64Runtime"]
