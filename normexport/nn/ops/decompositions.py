"""The torch operators in PyTorch's own: for exporters and compilers that do not know them.

Registered on import of `normexport.nn`, where PyTorch's exporters look: `run_decompositions()` takes operators that say
how they are composed, `torch.onnx.export` the table of decompositions. `torch.export.export` itself keeps them, and
so does the export of this library, which has nodes of its own for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import register_decomposition
from torch._library.custom_ops import CustomOpDef

from normexport.nn.ops import live, quantizer, running, weight

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def _running_norm(x: Tensor, mean: Tensor, inv_scale: Tensor, scale: Tensor, bias: Tensor, kind: str) -> Tensor:
    return running._formula(x, mean, inv_scale, scale, bias)


_FORMULAS: dict[Any, Callable[..., Any]] = {
    torch.ops.normexport.running_norm.default: _running_norm,
    torch.ops.normexport.live_norm.default: live._formula,
    torch.ops.normexport.bounded_weight_norm.default: weight._formula,
    torch.ops.normexport.uniform_quantize.default: quantizer._formula,
    torch.ops.normexport.fake_quantize.default: quantizer._integer_formula,
}


def call(operator: CustomOpDef, *arguments: Any) -> Any:
    """What an operator gives; while TorchScript traces, what it is composed of, so that the trace needs no library."""
    if not torch.compiler.is_compiling() and torch.jit.is_tracing():  # type: ignore[no-untyped-call, attr-defined]
        return _FORMULAS[operator._opoverload](*arguments)
    return operator(*arguments)


def register_decompositions() -> None:
    """Say of each operator what it is composed of. Eager calls and gradients stay those of the operator."""
    for operator, formula in _FORMULAS.items():
        register_decomposition(operator)(formula)
        operator.py_impl(_COMPOSITE)(formula)
