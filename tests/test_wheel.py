"""The wheel with libraries in it: audited, and of use in a fresh environment that has no compiler."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from normexport.errors import ExitCode

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
#: As `make wheel` does it, with what is installed here.
BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, "tools")
import build_wheel
print(build_wheel.build(Path(sys.argv[1]), isolated=False))
"""
#: A processor of before SSE3, as the first with 64 bits were.
OLD_CPU = "core2duo,-ssse3,-pni"
#: Computes a norm of 15 numbers without numpy, which needs a newer processor, and holds it against floats of Python.
ON_AN_OLD_CPU = """
import ctypes, math, sys
from pathlib import Path
from normexport.plugins.kernels import Kernels, NxNorm
kernels = Kernels(Path(sys.argv[1]))
values = [math.sin(index) for index in range(15)]
x, y = (ctypes.c_float * 15)(*values), (ctypes.c_float * 15)()
one, zero = ctypes.c_float(1), ctypes.c_float(0)
norm = NxNorm(kind=0, batch=3, channels=1, space=5, epsilon=1e-5)
kernels.run(norm, *(ctypes.addressof(each) for each in (x, one, zero, y)), threads=1)
mean = sum(values) / 15
statistic = math.sqrt(math.pi / 2) * sum(abs(value - mean) for value in values) / 15 + 1e-5
error = max(abs((value - mean) / statistic - result) for value, result in zip(values, y))
print(kernels.target, error < 1e-6)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audited wheel, built as `make wheel` builds it."""
    for tool in ("c++", "cmake"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} to build the libraries with")
    for package in ("scikit_build_core", "auditwheel"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: make installs it")
    fetch = [sys.executable, "plugins/fetch_headers.py", "build/headers"]
    fetched = subprocess.run(fetch, cwd=ROOT, capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(fetched.stderr.strip())
    tools = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", BUILD, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=tools, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment that holds the wheel; what it depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("fresh") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    # A folder named in a .pth file is searched; .pth files in it, of an editable install, are not read.
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def in_it(python: Path, folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The fresh Python in `folder`, with a PATH on which there is nothing, and a home of its own."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    environment = {"PATH": str(empty), "HOME": str(folder), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run([python, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_tag_promises_no_more_than_the_libraries_need(wheel: Path) -> None:
    assert re.fullmatch(r"normexport-[\d.]+-py3-none-manylinux_2_\d+_\w+\.whl", wheel.name)
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (tag,) = re.findall(r'consistent with the following platform tag: "(\w+)"', " ".join(done.stdout.split()))
    assert wheel.stem.endswith(tag)


def test_both_libraries_are_there_and_compute_without_a_compiler(python: Path, tmp_path: Path) -> None:
    listed = in_it(python, tmp_path, "-m", "normexport_cli", "plugins", "list", "--json")
    assert listed.returncode == ExitCode.GOOD, listed.stderr
    found = json.loads(listed.stdout)
    libraries = {each["name"]: each for each in found["libraries"]}
    for name in ("kernels", "onnxruntime"):
        assert libraries[name]["healthy"], libraries[name]
        assert Path(libraries[name]["path"]).is_relative_to(python.parents[1])
        assert "came with normexport" in libraries[name]["words"]
    assert not any(tool["path"] for tool in found["tools"] if tool["name"] in ("cmake", "ninja", "C++ compiler"))
    checked = in_it(python, tmp_path, ROOT / "tools" / "check_installed.py")
    assert (checked.returncode, checked.stdout.count("largest error")) == (0, 2), checked.stderr


def test_live_norms_are_converted_and_run_by_the_library_of_the_wheel(python: Path, tmp_path: Path) -> None:
    checkpoint = ROOT / "examples" / "checkpoints" / "plain_l1_instance.pt2"
    data = ROOT / "examples" / "digits.npz"
    done = in_it(python, tmp_path, "-m", "normexport_cli", "convert", checkpoint, "-o", "live", "--data", data)
    assert done.returncode == ExitCode.GOOD, done.stderr
    assert "parity of ONNX Runtime with native norms against PyTorch float64" in done.stdout
    assert "PARITY PASSED" in done.stdout


def test_building_says_what_is_missing_and_headers_are_not(python: Path, tmp_path: Path) -> None:
    done = in_it(python, tmp_path, "-m", "normexport_cli", "plugins", "build")
    assert (done.returncode, done.stderr.count("\n")) == (ExitCode.MISSING, 1)
    assert "CMake: is not on PATH" in done.stderr
    (folder,) = python.parents[1].rglob("normexport_plugin_sources")
    found = in_it(python, tmp_path, "-I", folder / "headers.py", tmp_path / "none")
    assert found.stdout.splitlines() == [str(folder / "carried" / name) for name in ("highway", "onnxruntime")]


def test_a_library_that_was_built_here_comes_before_that_of_the_wheel(python: Path, tmp_path: Path) -> None:
    code = "from normexport import plugins; print(plugins.path_of('kernels')); print(plugins.library_folder())"
    brought, folder = in_it(python, tmp_path, "-c", code).stdout.splitlines()
    assert Path(brought).is_relative_to(python.parents[1])
    built = Path(folder) / "libnormexport_kernels.so"
    built.parent.mkdir(parents=True)
    shutil.copy(brought, built)
    assert in_it(python, tmp_path, "-c", code).stdout.splitlines()[0] == str(built)


def test_a_processor_without_sse3_computes_with_sse2(python: Path, tmp_path: Path) -> None:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or sysconfig.get_platform() != "linux-x86_64":
        pytest.skip("no qemu-x86_64 to be an old processor: apt install qemu-user")
    (library,) = python.parents[1].rglob("libnormexport_kernels.so")
    command = [emulator, "-cpu", OLD_CPU, str(python), "-c", ON_AN_OLD_CPU, str(library)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["SSE2", "True"], done.stderr
