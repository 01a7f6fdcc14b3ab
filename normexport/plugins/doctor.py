"""Say what is wrong with a native library, and what to do about it: every check runs where it can't hurt.

A library that may be anybody's is read and not loaded; what is loaded is loaded in a process of its own.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from normexport.errors import UsageError
from normexport.io.json_files import BadJson, parse_json, record, text
from normexport.plugins.elf import Elf, NotElf, newest, version_key
from normexport.plugins.locate import BUILD_COMMAND, COMPONENTS, find
from normexport.plugins.probe import FAILED, GOOD, WARNING

#: What each component must export to be of any use. By the first of them a renamed library is known.
ENTRY_POINTS = {
    "kernels": (
        *("nx_cpu_norm", "nx_cpu_workspace", "nx_cpu_target", "nx_abi_version", "nx_norm_size", "nx_check"),
        *("nx_message", "nx_pool_create", "nx_pool_threads"),
    ),
    "onnxruntime": ("RegisterCustomOps", "nx_abi_version"),
    "cuda": ("nx_cuda_norm", "nx_cuda_workspace", "nx_abi_version", "nx_check", "nx_message"),
    "tensorrt": ("getCreators", "setLoggerFinder"),
}
#: The child must not import from the working folder, where `-m` alone would look first.
_PROBE = ("-P", "-m", "normexport.plugins.probe")
_PATIENCE = 120  # seconds for the child; importing onnxruntime on a busy machine takes ten


@dataclass(frozen=True)
class Check:
    """One finding: "good", "warning" or "failed", in words."""

    name: str
    state: str
    words: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything found about one library.

    Attributes:
        component: which one it is, by name or else by its symbols; None where neither tells.
        cuda: architectures of the CUDA code embedded, "sm_90" or "compute_120" (for the driver to compile).
    """

    path: Path
    component: str | None
    checks: tuple[Check, ...]
    cuda: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether no check failed."""
        return all(check.state != FAILED for check in self.checks)

    @property
    def tried(self) -> bool:
        """Whether it was loaded, and not only read."""
        return _NOT_LOADED not in self.checks

    @property
    def first_failure(self) -> Check | None:
        """What to mend first."""
        return next((check for check in self.checks if check.state == FAILED), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "component": self.component,
            "healthy": self.healthy,
            "cuda": list(self.cuda),
            "checks": [asdict(check) for check in self.checks],
        }


def examine(path: Path, *, quick: bool = False, trust: bool = False) -> Diagnosis:
    """Look into `path`; load and try it in a child process where it is this installation's own, or trusted.

    Args:
        quick: without the smoke test, which imports onnxruntime for its library.
        trust: load it wherever it lies. To load a library runs its code.

    Raises:
        UsageError: there is no such file.
    """
    if not path.is_file():
        raise UsageError(str(path), "is no file", f"name a library; {BUILD_COMMAND} builds them")
    try:
        elf = Elf(path)
    except NotElf as error:
        return Diagnosis(path, _by_name(path), (Check("file", FAILED, str(error)),))
    component = _component(path, elf)
    checks = [Check("file", GOOD, f"shared library for {elf.machine}, {path.stat().st_size / 1e6:.1f} MB")]
    checks += _static_checks(elf, component)
    if component is not None and all(check.state != FAILED for check in checks):
        checks += _probe_in_child(path, component, quick) if trust or _is_own(path, component) else [_NOT_LOADED]
    codes = tuple(("compute_" if code.ptx else "sm_") + str(code.architecture) for code in elf.cuda)
    return Diagnosis(path, component, tuple(checks), codes)


_NOT_LOADED = Check("load", WARNING, "left out: it is not the library that is in use here; --trust loads and tries it")


def _is_own(path: Path, component: str) -> bool:
    """Whether it is the library that is loaded anyway when its component is needed."""
    try:
        return find(component) == Path(os.path.realpath(path))
    except UsageError:
        return False


def _by_name(path: Path) -> str | None:
    return next((name for name in COMPONENTS if path.name == f"libnormexport_{name}.so"), None)


def _component(path: Path, elf: Elf) -> str | None:
    """The name tells; a renamed library is known by its symbols."""
    by_symbols = (name for name in ENTRY_POINTS if ENTRY_POINTS[name][0] in elf.exported)
    return _by_name(path) or next(by_symbols, None)


def _static_checks(elf: Elf, component: str | None) -> list[Check]:
    return [
        _machine(elf),
        _symbols(elf, component),
        Check("needs", GOOD, ", ".join(elf.needed) or "no library"),
        _c_library(elf),
        *_cuda(elf),
    ]


def _machine(elf: Elf) -> Check:
    here = platform.machine()
    if elf.machine != here:
        return Check("machine", FAILED, f"built for {elf.machine}, this machine is {here}")
    return Check("machine", GOOD, here)


def _symbols(elf: Elf, component: str | None) -> Check:
    if component is None:
        return Check("symbols", FAILED, "exports no entry point of normexport: it is another library")
    absent = [name for name in ENTRY_POINTS[component] if name not in elf.exported]
    if absent:
        return Check("symbols", FAILED, f"does not export {', '.join(absent)}")
    return Check("symbols", GOOD, f"exports {', '.join(ENTRY_POINTS[component])}")


def _c_library(elf: Elf) -> Check:
    """glibc is checked here; libstdc++ by loading, as the process may bring its own."""
    glibc, cxx = newest(elf.versions_needed, "GLIBC"), newest(elf.versions_needed, "GLIBCXX")
    words = f"glibc {glibc or 'any'}" + (f", libstdc++ with GLIBCXX_{cxx}" if cxx else "") + " or later"
    name, here = platform.libc_ver()
    if name == "glibc" and glibc and version_key(glibc) > version_key(here):
        return Check("C library", FAILED, f"needs {words}, this machine has glibc {here}: build it here")
    return Check("C library", GOOD, words)


def _cuda(elf: Elf) -> list[Check]:
    if not elf.cuda:
        return []
    cubins = sorted({f"sm_{code.architecture}" for code in elf.cuda if not code.ptx}, key=lambda name: int(name[3:]))
    ptx = [code.architecture for code in elf.cuda if code.ptx]
    words = ", ".join(cubins) + (f", and PTX for GPUs from compute {min(ptx)} on" if ptx else "")
    return [Check("CUDA", GOOD, f"code for {words}")]


def _probe_in_child(path: Path, component: str, quick: bool) -> list[Check]:
    """Findings of the child, and how it ended."""
    command = [sys.executable, *_PROBE, str(path.resolve()), component]
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
    try:
        done = subprocess.run(
            [*command, *(["quick"] if quick else [])],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except subprocess.TimeoutExpired:
        return [Check("process", FAILED, f"loading and trying it takes longer than {_PATIENCE} s")]
    found = list(_findings(done.stdout))
    if done.returncode == 0:
        return found
    how = f"by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"with code {done.returncode}"
    after = f"after the check '{found[-1].name}'" if found else "while loading it"
    said = (done.stderr.strip().splitlines() or [""])[-1]
    return [*found, Check("process", FAILED, f"ended {how} {after}" + (f": {said}" if said else ""))]


def _findings(output: str) -> Iterator[Check]:
    """What the child found; a library may have written lines of its own."""
    for line in output.splitlines():
        try:
            fields = record(parse_json(line), "")
            check = Check(*(fields.get(name, text) for name in ("name", "state", "words")))
        except BadJson:
            continue
        if check.state in (GOOD, WARNING, FAILED):
            yield check
