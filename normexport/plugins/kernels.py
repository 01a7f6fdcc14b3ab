"""The compiled kernels through ctypes: the C structs, the loaded library, and a call by pointer.

`normexport.plugins.norm_call` is the door for arrays and tensors; this is what lies behind it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path

from normexport.errors import MissingComponent, UsageError
from normexport.plugins.locate import require

#: NX_ABI_VERSION of the header that this file mirrors.
ABI_VERSION = 2

#: Numbers of the element types in the C interface, by name.
TYPES = {"float32": 0, "float16": 1, "bfloat16": 2, "int8": 3, "float64": 4}

#: The statuses that say the call is wrong, as opposed to the library: a null pointer, k, chunks, type, size, groups.
_CALLERS_FAULT = {1, 2, 3, 4, 6, 9}


class NxNorm(ctypes.Structure):
    """NxNorm of the C interface: one norm and the shape it is computed on; strides in elements, 0 for packed."""

    _fields_ = (
        ("kind", c_int32),
        ("type", c_int32),
        ("layout", c_int32),
        ("instance", c_int32),
        ("batch", c_int64),
        ("channels", c_int64),
        ("space", c_int64),
        ("x_stride", c_int64),
        ("y_stride", c_int64),
        ("k", c_int64),
        ("chunks", c_int64),
        ("epsilon", c_float),
        ("correction", c_float),
        ("num_groups", c_int64),
    )


class Kernels:
    """A loaded kernel library.

    Raises:
        MissingComponent: it can't be loaded, or was built from another version of the C interface.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = _load_library(path)
        self._pools: dict[tuple[int, int | None, int], int | None] = {}
        #: The address of the GOMP_parallel whose threads `pool` is to take; None starts threads.
        self.openmp: int | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._own = threading.local()

    @property
    def target(self) -> str:
        """The instruction set in use: AVX3_DL, AVX3, AVX2 or SSE2; NEON on ARM."""
        return str(self.library.nx_cpu_target().decode())

    def message(self, status: int) -> str:
        """What a status means and what to do."""
        return str(self.library.nx_message(status).decode())

    def status(self, norm: NxNorm, x: int, scale: int, bias: int, y: int, threads: int) -> int:
        """Compute y on `threads` threads and return the status. The arguments are addresses, their memory the caller's.

        x and y hold elements of the norm's type, scale and bias float32 (float64 for float64).
        """
        size = self.library.nx_cpu_workspace(ctypes.byref(norm))
        workspace = self.workspace(size) if size else None
        pool = self.pool(threads)
        return int(self.library.nx_cpu_norm(ctypes.byref(norm), x, scale, bias, y, workspace, size, pool))

    def run(self, norm: NxNorm, x: int, scale: int, bias: int, y: int, threads: int) -> None:
        """`status`, with an error for every status but success.

        Raises:
            UsageError: the norm can't be computed as asked: k > elements, chunks < 1, an unknown type.
            MissingComponent: the library failed for a reason of its own.
        """
        self.check(self.status(norm, x, scale, bias, y, threads))

    def check(self, status: int) -> None:
        """An error for every status but success, as `run`."""
        if status in _CALLERS_FAULT:
            raise UsageError("native kernels", self.message(status))
        if status:
            raise MissingComponent(str(self.path), self.message(status), "run: normexport plugins build")

    def workspace(self, size: int) -> int:
        """The address of `size` bytes aligned to 256, kept for this thread."""
        held = getattr(self._own, "buffer", None)
        if held is None or len(held) < size + 256:
            held = self._own.buffer = ctypes.create_string_buffer(size + 256)
        return (ctypes.addressof(held) + 255) // 256 * 256

    def pool(self, threads: int) -> int | None:
        """The address of an NxThreads of so many threads; None for the caller's own.

        A process that was forked starts threads: no thread came along, and an OpenMP that had some waits for them.
        """
        if threads == 1:
            return None
        process = os.getpid()
        key = threads, self.openmp if process == self._process else None, process
        with self._lock:
            if key not in self._pools:
                self._pools[key] = self._made(threads, key[1])
            return self._pools[key]

    def _made(self, threads: int, openmp: int | None) -> int | None:
        library = self.library
        made = library.nx_pool_create(threads) if openmp is None else library.nx_team_create(openmp, threads)
        if not made:
            raise UsageError("native kernels", f"{threads} threads can't be had", "ask for fewer")
        address: int | None = (library.nx_pool_threads if openmp is None else library.nx_team_threads)(made)
        return address


def kind_numbers() -> dict[str, int]:
    """Numbers of the kinds in the C interface, by name: of those that a compiled kernel computes."""
    from normexport import norms  # brings onnx along

    return {each.name: each.native for each in norms.KINDS.values() if each.native is not None}


def number_of(kind: str) -> int:
    """The number of a kind in the C interface.

    Raises:
        UsageError: there is no such kind.
        MissingComponent: no compiled kernel computes it.
    """
    from normexport import norms

    number = norms.kind(kind).native
    if number is None:
        remedy = f"compute it by its module or its ONNX body, or choose one of {', '.join(kind_numbers())}"
        raise MissingComponent(f"kind {kind!r}", "has no compiled kernel", remedy)
    return number


@cache
def load() -> Kernels:
    """The kernel library of this installation.

    Raises:
        MissingComponent: it is not built, can't be loaded, or is of another version.
    """
    return Kernels(require("kernels"))


def default_threads() -> int:
    """OMP_NUM_THREADS where it is a positive number, else the processors that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load_library(path: Path) -> ctypes.CDLL:
    remedy = "run: normexport plugins build"
    try:
        library = ctypes.CDLL(str(path))
        version = library.nx_abi_version()
        size: Callable[[], int] = library.nx_norm_size
        size.restype = c_size_t  # type: ignore[attr-defined]  # ctypes gives functions this attribute
        if version != ABI_VERSION or size() != ctypes.sizeof(NxNorm):
            raise MissingComponent(
                str(path), f"speaks version {version} of the C interface, normexport version {ABI_VERSION}", remedy
            )
        _declare(library)
    except (OSError, AttributeError) as error:  # AttributeError: a symbol is missing
        raise MissingComponent(str(path), f"can't be loaded as the kernel library ({error})", remedy) from None
    return library


def _declare(library: ctypes.CDLL) -> None:
    library.nx_message.argtypes, library.nx_message.restype = [c_int32], c_char_p
    library.nx_cpu_target.argtypes, library.nx_cpu_target.restype = [], c_char_p
    library.nx_cpu_workspace.argtypes, library.nx_cpu_workspace.restype = [POINTER(NxNorm)], c_size_t
    pointers = [c_void_p] * 5
    library.nx_cpu_norm.argtypes, library.nx_cpu_norm.restype = (
        [POINTER(NxNorm), *pointers, c_size_t, c_void_p],
        c_int32,
    )
    # Of an older library there is no such symbol: it is to be built again before a training step asks for it.
    for step in (library.nx_cpu_forward, library.nx_cpu_backward):
        step.argtypes, step.restype = [POINTER(NxNorm), c_void_p, c_void_p, c_size_t, c_void_p], c_int32
    library.nx_cpu_training_workspace.argtypes = [POINTER(NxNorm)]
    library.nx_cpu_training_workspace.restype = c_size_t
    library.nx_pool_create.argtypes, library.nx_pool_create.restype = [c_int32], c_void_p
    library.nx_pool_threads.argtypes, library.nx_pool_threads.restype = [c_void_p], c_void_p
    library.nx_team_create.argtypes, library.nx_team_create.restype = [c_void_p, c_int32], c_void_p
    library.nx_team_threads.argtypes, library.nx_team_threads.restype = [c_void_p], c_void_p
