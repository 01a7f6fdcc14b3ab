"""The kernels' C interface (plugins/kernels/include/normexport/kernels.h) as ctypes sees it."""

from __future__ import annotations

import ctypes

#: NX_ABI_VERSION of the sources that belong to this package; a library with another one is not called.
VERSION = 1

KINDS = {"l1": 0, "linf": 1, "topk": 2, "range": 3, "l2": 4}
TYPES = {"float32": 0, "float16": 1, "bfloat16": 2, "int8": 3, "float64": 4}


class NxNorm(ctypes.Structure):
    """struct NxNorm."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "type", "layout", "instance")),
        *((name, ctypes.c_int64) for name in ("batch", "channels", "space", "x_stride", "y_stride", "k", "chunks")),
        *((name, ctypes.c_float) for name in ("epsilon", "correction")),
    )
