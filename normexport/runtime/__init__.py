"""One small protocol, `Runtime`, over PyTorch, ONNX Runtime and onnx.reference.

Torch is imported only when `TorchRuntime` is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normexport.runtime.base import Array, Feeds, Port, Runtime, Sink
from normexport.runtime.memory import release_memory
from normexport.runtime.onnx_runtime import OnnxRuntime
from normexport.runtime.reference_runtime import ReferenceRuntime

if TYPE_CHECKING:
    from normexport.runtime.torch_runtime import TorchRuntime

__all__ = [
    "Array",
    "Feeds",
    "OnnxRuntime",
    "Port",
    "ReferenceRuntime",
    "Runtime",
    "Sink",
    "TorchRuntime",
    "release_memory",
]


def __getattr__(name: str) -> Any:
    if name == "TorchRuntime":
        from normexport.runtime.torch_runtime import TorchRuntime

        return TorchRuntime
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
