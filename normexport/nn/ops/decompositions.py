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
from torch.autograd import forward_ad

from normexport._version import __version__
from normexport.nn.ops import live, live_formula, quantizer, running, weight

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def _running_norm(x: Tensor, mean: Tensor, inv_scale: Tensor, scale: Tensor, bias: Tensor, kind: str) -> Tensor:
    return running._formula(x, mean, inv_scale, scale, bias)


def _live_norm(*arguments: Any) -> live_formula.Three:
    fused = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    return (live_formula.fused_norm if fused else live_formula.norm)(*arguments)


_FORMULAS: dict[Any, Callable[..., Any]] = {
    torch.ops.normexport.running_norm.default: _running_norm,
    live.live_norm._opoverload: _live_norm,
    live.live_norm_backward._opoverload: live_formula.gradient,
    torch.ops.normexport.bounded_weight_norm.default: weight._formula,
    torch.ops.normexport.uniform_quantize.default: quantizer._formula,
    torch.ops.normexport.fake_quantize.default: quantizer._integer_formula,
}


def call(operator: CustomOpDef, *arguments: Any) -> Any:
    """What an operator gives; of what it is composed where only PyTorch's own operators serve.

    That is while TorchScript traces, so that the trace needs no library, and within torch.func's transforms and forward
    differentiation, where an operator with a gradient of its own has no tangent: it would be zero without a word.
    """
    if torch.compiler.is_compiling():
        if not torch.compiler.is_exporting():
            _tell_inductor_the_version()
    elif _is_tracing() or _is_transformed():
        return _FORMULAS[operator._opoverload](*arguments)
    return operator(*arguments)


def _tell_inductor_the_version() -> bool:
    """Make this library's version part of what inductor looks compiled code up by, on the disk.

    It takes an operator's name for all that it computes: after an update it would find code of the earlier formula.
    """
    import torch._inductor.config as config  # takes a second

    config.unsafe_marked_cacheable_functions["normexport"] = __version__
    return True


torch.compiler.assume_constant_result(_tell_inductor_the_version)  # so that dynamo calls it, where it traces a caller


def _is_tracing() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[no-untyped-call, attr-defined]  # torch says no types there


def _is_transformed() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def register_decompositions() -> None:
    """Say of each operator what it is composed of. Eager calls and gradients stay those of the operator."""
    for operator, formula in _FORMULAS.items():
        register_decomposition(operator)(formula)
        operator.py_impl(_COMPOSITE)(formula)
