"""Exporters and runtimes of others that a test needs: where one is not installed, it is skipped with the reason."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import pytest


def needs(module: str, command: str) -> pytest.MarkDecorator:
    """Skip where a module is not installed, and say what installs it; nothing is imported for that."""
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed: {command}")


def skip_before_onnxruntime(fixed: str, why: str, since: str = "1.0") -> None:
    """Skip what ONNX Runtime does wrong, or does not know, from version `since` to the last one before `fixed`."""
    found = version("onnxruntime")
    if _numbers(since) <= _numbers(found) < _numbers(fixed):
        pytest.skip(f"ONNX Runtime {found} {why}; {fixed} does not")


def skip_before_onnx(fixed: str, why: str) -> None:
    """Skip what the reference evaluator of onnx, the witness, did wrong before version `fixed`."""
    if _numbers(version("onnx")) < _numbers(fixed):
        pytest.skip(f"onnx.reference {version('onnx')} {why}; that of {fixed} does not")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


needs_openvino = needs("openvino", "pip install 'normexport[openvino]'")
needs_executorch = needs("executorch", "pip install executorch")
needs_iree = needs("iree", "pip install iree-base-compiler iree-base-runtime")
needs_nncf = needs("nncf", "pip install nncf")
needs_modelopt = needs("modelopt", "pip install 'nvidia-modelopt[onnx]'")
needs_onnxslim = needs("onnxslim", "pip install onnxslim")

#: Where files run, as tests have seen it, and of what else people ask.
RUNS_IN = {"ONNX Runtime", "onnx.reference", "OpenVINO", "IREE", "NNCF", "ModelOpt"}
ASKED_FOR = RUNS_IN | {"onnx-mlir", "TVM", "ncnn"}
