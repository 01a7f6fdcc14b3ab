"""The native libraries: where they lie, what is wrong with one, and how to build them. All of them are optional."""

from __future__ import annotations

from normexport.plugins.locate import (
    BUILD_COMMAND,
    COMPONENTS,
    build_folder,
    find,
    library_folder,
    path_of,
    require,
    sources,
)

__all__ = ["BUILD_COMMAND", "COMPONENTS", "build_folder", "find", "library_folder", "path_of", "require", "sources"]
