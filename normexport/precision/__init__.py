"""Half precision and int8: conversion by graph edit, calibration, and the proof of accuracy."""

from __future__ import annotations

from normexport.precision.accuracy import Accuracy, Labelled, Limits, evaluate
from normexport.precision.collected import collect
from normexport.precision.half.search import Half
from normexport.precision.reduce import reduce_precision
from normexport.precision.reduced import Int8, Judged, Precision, Reduced

__all__ = [
    "Accuracy",
    "Half",
    "Int8",
    "Judged",
    "Labelled",
    "Limits",
    "Precision",
    "Reduced",
    "collect",
    "evaluate",
    "reduce_precision",
]
