"""The kernels under compute-sanitizer, all its tools side by side: each is slow by itself and leaves the GPU idle."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.plugins.cuda_gpu.gpu_cases import sanitizer_lines

if TYPE_CHECKING:
    from tests.plugins.cuda_gpu.gpu_report import Report

#: initcheck is not among them: the harness fills all memory before a kernel sees it.
TOOLS = ("memcheck", "racecheck", "synccheck")
#: Seconds that a tool may take.
LIMIT = 150


@dataclass(frozen=True)
class Watched:
    """One tool at work; its words go to `log`."""

    process: subprocess.Popen[bytes]
    log: Path
    begin: float


def start(report: Report, program: Path, folder: Path) -> dict[str, Watched]:
    """Tools by name, each running `program` (run_cases) on every kind, type and layout."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        report.skipped("compute-sanitizer", "is not on this machine")
        return {}
    lines = folder / "cases.txt"
    lines.write_text("\n".join(sanitizer_lines()) + "\n")
    watched = {}
    for name in TOOLS:
        log = folder / f"{name}.log"
        command = [tool, "--tool", name, "--error-exitcode", "9", str(program), str(lines)]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        watched[name] = Watched(process, log, time.monotonic())
    return watched


def finish(report: Report, watched: Mapping[str, Watched]) -> None:
    """Wait for the tools, and tell what they found."""
    cases = len(list(sanitizer_lines()))
    for name, each in watched.items():
        step, stopped = f"compute-sanitizer {name}", False
        try:
            each.process.wait(max(1.0, LIMIT - (time.monotonic() - each.begin)))
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()
            stopped = True
        said = each.log.read_text(errors="replace")
        done = sum(line[:1].isdigit() for line in said.splitlines())
        if _findings(said) or (each.process.returncode and not stopped):
            report.failed(step, said[-3000:])
        elif stopped:
            report.skipped(step, f"stopped after {LIMIT} s; {done} of {cases} cases until then, no finding")
        else:
            report.passed(step, f"{done} cases, no finding, {time.monotonic() - each.begin:.0f} s")


def _findings(said: str) -> list[str]:
    """What a tool says between its first line and its summary, and what run_cases complains of."""
    marked = [line for line in said.splitlines() if line.startswith(("=========", "status "))]
    return [line for line in marked if "COMPUTE-SANITIZER" not in line and "SUMMARY: 0 " not in line]
