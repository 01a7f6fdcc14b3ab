"""ONNX rewrites: `fold(model)` removes norms by exact algebra, one rule per file, with a reason for every refusal."""

from __future__ import annotations

from normexport.folding.fold import fold
from normexport.folding.result import FoldConfig, FoldResult, FoldWarning, NormOutcome

__all__ = ["FoldConfig", "FoldResult", "FoldWarning", "NormOutcome", "fold"]
