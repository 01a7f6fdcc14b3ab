"""Half precision, int8 and fp8: conversion by graph edit, calibration, and the proof of accuracy.

What converts and measures is loaded on first use: `Half`, `Int8`, `Fp8` and `Limits`, which only say what to do, are
light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normexport.precision.config import METHODS, Draw, EightBit, Fp8, Half, Int8, Limits, require_samples

if TYPE_CHECKING:
    from normexport.precision.accuracy import Accuracy, measure_accuracy
    from normexport.precision.collected import collect
    from normexport.precision.labels import Labelled
    from normexport.precision.reduce import check_asked, is_as_trained, prepared, reduce_precision
    from normexport.precision.reduced import Judged, Precision, Reduced

__all__ = [
    "METHODS",
    "Accuracy",
    "Draw",
    "EightBit",
    "Fp8",
    "Half",
    "Int8",
    "Judged",
    "Labelled",
    "Limits",
    "Precision",
    "Reduced",
    "check_asked",
    "collect",
    "is_as_trained",
    "measure_accuracy",
    "prepared",
    "reduce_precision",
    "require_samples",
]

_HOMES = {
    "Accuracy": "accuracy",
    "Judged": "reduced",
    "Labelled": "labels",
    "Precision": "reduced",
    "Reduced": "reduced",
    "check_asked": "reduce",
    "collect": "collected",
    "is_as_trained": "reduce",
    "measure_accuracy": "accuracy",
    "prepared": "reduce",
    "reduce_precision": "reduce",
}


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
