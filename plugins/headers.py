#!/usr/bin/env python3
"""Find the headers that the plugins compile against: Google Highway, ONNX Runtime and, where asked for, TensorRT.

    python plugins/headers.py build/headers
    python plugins/headers.py build/headers tensorrt

Prints the include folders, one a line, to hand to CMake as NORMEXPORT_HEADERS (or NORMEXPORT_TENSORRT_INCLUDE). Looked
for, in this order: NORMEXPORT_HEADERS (TENSORRT_ROOT), the folder given, the headers that a wheel carries beside this
file, the active conda environment, the system. Nothing is fetched here: `plugins/fetch_headers.py` does that, where
wheels are built and on the machines of those who change the kernels.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Where a wheel carries the headers that it was built with, so that `normexport plugins build` needs no network.
CARRIED = Path(__file__).parent / "carried"
_SYSTEM = ("/usr/local/include", "/usr/include")
_SYSTEM_TENSORRT = (
    "/usr/include/x86_64-linux-gnu",
    "/usr/include/aarch64-linux-gnu",
    "/usr/include",
    "/usr/local/tensorrt/include",
)


class HeadersMissing(Exception):
    """What is missing, and what to do, in one line."""


@dataclass(frozen=True)
class Header:
    """One header needed: where it may lie under an include folder, and the version it must have."""

    name: str
    file: str
    folders: tuple[str, ...]
    versions: tuple[str, ...]  # patterns whose numbers, in order, are the version
    version_file: str
    least: tuple[int, ...]
    words: str
    remedy: str

    def under(self, root: Path) -> bool:
        """Whether `root` (an include folder) has it, recent enough."""
        return any(
            (root / folder / self.file).is_file() and self._version(root / folder) >= self.least
            for folder in self.folders
        )

    def _version(self, folder: Path) -> tuple[int, ...]:
        file = folder / self.version_file
        text = file.read_text(errors="replace") if file.is_file() else ""
        found = [re.search(pattern, text) for pattern in self.versions]
        return tuple(int(match.group(1)) for match in found if match)


HIGHWAY = Header(
    name="highway",
    file="hwy/highway.h",
    folders=("",),
    versions=(r"#define HWY_MAJOR (\d+)", r"#define HWY_MINOR (\d+)"),
    version_file="hwy/base.h",
    least=(1, 1),
    words="Google Highway 1.1 or later",
    remedy="libhwy-dev of Debian 13 or libhwy of conda-forge",
)
ONNXRUNTIME = Header(
    name="onnxruntime",
    file="onnxruntime_c_api.h",
    folders=("onnxruntime", "onnxruntime/core/session", ""),
    versions=(r"#define ORT_API_VERSION (\d+)",),
    version_file="onnxruntime_c_api.h",
    least=(21,),
    words="the C API of ONNX Runtime 1.21 or later",
    remedy="libonnxruntime-dev of Debian 13 or onnxruntime-cpp of conda-forge",
)
TENSORRT = Header(
    name="tensorrt",
    file="NvInferRuntime.h",
    folders=("",),
    versions=(),
    version_file="NvInferVersion.h",
    least=(),
    words="TensorRT",
    remedy="libnvinfer-headers-dev of NVIDIA",
)
BY_NAME = {header.name: header for header in (HIGHWAY, ONNXRUNTIME, TENSORRT)}
#: What the CPU libraries need.
ALL = (HIGHWAY, ONNXRUNTIME)


def headers(folder: Path, needed: Sequence[Header] = ALL) -> list[Path]:
    """Include folders that together hold the headers `needed`, each once.

    Args:
        folder: where `plugins/fetch_headers.py` has fetched to.
        needed: which.

    Raises:
        HeadersMissing: one is nowhere, or TENSORRT_ROOT names a folder without it.
    """
    found = {header: _place(header, folder) for header in needed}
    missing = [header for header, place in found.items() if place is None]
    if missing:
        raise HeadersMissing(_advice(missing, folder))
    return list(dict.fromkeys(place for place in found.values() if place is not None))


def _place(header: Header, folder: Path) -> Path | None:
    if header is TENSORRT and os.environ.get("TENSORRT_ROOT"):
        given = Path(os.environ["TENSORRT_ROOT"], "include")
        if not header.under(given):
            cause = f"TENSORRT_ROOT: {given} holds no {header.file}"
            raise HeadersMissing(f"{cause}; set it to an unpacked TensorRT")
        return given
    return next((root for root in include_folders(header, folder) if header.under(root)), None)


def include_folders(header: Header, folder: Path) -> list[Path]:
    """Where a header may lie, the most explicit place first."""
    given = [] if header is TENSORRT else _paths("NORMEXPORT_HEADERS")
    fetched = [folder / header.name, CARRIED / header.name]
    prefixes = [*_paths("CONDA_PREFIX"), *_paths("CMAKE_PREFIX_PATH")]
    system = _SYSTEM_TENSORRT if header is TENSORRT else _SYSTEM
    return [*given, *fetched, *(prefix / "include" for prefix in prefixes), *map(Path, system)]


def _paths(variable: str) -> list[Path]:
    return [Path(part) for part in os.environ.get(variable, "").split(os.pathsep) if part]


def _advice(missing: Sequence[Header], folder: Path) -> str:
    script = Path(__file__).with_name("fetch_headers.py")
    variable = "TENSORRT_ROOT" if TENSORRT in missing else "NORMEXPORT_HEADERS"
    return (
        f"the headers of {' and of '.join(header.words for header in missing)} are missing; "
        f"run: python {script} {folder} {' '.join(header.name for header in missing)}, or install "
        f"{' and '.join(header.remedy for header in missing)}, or set {variable}"
    )


def main() -> int:
    """Command line: prints the include folders, one a line; 6 and one line on standard error where one is missing."""
    folder, *names = sys.argv[1:] or [""]
    if not folder or not set(names) <= set(BY_NAME):
        sys.stderr.write(f"error: usage: headers.py FOLDER [{' '.join(BY_NAME)}]\n")
        return 2
    try:
        for place in headers(Path(folder), [BY_NAME[name] for name in names] or ALL):
            print(place)
    except HeadersMissing as error:
        sys.stderr.write(f"error: {error}\n")
        return 6
    return 0


if __name__ == "__main__":
    sys.exit(main())
