"""Builds the plugin library against the emulated kernels, and the program that hosts it, once for all processes."""

from __future__ import annotations

import fcntl
import subprocess
from functools import cache
from pathlib import Path

from tests.engine.tensorrt_headers import tensorrt_headers
from tests.plugins.cuda_emulated import emulation_build

SOURCE = Path(__file__).parent / "host"
ROOT = SOURCE.parents[2]
FOLDER = ROOT / "build" / "plugin_host"


@cache
def missing() -> str | None:
    """Why the plugin can't be built here, in words; None where it can."""
    try:
        headers()
    except LookupError as error:
        return str(error)
    return emulation_build.missing()


def headers() -> Path:
    """The folder of NvInferRuntime.h, found or fetched."""
    return tensorrt_headers()


def library() -> Path:
    """The plugin, as TensorRT's builder can load it."""
    return _built("plain", "normexport_tensorrt") / "libnormexport_tensorrt.so"


def watched() -> tuple[Path, Path]:
    """The host and the plugin, both under AddressSanitizer and UndefinedBehaviorSanitizer."""
    folder = _built("asan", "normexport_tensorrt", "plugin_host")
    return folder / "plugin_host", folder / "libnormexport_tensorrt.so"


@cache
def _built(variant: str, *targets: str) -> Path:
    kernels, folder = emulation_build.build("normexport_emulated"), FOLDER / variant
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side
        settings = {
            "SANITIZE": "ON" if variant == "asan" else "OFF",
            "CUDA_INCLUDE": emulation_build.cuda_include(),
            "NORMEXPORT_TENSORRT_INCLUDE": headers(),
            "NORMEXPORT_TENSORRT_KERNELS": kernels,
        }
        if not (folder / "build.ninja").exists():
            _run("cmake", "-S", SOURCE, "-B", folder, "-G", "Ninja", *(f"-D{key}={settings[key]}" for key in settings))
        _run("cmake", "--build", folder, "-j", "2", "--target", *targets)
    return folder


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
