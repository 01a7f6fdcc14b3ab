"""ONNX -> TensorRT plan, on machines without a GPU too."""

from __future__ import annotations

from normexport.engine.build import build_engine, check_engine
from normexport.engine.config import PRECISIONS, EngineConfig
from normexport.engine.flavor import FLAVORS, Flavor, flavor
from normexport.engine.manifest import Manifest, check_plan, manifest_path, read_manifest
from normexport.engine.shapes import ShapeRange, parse_shapes

__all__ = [
    "FLAVORS",
    "PRECISIONS",
    "EngineConfig",
    "Flavor",
    "Manifest",
    "ShapeRange",
    "build_engine",
    "check_engine",
    "check_plan",
    "flavor",
    "manifest_path",
    "parse_shapes",
    "read_manifest",
]
