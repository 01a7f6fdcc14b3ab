"""The memory of the machine: how much is left, and giving freed memory back between runtimes."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import sys
import time
from pathlib import Path

_MEMORY_INFO = Path("/proc/meminfo")
_OWN_PAGES = Path("/proc/self/statm")
_LARGE = 1 << 28  # bytes; a smaller process has no dropped model that matters
_SHARE = 0.1  # of the time, at most, goes into looking for garbage: it takes 0.05 s, but seconds beside many objects


class _Look:
    """The last look for garbage: when it ended and how long it took, in seconds."""

    ended = -math.inf
    took = 0.0


def release_memory() -> None:
    """Free dropped models where this process is large, and return freed heap pages where the C library can (glibc).

    A graph's nodes and values refer to each other, so its weights stay until Python looks for such cycles: of a network
    of 390 MB, half precision held four copies at once. Closing an ONNX Runtime session of ResNet-50 leaves 180 MB of
    freed pages in the process: its weights come in many sizes, and glibc keeps what it freed below the largest of them.
    The next runtime would come on top of that.
    """
    began = time.monotonic()
    if _own_memory() >= _LARGE and _Look.took <= _SHARE * (began - _Look.ended):
        gc.collect()
        _Look.ended = time.monotonic()
        _Look.took = _Look.ended - began
    _trim()


def _trim() -> None:
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)


def _own_memory() -> int:
    """Bytes that this process holds itself, without mapped files; 0 where that is not known (other than Linux)."""
    try:
        _, resident, of_files = _OWN_PAGES.read_text().split()[:3]
    except OSError:
        return 0
    return (int(resident) - int(of_files)) * os.sysconf("SC_PAGE_SIZE")


def available_memory() -> int | None:
    """Bytes that this machine can still give without swapping; None where that is not known (other than Linux)."""
    try:
        lines = _MEMORY_INFO.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024  # "12345 kB"
    return None
