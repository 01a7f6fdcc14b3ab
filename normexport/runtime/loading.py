"""Whether ONNX Runtime stands loading a file at its default optimisation, tried where it can end no process of ours."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_LOAD = """
import sys, onnxruntime
onnxruntime.set_default_logger_severity(4)
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""
_SECONDS = 300.0


def crash_on_loading(path: Path) -> str | None:
    """In words, how ONNX Runtime on the CPU dies when it loads the file; None where it loads it, or says why not.

    Version 1.32 ends with a segmentation fault where a MatMul in float16 reads a Transpose of its first axis.
    """
    command = [sys.executable, "-I", "-c", _LOAD, str(path.absolute())]
    try:
        code = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False).returncode
    except (OSError, subprocess.TimeoutExpired):
        return None
    if code >= 0:
        return None
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return (
        f"ONNX Runtime crashes on the CPU ({name}) when it loads this file at its default optimisation;"
        " load it with graph_optimization_level = ORT_ENABLE_EXTENDED"
    )
