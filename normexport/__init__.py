"""normexport: from a checkpoint trained with L1, L-infinity, Top-k or Range norms to a folded, proven ONNX file.

    import normexport
    checkpoint = normexport.load("model.pt2")
    result = normexport.convert(checkpoint, "out", inputs=["3x28x28"])
    assert result.passed

Names are resolved on first use: importing the package loads neither torch nor onnx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normexport.errors import (
    CheckpointError,
    ExportError,
    FoldError,
    MissingComponent,
    NormExportError,
    ParityError,
    UsageError,
)

if TYPE_CHECKING:
    from normexport.folding import fold
    from normexport.onnx_export import InputSpec
    from normexport.pipeline import ConvertConfig, check, convert, export, inspect, load

__version__ = "0.2.0"
__all__ = [
    "CheckpointError",
    "ConvertConfig",
    "ExportError",
    "FoldError",
    "InputSpec",
    "MissingComponent",
    "NormExportError",
    "ParityError",
    "UsageError",
    "check",
    "convert",
    "export",
    "fold",
    "inspect",
    "load",
]


_HOMES = {"InputSpec": "normexport.onnx_export", "fold": "normexport.folding"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "normexport.pipeline")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
