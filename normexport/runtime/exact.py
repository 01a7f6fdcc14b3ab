"""What is right: a torch model or an ONNX model, computed in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

import onnx_ir as ir

from normexport.onnx_export import InputSpec, Layer
from normexport.runtime.base import Runtime
from normexport.runtime.float64 import Float64Runtime

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

#: What results are held to: a module, an exported program, or an ONNX model, which needs no torch.
Reference: TypeAlias = Union["nn.Module", "ExportedProgram", ir.Model]


def exact_runtime(
    reference: Reference, inputs: Sequence[InputSpec], outputs: Sequence[str], layers: Sequence[Layer] = ()
) -> Runtime:
    """The reference in float64.

    Args:
        inputs: what a torch model reads; an ONNX model knows its own.
        outputs: names for what a torch model returns.
        layers: module boundaries that a torch model can give; an ONNX model gives any value by its name.

    Raises:
        FoldError: no float64 meaning is known for an operator of an ONNX model.
    """
    if isinstance(reference, ir.Model):
        return Float64Runtime(reference)
    from normexport.runtime.torch_runtime import TorchRuntime

    return TorchRuntime(reference, inputs, outputs, "float64", layers)
