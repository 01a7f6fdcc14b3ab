"""Forward and backward of a training step by the compiled kernels, through ctypes: the C structs and two calls.

`normexport.nn.ops.native` is the door for tensors.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_double, c_int64, c_void_p

from normexport.plugins.kernels import Kernels, NxNorm

#: What `NxNorm.layout` may be: channels apart from each other, or side by side.
LINEAR, HWC = 0, 4


class NxForward(ctypes.Structure):
    """NxForward of the C interface: addresses, and the two numbers that NxNorm has as floats."""

    _fields_ = (
        *((name, c_void_p) for name in ("x", "scale", "bias", "y", "mean", "stat", "marks")),
        *((name, c_double) for name in ("epsilon", "correction")),
    )


class NxBackward(ctypes.Structure):
    """NxBackward of the C interface."""

    _fields_ = (
        *((name, c_void_p) for name in ("x", "grad_y", "grad_mean", "grad_stat", "scale", "mean", "stat", "marks")),
        *((name, c_void_p) for name in ("grad_x", "grad_scale", "grad_bias")),
        *((name, c_double) for name in ("epsilon", "correction")),
    )


def run(kernels: Kernels, norm: NxNorm, tensors: NxForward | NxBackward, threads: int) -> None:
    """One pass of training, which of the two the tensors say; results lie where they point.

    Raises:
        UsageError: the norm can't be computed as asked: k > elements, chunks < 1, an unknown type.
        MissingComponent: the library failed for a reason of its own.
    """
    library = kernels.library
    call = library.nx_cpu_forward if isinstance(tensors, NxForward) else library.nx_cpu_backward
    size = library.nx_cpu_training_workspace(ctypes.byref(norm))
    place = kernels.workspace(size) if size else None
    kernels.check(call(ctypes.byref(norm), ctypes.byref(tensors), place, size, kernels.pool(threads)))


def count_marks(kernels: Kernels, norm: NxNorm) -> int:
    """Values a channel that backward needs of forward beside the statistics."""
    marks = kernels.library.nx_cpu_marks
    marks.argtypes, marks.restype = [POINTER(NxNorm)], c_int64
    return int(marks(ctypes.byref(norm)))
