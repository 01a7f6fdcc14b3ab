"""What is there and what is missing: libraries, and the tools that build them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from normexport.errors import UsageError
from normexport.plugins import locate
from normexport.plugins.compile import cuda_compiler
from normexport.plugins.doctor import examine
from normexport.plugins.private import private

#: What runs each component, as distributions that may be installed, and the extra that installs one.
_HOSTS = {
    "onnxruntime": (("onnxruntime", "onnxruntime-gpu"), "cpu"),
    "tensorrt": (("tensorrt-rtx", "tensorrt"), "rtx"),
}


@dataclass(frozen=True)
class Library:
    """One component: there and healthy, there and broken, or absent; in words what that means.

    Attributes:
        host: the program that loads it, with its version; None where that is not installed.
    """

    name: str
    purpose: str
    path: Path
    present: bool
    healthy: bool
    words: str
    cuda: tuple[str, ...]
    host: str | None


@dataclass(frozen=True)
class Tool:
    """Something the build needs: where it is, or how to get it."""

    name: str
    path: str | None
    remedy: str


@dataclass(frozen=True)
class Overview:
    """Everything `normexport plugins list` shows."""

    folder: Path
    libraries: tuple[Library, ...]
    tools: tuple[Tool, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        libraries = [{**asdict(each), "path": str(each.path)} for each in self.libraries]
        return {"folder": str(self.folder), "libraries": libraries, "tools": [asdict(tool) for tool in self.tools]}


def overview() -> Overview:
    """Look at every component and every tool. Libraries are loaded in child processes, for their version."""
    libraries = tuple(_library(name, purpose) for name, purpose in locate.COMPONENTS.items())
    return Overview(locate.library_folder(), libraries, tuple(_tools()))


def _library(name: str, purpose: str) -> Library:
    path, host = locate.path_of(name), _host(name)
    if not path.is_file():
        words = f"not built; run: {locate.build_command(name)}"
        return Library(name, purpose, path, False, False, words, (), host)
    try:
        diagnosis = examine(private(path), quick=True, trust=True)
    except UsageError as error:
        return Library(name, purpose, path, True, False, error.cause, (), host)
    failure = diagnosis.first_failure
    if failure is not None:
        return Library(name, purpose, path, True, False, f"{failure.name}: {failure.words}", diagnosis.cuda, host)
    told = ["came with normexport"] if path.parent == locate.CARRIED else []
    told += [check.words for check in diagnosis.checks if check.name in ("interface", "cpu")]
    return Library(name, purpose, path, True, True, ", ".join(told), diagnosis.cuda, host)


def _host(name: str) -> str | None:
    distributions, extra = _HOSTS.get(name, ((), ""))
    for distribution in distributions:
        try:
            return f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    return f"not installed; run: pip install 'normexport[{extra}]'" if extra else None


def _tools() -> Iterator[Tool]:
    yield Tool("sources", _text(locate.sources()), "work in a checkout of normexport")
    yield Tool("cmake", shutil.which("cmake"), "apt install cmake, or pip install cmake")
    yield Tool("ninja", shutil.which("ninja") or shutil.which("make"), "apt install ninja-build, or pip install ninja")
    compilers = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    found = (shutil.which(name.split()[0]) for name in compilers if name)
    yield Tool("C++ compiler", next((path for path in found if path), None), "apt install g++")
    yield Tool("nvcc", cuda_compiler(), "only for --cuda and --tensorrt: install the CUDA toolkit")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
