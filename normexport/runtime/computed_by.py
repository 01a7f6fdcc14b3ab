"""What the numbers of an ONNX model come from on this machine: other versions and processors round otherwise."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import onnx_ir as ir

from normexport.errors import MissingComponent
from normexport.runtime import ort_library

#: Instructions by which ONNX Runtime's CPU kernels are chosen (MLAS), from the oldest on.
_INSTRUCTIONS = ("avx", "fma", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "asimd", "asimddp", "sve")


def computed_by(model: ir.Model) -> str:
    """In words: ONNX Runtime's version, the processor's instructions, and what computes the live norms.

    Raises:
        MissingComponent: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingComponent.of("onnxruntime", "cpu") from error
    library = ort_library.library_for(model)
    kernels = []
    if library is not None:
        kernels = [f"native norms {hashlib.sha256(Path(library).read_bytes()).hexdigest()[:12]}"]
    return ", ".join([f"ONNX Runtime {onnxruntime.__version__}", _processor(), *kernels])


def _processor() -> str:
    words = {line.partition(":")[0].strip(): line.partition(":")[2].split() for line in _lines()}
    known = words.get("flags", words.get("Features", []))
    return " ".join([platform.machine(), *(each for each in _INSTRUCTIONS if each in known)])


def _lines() -> list[str]:
    """What Linux says of its first processor; other systems say nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    return text.partition("\n\n")[0].splitlines()
