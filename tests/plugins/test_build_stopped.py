"""A build of the libraries that is stopped: the compilers end with it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from normexport.plugins import compile as build

#: As cmake and ninja do: a tool that says its step and waits for a compiler that it has started.
TOOL = """
import subprocess, sys, time
compiler = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(compiler.pid, flush=True)
print("[1/2] compiling", flush=True)
compiler.wait()
"""


def ended(process: int) -> bool:
    """Whether a process is gone, or dead and not yet buried by whoever has adopted it."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().split()[2] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="processes are looked up in /proc")
def test_the_compilers_end_with_a_build_that_is_stopped(tmp_path: Path) -> None:
    def stop(step: str) -> NoReturn:
        raise KeyboardInterrupt

    log = tmp_path / "build.log"
    with pytest.raises(KeyboardInterrupt):
        build._run([sys.executable, "-c", TOOL], log, stop)
    compiler = next(int(line) for line in log.read_text().splitlines() if line.isdigit())
    for _ in range(500):
        if ended(compiler):
            break
        time.sleep(0.01)
    assert ended(compiler)
