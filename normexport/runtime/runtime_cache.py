"""A runtime cache: the kernels that TensorRT for RTX compiled for this GPU as it opened a plan, kept in a file.

A plan for RTX holds kernels that are half compiled; the rest happens on the machine that opens it, in seconds, each
time. With a cache it happens once for a GPU, a driver and a version. The cache holds code for the GPU, as a plan does,
and none for the host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normexport.engine.flavor import Flavor
from normexport.errors import EngineError, UsageError
from normexport.io.atomic import check_writable, write_bytes
from normexport.io.opening import read_bytes

#: The largest cache that is read: that of a network with thousands of kernels has some 100 MB.
_MOST_BYTES = 2 << 30


def check_cached(which: Flavor, file: Path) -> None:
    """Refuse a cache that could be neither used nor written, before anything slow happens.

    Raises:
        UsageError: the flavour has no runtime cache, or the file's folder can't be written.
    """
    if not which.caches_at_runtime:
        cause = f"is not for a plan of {which.title}, which holds finished kernels"
        raise UsageError("runtime cache", cause, "leave --runtime-cache out")
    check_writable(file.parent)


class RuntimeCache:
    """The cache of one opened engine (`ICudaEngine`), read from `file` where there is one.

    Attributes:
        config: the engine's `IRuntimeConfig`, with which execution contexts are made.

    Raises:
        UsageError: the file is none of this version, driver and GPU.
        EngineError: the engine takes no cache.
    """

    def __init__(self, engine: Any, file: Path) -> None:
        self._file = file
        self.config = engine.create_runtime_config()
        self._cache = self.config.create_runtime_cache()
        self._held = read_bytes(file, _MOST_BYTES) if file.exists() else b""
        if self._held and not self._cache.deserialize(self._held):
            cause = "is no runtime cache of this version, driver and GPU"
            raise UsageError(str(file), cause, "name another file for --runtime-cache, or delete this one")
        if not self.config.set_runtime_cache(self._cache):
            raise EngineError(str(file), "the engine takes no runtime cache", "leave --runtime-cache out")

    def save(self) -> None:
        """Write the file, where something was compiled that it does not hold.

        Raises:
            UsageError: it can't be written.
        """
        content = bytes(self._cache.serialize())
        if content != self._held:
            write_bytes(self._file, content)
            self._held = content
