"""The verb `build`: a TensorRT plan of an ONNX file."""

from __future__ import annotations

from normexport.engine.build_plan import build_engine as build

__all__ = ["build"]
