"""Half precision and int8: conversion by graph edit, calibration, and the proof of accuracy."""

from __future__ import annotations
