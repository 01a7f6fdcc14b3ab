"""ONNX -> TensorRT plan, on machines without a GPU too."""

from __future__ import annotations

from normexport.engine.build import build_engine, check_engine
from normexport.engine.child import Child
from normexport.engine.config import PRECISIONS, EngineConfig
from normexport.engine.flavor import FLAVORS, RTX, Flavor, flavor, is_installed
from normexport.engine.manifest import Manifest, check_plan, manifest_path, read_manifest
from normexport.engine.shapes import ShapeRange, parse_shapes

__all__ = [
    "FLAVORS",
    "PRECISIONS",
    "RTX",
    "Child",
    "EngineConfig",
    "Flavor",
    "Manifest",
    "ShapeRange",
    "build_engine",
    "check_engine",
    "check_plan",
    "flavor",
    "is_installed",
    "manifest_path",
    "parse_shapes",
    "read_manifest",
]
