#!/usr/bin/env python3
"""Build the wheel with the libraries for the CPU in it, and audit it: what it needs of a machine is what its tag says.

    python tools/build_wheel.py dist                # for this processor
    python tools/build_wheel.py dist --aarch64      # for 64-bit ARM, by the cross compiler (plugins/aarch64.cmake)

Fetches headers (plugins/fetch_headers.py), compiles, and prints the wheel's path. The tag is that of the machine's own
C and C++ libraries; for one that old systems take, cibuildwheel runs the same build in a manylinux image
(pyproject.toml).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The date of every file, unless SOURCE_DATE_EPOCH says another: 1980, where archives begin. The same sources and tools
#: then give the same bytes.
EPOCH = "315532800"
#: One wheel serves every Python: it holds libraries that are opened by name, and no extension modules.
PURE_TAG = "py3-none"


def build(folder: Path, *, aarch64: bool = False, isolated: bool = True) -> Path:
    """The audited wheel, in `folder`; one of the same name is replaced.

    Args:
        folder: where to.
        aarch64: for 64-bit ARM instead of this machine.
        isolated: in an environment that pip makes for the build; else with the packages of this one.

    Raises:
        subprocess.CalledProcessError: a tool failed; it has said why.
    """
    python = [sys.executable]
    _run([*python, ROOT / "plugins" / "fetch_headers.py", ROOT / "build" / "headers"])
    settings = ["wheel.cmake=true"]
    if aarch64:
        settings += [
            f"cmake.toolchain-file={ROOT / 'plugins' / 'aarch64.cmake'}",
            f"wheel.tags={PURE_TAG}-linux_aarch64",
        ]
    with tempfile.TemporaryDirectory() as made:
        words = [
            *python,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--wheel-dir",
            made,
        ]
        words += [word for setting in settings for word in ("-C", setting)]
        _run([*words, *([] if isolated else ["--no-build-isolation"]), ROOT])
        (raw,) = Path(made).glob("*.whl")
        with tempfile.TemporaryDirectory() as audited:
            _run([*python, "-m", "auditwheel", "show", raw])
            _run([*python, "-m", "auditwheel", "repair", "--wheel-dir", audited, raw])
            (wheel,) = Path(audited).glob("*.whl")
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / wheel.name
            target.write_bytes(wheel.read_bytes())
    return target


def _run(command: list[str | Path]) -> None:
    """Run a tool; what it says goes to standard error, for standard output is the wheel's path."""
    environment = {"SOURCE_DATE_EPOCH": EPOCH, **os.environ}
    subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, stdout=sys.stderr, check=True)


def main() -> int:
    """Command line: prints the wheel's path."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the wheel is put")
    parser.add_argument("--aarch64", action="store_true", help="for 64-bit ARM, by the cross compiler")
    given = parser.parse_args()
    try:
        print(build(given.folder.absolute(), aarch64=given.aarch64))
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"error: {' '.join(error.cmd[:4])} ... ended with {error.returncode}; see above\n")
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
