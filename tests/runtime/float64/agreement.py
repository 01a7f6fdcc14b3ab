"""Comparing the interpreter with ONNX Runtime, and with what a test model says its outputs are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from normexport.io.onnx_model import opened_model
from normexport.runtime.float64.compile import program_of
from normexport.runtime.float64.types import held


def interpreted(model: onnx.ModelProto, inputs: Sequence[Any], *, torch: bool = True) -> list[Any]:
    """The outputs by the interpreter; inputs may be sequences and empty optionals too."""
    program = program_of(opened_model(model), with_torch=torch)
    given = [widened(value) for value in inputs]
    given += [None] * (len(program.inputs) - len(given))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return program.run(given)


def widened(value: Any) -> Any:
    """A value as the interpreter holds it."""
    if isinstance(value, (list, tuple)):
        return [widened(each) for each in value]
    return None if value is None else held(value)


def by_onnx_runtime(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Any] | None:
    """The outputs by ONNX Runtime, None where it can't run the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs, strict=False)))
    except Exception:  # it raises a dozen unrelated types for what it does not support
        return None


_ROUNDING = {"float16": 1e-3, "bfloat16": 1e-2}  # of what was expected; the interpreter rounds nothing


def same(got: Any, expected: Any, rtol: float, atol: float) -> bool:
    """Whether a value of the interpreter is the one expected: types and shapes alike, NaN equal to NaN.

    Floats within the tolerance and the rounding of the expected type; everything else exactly.
    """
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(got, list)
            and len(got) == len(expected)
            and all(same(g, e, rtol, atol) for g, e in zip(got, expected, strict=True))
        )
    if expected is None:
        return got is None
    expected = np.asarray(expected)
    rtol = max(rtol, _ROUNDING.get(expected.dtype.name, 0.0))
    expected = held(expected)
    if not isinstance(got, np.ndarray) or got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if expected.dtype.kind in "fc" and expected.dtype.isbuiltin == 1:
        return bool(np.allclose(got, expected, rtol=rtol, atol=atol, equal_nan=True))
    if expected.dtype.isbuiltin != 1:  # ml_dtypes: NaN of float8 is not equal to itself
        return bool(np.array_equal(got.astype(np.float64), expected.astype(np.float64), equal_nan=True))
    return bool(np.array_equal(got, expected))
