"""What `--version` prints: all that a bug report needs, without importing any of it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from normexport._version import __version__

_BESIDE = ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "tensorrt-rtx", "tensorrt")


def version_line() -> str:
    """ "normexport 0.1.0 (Python 3.11.9, torch 2.13.0, ...)", with what is installed."""
    beside = [f"Python {platform.python_version()}"]
    for name in _BESIDE:
        try:
            beside.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"normexport {__version__} ({', '.join(beside)})"
