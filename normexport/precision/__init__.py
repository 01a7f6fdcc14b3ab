"""Half precision and int8: conversion by graph edit, calibration, and the proof of accuracy."""

from __future__ import annotations

from normexport.precision.accuracy import Accuracy, evaluate
from normexport.precision.half import Half
from normexport.precision.lower import Int8, Judged, Lowered, Precision, lower

__all__ = ["Accuracy", "Half", "Int8", "Judged", "Lowered", "Precision", "evaluate", "lower"]
