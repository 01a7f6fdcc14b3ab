"""One small protocol, `Runtime`, over PyTorch, ONNX Runtime, OpenVINO, a float64 interpreter and TensorRT.

Torch is imported only when `TorchRuntime` is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normexport.errors import needing_torch
from normexport.runtime.base import Array, Feeds, Opener, Port, Runtime, Sink
from normexport.runtime.float64 import Float64Runtime
from normexport.runtime.memory import release_memory
from normexport.runtime.onnx_runtime import OnnxRuntime
from normexport.runtime.openvino_runtime import OpenVinoRuntime

if TYPE_CHECKING:
    from normexport.runtime.tensorrt_runtime import TensorRTRuntime
    from normexport.runtime.torch_runtime import TorchRuntime

__all__ = [
    "Array",
    "Feeds",
    "Float64Runtime",
    "OnnxRuntime",
    "OpenVinoRuntime",
    "Opener",
    "Port",
    "Runtime",
    "Sink",
    "TensorRTRuntime",
    "TorchRuntime",
    "release_memory",
]


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> Any:
        if name == "TorchRuntime":
            with needing_torch():
                from normexport.runtime.torch_runtime import TorchRuntime

            return TorchRuntime
        if name == "TensorRTRuntime":
            from normexport.runtime.tensorrt_runtime import TensorRTRuntime

            return TensorRTRuntime
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
