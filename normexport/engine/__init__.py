"""ONNX -> TensorRT plan, on machines without a GPU too.

What builds and what reads manifests is loaded on first use: whoever starts a `BuilderProcess` ahead need not wait.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normexport.dtypes import PRECISIONS
from normexport.engine.builder_process import BuilderProcess
from normexport.engine.config import EngineConfig
from normexport.engine.flavor import FLAVORS, RTX, Flavor, flavor, is_installed
from normexport.engine.shapes import ShapeRange, parse_shapes, ranges_of

if TYPE_CHECKING:
    from normexport.engine.build_plan import build_engine, check_engine
    from normexport.engine.manifest import Manifest, manifest_path, read_manifest, require_same_plan

__all__ = [
    "FLAVORS",
    "PRECISIONS",
    "RTX",
    "BuilderProcess",
    "EngineConfig",
    "Flavor",
    "Manifest",
    "ShapeRange",
    "build_engine",
    "check_engine",
    "flavor",
    "is_installed",
    "manifest_path",
    "parse_shapes",
    "ranges_of",
    "read_manifest",
    "require_same_plan",
]


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> Any:
        if name in __all__:
            home = "build_plan" if name in ("build_engine", "check_engine") else "manifest"
            return getattr(import_module(f"{__name__}.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
