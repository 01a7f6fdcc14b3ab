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

from normexport._version import __version__
from normexport.errors import (
    CheckpointError,
    EngineError,
    ExitCode,
    ExportError,
    FoldError,
    MissingComponent,
    NormExportError,
    UsageError,
    needing_torch,
)
from normexport.verdicts import Judgement, Verdict

if TYPE_CHECKING:
    from normexport.checkpoint import Checkpoint
    from normexport.checkpoint.load_file import load
    from normexport.engine import EngineConfig, Manifest, ShapeRange
    from normexport.onnx_export import Exported, InputSpec
    from normexport.precision import Accuracy, Half, Int8, Limits
    from normexport.precision.snr_parity import SnrReport
    from normexport.proof import ParityReport
    from normexport.reports import Conversion, Folding, Inspection
    from normexport.runtime.tensorrt_runtime import Plan
    from normexport.verbs.build import build
    from normexport.verbs.config import ConvertConfig
    from normexport.verbs.convert import convert
    from normexport.verbs.evaluate import evaluate
    from normexport.verbs.export import export
    from normexport.verbs.fold import fold
    from normexport.verbs.inspect import inspect
    from normexport.verbs.parity import check, parity
    from normexport.verbs.prove import prove
    from normexport.verbs.run import run

#: Where each name that needs torch or onnx is defined.
_HOMES = {
    "Accuracy": "precision",
    "Checkpoint": "checkpoint",
    "Conversion": "reports",
    "ConvertConfig": "verbs.config",
    "EngineConfig": "engine",
    "Exported": "onnx_export",
    "Folding": "reports",
    "Half": "precision",
    "InputSpec": "onnx_export",
    "Inspection": "reports",
    "Int8": "precision",
    "Limits": "precision",
    "Manifest": "engine",
    "ParityReport": "proof",
    "Plan": "runtime.tensorrt_runtime",
    "ShapeRange": "engine",
    "SnrReport": "precision.snr_parity",
    "build": "verbs.build",
    "check": "verbs.parity",
    "convert": "verbs.convert",
    "evaluate": "verbs.evaluate",
    "export": "verbs.export",
    "fold": "verbs.fold",
    "inspect": "verbs.inspect",
    "load": "checkpoint",
    "parity": "verbs.parity",
    "prove": "verbs.prove",
    "run": "verbs.run",
}

__all__ = [
    "Accuracy",
    "Checkpoint",
    "CheckpointError",
    "Conversion",
    "ConvertConfig",
    "EngineConfig",
    "EngineError",
    "ExitCode",
    "ExportError",
    "Exported",
    "FoldError",
    "Folding",
    "Half",
    "InputSpec",
    "Inspection",
    "Int8",
    "Judgement",
    "Limits",
    "Manifest",
    "MissingComponent",
    "NormExportError",
    "ParityReport",
    "Plan",
    "ShapeRange",
    "SnrReport",
    "UsageError",
    "Verdict",
    "__version__",
    "build",
    "check",
    "convert",
    "evaluate",
    "export",
    "fold",
    "inspect",
    "load",
    "parity",
    "prove",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        with needing_torch():
            return getattr(import_module(f"normexport.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
