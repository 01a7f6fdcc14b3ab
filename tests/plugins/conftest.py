"""The built libraries, or the reason why a test that needs them is left out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from normexport import plugins

#: Compiles C++ text into a shared library of that name.
Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def ort_library() -> Path:
    """The custom-op library of ONNX Runtime."""
    path = plugins.find("onnxruntime")
    if path is None:
        pytest.skip(f"needs {plugins.path_of('onnxruntime')}, which is not built: make plugins")
    return path


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compile C++ text into a shared library and give its path."""

    def compiled(text: str, name: str = "libother.so") -> Path:
        source, library = tmp_path / f"{name}.cpp", tmp_path / name
        source.write_text(text)
        subprocess.run(["c++", "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True)
        return library

    return compiled
