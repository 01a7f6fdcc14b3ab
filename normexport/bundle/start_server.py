"""Check this folder and the server against what it was made for, and start Triton on it. Needs Python 3 alone.

    python3 start_server.py [--check] [options of tritonserver]

Every file must be the one that model.bundle.json names, and the server's ONNX Runtime or TensorRT one that runs it: a
plan runs with the version that built it, an ONNX file with none that is too old. Exit code 2 says in one line what is
wrong.
NORMEXPORT_TRITON names the server where it is not on the PATH.
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import os
import shutil
import sys
from typing import Any, NoReturn

HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> None:
    words = sys.argv[1:]
    check = "--check" in words
    words = options_of(words)
    with open(os.path.join(HERE, "model.bundle.json"), encoding="utf-8") as file:
        bundle = json.load(file)
    check_files(bundle)
    told = check_version(bundle["runtime"], words)
    print(f"the files are whole; {told}")
    if check:
        return
    server = os.environ.get("NORMEXPORT_TRITON") or shutil.which("tritonserver") or "/opt/tritonserver/bin/tritonserver"
    if not os.path.isfile(server):
        leave("tritonserver is not here; run this inside its container, or name it in NORMEXPORT_TRITON")
    libraries = [os.path.join(HERE, name) for name in bundle["preload"]]
    if libraries:
        os.environ["LD_PRELOAD"] = ":".join([*libraries, *filter(None, [os.environ.get("LD_PRELOAD")])])
    repository = "--model-repository=" + os.path.join(HERE, "models")
    sys.stdout.flush()
    os.execv(server, [server, repository, *bundle["server_options"], *words])


def options_of(words: list[str]) -> list[str]:
    """The server's options without our own. KServe gives its runtime's whole command line: program and repository."""
    words = [word for word in words if word != "--check"]
    if words[:1] != ["tritonserver"]:
        return words
    return [word for word in words[1:] if not word.startswith(("--model-store=", "--model-repository="))]


def check_files(bundle: dict[str, Any]) -> None:
    """Files that nobody edits are the ones of the bundle."""
    for name, known in sorted(bundle["files"].items()):
        path = os.path.join(HERE, *name.split("/"))
        if not os.path.isfile(path):
            leave(f"{name} is missing; copy the folder again")
        if known["edited"]:
            continue
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        if digest.hexdigest() != known["sha256"]:
            leave(f"{name} is not the file of this bundle; copy the folder again")


def check_version(runtime: dict[str, Any], words: list[str]) -> str:
    """What serves is what the file was made with, as far as this can be told before it starts; that in words."""
    name, made = runtime["name"], runtime["version"]
    found = version_of(name, words)
    if found is None:
        return f"which version of {name} serves can't be told here, and the file was made with {made}"
    if name == "tensorrt":
        if parts(made)[:3] != parts(found)[:3] and not (runtime["version_compatible"] and parts(made) < parts(found)):
            leave(f"the plan was built by TensorRT {made}, and the server has {found}; build it with that one")
    elif parts(found) < parts(runtime["least"]):
        leave(f"the file needs ONNX Runtime {runtime['least']}, and the server has {found}; take a later server")
    elif parts(found)[:2] != parts(made)[:2]:
        return f"it was proven with {name} {made} and is served by {found}: run the health check of README.md"
    return f"it was made with {name} {made}, and {found} serves it"


def version_of(name: str, words: list[str]) -> str | None:
    """The version of the library that the server will load; None where it is not found."""
    library = library_of(name, words)
    if library is None:
        return None
    try:
        if name == "tensorrt":
            loaded = ctypes.CDLL(library)
            return ".".join(str(getattr(loaded, f"getInferLib{part}Version")()) for part in ("Major", "Minor", "Patch"))
        base = ctypes.CDLL(library).OrtGetApiBase
        base.restype = ctypes.POINTER(ctypes.c_void_p)
        tell = ctypes.CFUNCTYPE(ctypes.c_char_p)(base()[1])  # OrtApiBase: GetApi, GetVersionString
        return str(tell().decode())
    except (OSError, AttributeError):
        return None


def library_of(name: str, words: list[str]) -> str | None:
    """The newest library of that name where the server looks for it."""
    folders = [word.split("=", 1)[1] for word in words if word.startswith("--backend-directory=")]
    folders += [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--backend-directory"]
    patterns = {
        "onnxruntime": [
            f"{folder}/onnxruntime/libonnxruntime.so*" for folder in [*folders, "/opt/tritonserver/backends"]
        ],
        "tensorrt": ["/usr/lib/*/libnvinfer.so.[0-9]*", "/usr/local/lib/libnvinfer.so.[0-9]*"],
    }[name]
    found = [sorted(glob.glob(pattern)) for pattern in patterns]
    return next((paths[-1] for paths in found if paths), None)


def parts(version: str) -> tuple[int, ...]:
    """ "1.32.0+cpu" -> (1, 32, 0)."""
    numbers = []
    for word in version.split("+")[0].split("."):
        digits = "".join(char for char in word if char.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def leave(words: str) -> NoReturn:
    sys.stderr.write(f"start_server.py: {words}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
