"""Half precision and int8: conversion by graph edit, calibration, and the proof of accuracy."""

from __future__ import annotations

from normexport.precision.accuracy import Accuracy, Labelled, Limits, evaluate
from normexport.precision.collected import collect
from normexport.precision.half import Half
from normexport.precision.lower import lower
from normexport.precision.lowered import Int8, Judged, Lowered, Precision

__all__ = [
    "Accuracy",
    "Half",
    "Int8",
    "Judged",
    "Labelled",
    "Limits",
    "Lowered",
    "Precision",
    "collect",
    "evaluate",
    "lower",
]
