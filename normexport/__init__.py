"""normexport: from a checkpoint trained with L1, L-infinity, Top-k or Range norms to a folded, proven ONNX file.

    import normexport
    checkpoint = normexport.load("model.pt2")
    result = normexport.convert(checkpoint, "out", inputs=["3x28x28"])
    assert result.passed

Names are resolved on first use: importing the package loads neither torch nor onnx.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # no stubs
import sys

if getattr(sys, "argv", [])[:1] == ["-m"] and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # `python -m normexport` imports this first: no traceback by Ctrl-C

from importlib import import_module
from typing import TYPE_CHECKING, Any

from normexport._version import __version__
from normexport.errors import (
    CheckpointError,
    EngineError,
    ExitCode,
    ExportError,
    FoldError,
    MissingComponent,
    NormExportError,
    UsageError,
    needing_torch,
)

if TYPE_CHECKING:
    from normexport.capsule import Capsule
    from normexport.checkpoint import Checkpoint, NormRecord, Part, WeightNormRecord
    from normexport.checkpoint.load_file import load
    from normexport.engine import BuilderProcess, EngineConfig, Flavor, Manifest, ShapeRange
    from normexport.engine.manifest import FileId, NetworkLayer, PlanTensor
    from normexport.folding import FoldWarning, NormOutcome
    from normexport.folding.integer_norms import IntegerNormOutcome
    from normexport.graphs.export_config import ExportConfig
    from normexport.io.preprocess import Preprocess
    from normexport.narrowing.evidence import Evidence
    from normexport.narrowing.result import Bisection, Fault
    from normexport.onnx_export import BatchRange, Exported, InputSpec, Layer, OpenAxis
    from normexport.precision import Accuracy, Draw, EightBit, Fp8, Half, Int8, Limits, Precision
    from normexport.precision.half.losses import WeightLoss
    from normexport.precision.half.search import KeptModule
    from normexport.precision.int8.calibration import Calibration
    from normexport.precision.int8.edits import Int8Edit
    from normexport.precision.int8.histogram import Coarse, Histogram
    from normexport.precision.int8.placement import Placement, PlacementPoint
    from normexport.precision.int8.sensitivity import Sensitivity, TradeOff
    from normexport.precision.int8.state import BatchesSeen, CalibrationState
    from normexport.precision.snr import OutputError
    from normexport.precision.snr_parity import Boundary, SnrReport
    from normexport.proof import Batch, Budget, Deviation, ParityReport, Row
    from normexport.proof.inputs.folders import FolderRead
    from normexport.proof.signal import Channel
    from normexport.provenance.record import Provenance
    from normexport.reports import Conversion, Folding, Inspection, OnnxFile, Operators, Port
    from normexport.runtime.tensorrt_runtime import Plan, TensorRTRuntime
    from normexport.timing.config import BenchConfig
    from normexport.timing.intervals import Interval
    from normexport.timing.result import Benchmark, Ratio, Timing
    from normexport.verbs.bench import bench
    from normexport.verbs.bisect import bisect
    from normexport.verbs.build import build
    from normexport.verbs.calibrate import CalibrateConfig, calibrate, merge_calibrations
    from normexport.verbs.config import ConvertConfig
    from normexport.verbs.convert import convert
    from normexport.verbs.evaluate import evaluate
    from normexport.verbs.export import export
    from normexport.verbs.fold import fold
    from normexport.verbs.inspect import inspect, inspect_plan
    from normexport.verbs.parity import check, parity
    from normexport.verbs.prove import prove
    from normexport.verbs.report import Result, report
    from normexport.verbs.run import run
    from normexport.verbs.sign import sign
    from normexport.verbs.verify import verify
    from normexport.verdicts import Judgement, Verdict
    from normexport.workers import Where

#: Where each name is defined that is loaded on first use: most of them need torch or onnx.
_HOMES = {
    "Accuracy": "precision",
    "Batch": "proof",
    "BatchRange": "onnx_export",
    "BenchConfig": "timing.config",
    "Benchmark": "timing.result",
    "Bisection": "narrowing.result",
    "Boundary": "precision.snr_parity",
    "Budget": "proof",
    "BuilderProcess": "engine",
    "CalibrateConfig": "verbs.calibrate",
    "Calibration": "precision.int8.calibration",
    "CalibrationState": "precision.int8.state",
    "Capsule": "capsule",
    "Channel": "proof.signal",
    "Checkpoint": "checkpoint",
    "Coarse": "precision.int8.histogram",
    "Conversion": "reports",
    "ConvertConfig": "verbs.config",
    "Deviation": "proof",
    "Draw": "precision",
    "EightBit": "precision",
    "EngineConfig": "engine",
    "ExportConfig": "graphs.export_config",
    "Exported": "onnx_export",
    "Evidence": "narrowing.evidence",
    "Fault": "narrowing.result",
    "FileId": "engine.manifest",
    "Flavor": "engine",
    "FoldWarning": "folding",
    "FolderRead": "proof.inputs.folders",
    "Folding": "reports",
    "Fp8": "precision",
    "Half": "precision",
    "Histogram": "precision.int8.histogram",
    "InputSpec": "onnx_export",
    "Inspection": "reports",
    "OnnxFile": "reports",
    "Port": "reports",
    "Int8": "precision",
    "IntegerNormOutcome": "folding.integer_norms",
    "Interval": "timing.intervals",
    "Judgement": "verdicts",
    "KeptModule": "precision.half.search",
    "Layer": "onnx_export",
    "Limits": "precision",
    "Manifest": "engine",
    "NetworkLayer": "engine.manifest",
    "NormOutcome": "folding",
    "NormRecord": "checkpoint",
    "OpenAxis": "onnx_export",
    "Operators": "reports",
    "OutputError": "precision.snr",
    "ParityReport": "proof",
    "Part": "checkpoint",
    "Plan": "runtime.tensorrt_runtime",
    "PlanTensor": "engine.manifest",
    "Placement": "precision.int8.placement",
    "PlacementPoint": "precision.int8.placement",
    "Precision": "precision",
    "Preprocess": "io.preprocess",
    "Provenance": "provenance.record",
    "Ratio": "timing.result",
    "Result": "verbs.report",
    "Row": "proof",
    "Int8Edit": "precision.int8.edits",
    "BatchesSeen": "precision.int8.state",
    "Sensitivity": "precision.int8.sensitivity",
    "ShapeRange": "engine",
    "SnrReport": "precision.snr_parity",
    "TensorRTRuntime": "runtime",
    "Timing": "timing.result",
    "TradeOff": "precision.int8.sensitivity",
    "Verdict": "verdicts",
    "WeightLoss": "precision.half.losses",
    "WeightNormRecord": "checkpoint",
    "Where": "workers",
    "bench": "verbs.bench",
    "bisect": "verbs.bisect",
    "build": "verbs.build",
    "calibrate": "verbs.calibrate",
    "check": "verbs.parity",
    "convert": "verbs.convert",
    "evaluate": "verbs.evaluate",
    "export": "verbs.export",
    "fold": "verbs.fold",
    "inspect": "verbs.inspect",
    "inspect_plan": "verbs.inspect",
    "load": "checkpoint",
    "merge_calibrations": "verbs.calibrate",
    "parity": "verbs.parity",
    "prove": "verbs.prove",
    "report": "verbs.report",
    "run": "verbs.run",
    "sign": "verbs.sign",
    "verify": "verbs.verify",
}

__all__ = [
    "Accuracy",
    "Batch",
    "BatchRange",
    "BatchesSeen",
    "BenchConfig",
    "Benchmark",
    "Bisection",
    "Boundary",
    "Budget",
    "BuilderProcess",
    "CalibrateConfig",
    "Calibration",
    "CalibrationState",
    "Capsule",
    "Channel",
    "Checkpoint",
    "CheckpointError",
    "Coarse",
    "Conversion",
    "ConvertConfig",
    "Deviation",
    "Draw",
    "EightBit",
    "EngineConfig",
    "EngineError",
    "Evidence",
    "ExitCode",
    "ExportConfig",
    "ExportError",
    "Exported",
    "Fault",
    "FileId",
    "Flavor",
    "FoldError",
    "FoldWarning",
    "FolderRead",
    "Folding",
    "Fp8",
    "Half",
    "Histogram",
    "InputSpec",
    "Inspection",
    "Int8",
    "Int8Edit",
    "IntegerNormOutcome",
    "Interval",
    "Judgement",
    "KeptModule",
    "Layer",
    "Limits",
    "Manifest",
    "MissingComponent",
    "NetworkLayer",
    "NormExportError",
    "NormOutcome",
    "NormRecord",
    "OnnxFile",
    "OpenAxis",
    "Operators",
    "OutputError",
    "ParityReport",
    "Part",
    "Placement",
    "PlacementPoint",
    "Plan",
    "PlanTensor",
    "Port",
    "Precision",
    "Preprocess",
    "Provenance",
    "Ratio",
    "Result",
    "Row",
    "Sensitivity",
    "ShapeRange",
    "SnrReport",
    "TensorRTRuntime",
    "Timing",
    "TradeOff",
    "UsageError",
    "Verdict",
    "WeightLoss",
    "WeightNormRecord",
    "Where",
    "__version__",
    "bench",
    "bisect",
    "build",
    "calibrate",
    "check",
    "convert",
    "evaluate",
    "export",
    "fold",
    "inspect",
    "inspect_plan",
    "load",
    "merge_calibrations",
    "parity",
    "prove",
    "report",
    "run",
    "sign",
    "verify",
]


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            with needing_torch():
                return getattr(import_module(f"normexport.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
