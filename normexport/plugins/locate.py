"""Where the native libraries lie, and where their sources are.

Never the working folder, and never where somebody else can write: a library runs as soon as it is loaded.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from normexport._version import __version__
from normexport.errors import MissingComponent, UsageError
from normexport.plugins.private import private

#: Component -> what it is for. Each is one shared library, libnormexport_NAME.so.
COMPONENTS = {
    "kernels": "the CPU kernels for numpy and torch",
    "onnxruntime": "the operators inside ONNX Runtime",
    "cuda": "the CUDA kernels for programs that have no framework",
    "tensorrt": "the operators inside TensorRT",
}
FOLDER_VARIABLE = "NORMEXPORT_PLUGIN_DIR"
BUILD_COMMAND = "normexport plugins build"
#: The libraries for the CPU that a wheel for Linux brings along; in a checkout there is no such folder.
CARRIED = Path(__file__).parent / "lib"


def build_command(name: str) -> str:
    """The command that builds component `name`; what takes a CUDA toolkit has to be asked for."""
    return f"{BUILD_COMMAND} --{name}" if name in ("cuda", "tensorrt") else BUILD_COMMAND


def checkout() -> Path | None:
    """The folder above the package, where that is a checkout with the sources of the plugins."""
    root = Path(__file__).parents[2]
    return root if (root / "plugins" / "CMakeLists.txt").is_file() else None


def sources() -> Path | None:
    """The folder of the CMake project: of the checkout, or of the wheel, which carries it as a package of files."""
    root = checkout()
    if root is not None:
        return root / "plugins"
    spec = importlib.util.find_spec("normexport_plugin_sources")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return next((Path(folder) for folder in folders if Path(folder, "CMakeLists.txt").is_file()), None)


def build_folder() -> Path:
    """Where `normexport plugins build` builds: build/plugins of a checkout, else a cache folder for this version."""
    root = checkout()
    if root is not None:
        return root / "build" / "plugins"
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # as its specification has it: a relative one is not set
        cache = _home() / ".cache"
    return cache / "normexport" / f"plugins-{__version__}"


def header_folder() -> Path:
    """Where headers are looked for that were fetched: build/headers of a checkout, else beside the build."""
    root = checkout()
    return build_folder() / "headers" if root is None else root / "build" / "headers"


def _home() -> Path:
    """The user's, as the system knows it where HOME is no whole path."""
    home = Path(os.environ.get("HOME", ""))
    if home.is_absolute() or not hasattr(os, "getuid"):  # Windows has its own words for it
        return home if home.is_absolute() else Path.home()
    import pwd

    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def library_folder() -> Path:
    """Where the libraries are looked for first: NORMEXPORT_PLUGIN_DIR, else lib/ of the build folder. A whole path.

    Raises:
        UsageError: NORMEXPORT_PLUGIN_DIR is a relative path, which means another folder wherever one works.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    if given and not os.path.isabs(given):
        raise UsageError(FOLDER_VARIABLE, f"is {given!r}, and no whole path", "write it from / on")
    return Path(given) if given else build_folder() / "lib"


def path_of(name: str) -> Path:
    """Where the library of component `name` is, or belongs where there is none.

    What was built here comes before what the package brought along: it may have the CUDA kernels too.

    Raises:
        UsageError: no component is called so.
    """
    if name not in COMPONENTS:
        raise UsageError(f"component {name!r}", "does not exist", f"choose one of {', '.join(COMPONENTS)}")
    file = f"libnormexport_{name}.so"
    first = library_folder() / file
    brought = CARRIED / file
    keep_first = os.environ.get(FOLDER_VARIABLE) or first.is_file() or not brought.is_file()
    return first if keep_first else brought


def find(name: str) -> Path | None:
    """The library of component "kernels", "onnxruntime", "cuda" or "tensorrt", or None where there is none.

    Raises:
        UsageError: no component is called so, or others could have written the library (`normexport.plugins.private`).
    """
    path = path_of(name)
    return private(path) if path.is_file() else None


def require(name: str) -> Path:
    """As `find`, for callers that can't go on without.

    Raises:
        MissingComponent: the library has not been built.
        UsageError: see `find`.
    """
    path = find(name)
    if path is None:
        raise MissingComponent(path_of(name).name, f"is not in {library_folder()}", f"run: {build_command(name)}")
    return path
