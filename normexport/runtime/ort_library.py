"""The custom-op library inside ONNX Runtime: whether a model takes it, and whether it can be trusted to load."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import onnx_ir as ir

from normexport import norms, plugins
from normexport.errors import MissingComponent
from normexport.plugins.kernels import ABI_VERSION
from normexport.text import first_line


def library_for(model: ir.Model) -> Path | None:
    """The library that serves the live norms of `model`, None where it has none or no library was built.

    Models without live norms never load it: they can't gain, and a broken library is none of their business.
    """
    served = norms.native_ops()
    uses = any(node.domain == norms.DOMAIN and node.op_type in served for node in model.graph.all_nodes())
    return plugins.find("onnxruntime") if uses else None


def register(options: Any, library: Path) -> None:
    """Register `library` with session options.

    Raises:
        MissingComponent: it can't be loaded, or was built from other sources than this version's.
    """
    try:
        loaded = ctypes.CDLL(str(library))
        version = int(loaded.nx_abi_version())
    except OSError as error:
        raise _unusable(library, f"can't be loaded ({error})") from error
    except AttributeError as error:
        raise _unusable(library, "is no library of normexport's (it lacks nx_abi_version)") from error
    if version != ABI_VERSION:
        raise _unusable(library, f"has version {version} of the kernels' interface, this is {ABI_VERSION}")
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # the bindings raise their own kinds
        raise _unusable(library, f"ONNX Runtime does not take it ({first_line(error)})") from error


def _unusable(library: Path, cause: str) -> MissingComponent:
    remedy = f"run: {plugins.BUILD_COMMAND}; or remove it, then the portable bodies serve"
    return MissingComponent(str(library), cause, remedy)
