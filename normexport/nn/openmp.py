"""The OpenMP that PyTorch computes with, found among the libraries of this process."""

from __future__ import annotations

import ctypes
import os
import re
from functools import cache
from pathlib import Path

import torch

_LIBRARY = re.compile(r"/lib(gomp|iomp5|omp)[-.\w]*\.so[.\d]*$")


@cache
def torchs_openmp() -> int | None:
    """The address of its function GOMP_parallel; None where it has none, or it can't be told which is PyTorch's."""
    maps = Path("/proc/self/maps")
    if not torch.backends.openmp.is_available() or not maps.exists():
        return None
    paths = {line.split(maxsplit=5)[-1].rstrip() for line in maps.read_text(errors="replace").splitlines()}
    loaded = sorted(path for path in paths if _LIBRARY.search(path))
    own = [path for path in loaded if Path(torch.__file__).parent in Path(path).parents]
    chosen = own or loaded
    if len(chosen) != 1:
        return None
    try:  # only what is loaded already: another one would bring threads of its own
        library = ctypes.CDLL(chosen[0], mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return None
