"""The tests under other versions of Python and of the libraries: `make matrix`.

    python tools/version_matrix.py [CELL ...] [--python 3.12=/path/to/python3.12 ...] [--tests "-m 'not slow'"]

Each cell gets an environment of its own under build/matrix, which stays for the next run. What is not pinned is the
newest that pip takes. Downloads some gigabytes (PyTorch's builds), and takes minutes a cell. Results, with their date,
go to build/matrix/results.json; the table for docs/versions.md is printed. A Python that is not on this machine makes a
cell that is told of as not run, and an exit code of 1, as failed tests do.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "build" / "matrix"
#: What a cell holds beside its pins: the extras that convert on a CPU, and what the tests use.
BESIDE = (
    "-e",
    f"{ROOT}[torch,cpu]",
    "scikit-build-core>=1.0",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "mlxtend>=0.23",
)
#: In every cell: the quick tests that compile nothing.
TESTS = "-m 'not slow' --ignore=tests/plugins --ignore=tests/engine"


@dataclass(frozen=True)
class Cell:
    """One environment: a version of Python, and what pip is held to."""

    python: str = "3.11"
    torch: str = "2.13.0"
    pins: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A folder's name: py3.11-torch2.13.0-onnx1.19.1."""
        return "-".join((f"py{self.python}", f"torch{self.torch}", *(pin.replace("==", "") for pin in self.pins)))


#: The oldest and the newest that pyproject.toml lets in, and some between; one thing changes at a time.
CELLS = (
    *(Cell(python) for python in ("3.11", "3.12", "3.13", "3.14")),
    *(Cell(torch=version) for version in ("2.9.1", "2.14.1", "2.15.0")),
    *(Cell(pins=(f"onnxruntime=={version}",)) for version in ("1.21.1", "1.23.2", "1.26.0")),
    *(Cell(pins=(f"onnx=={version}",)) for version in ("1.19.1", "1.20.1", "1.21.0")),
    Cell(pins=("numpy==1.26.4",)),
)


@dataclass(frozen=True)
class Result:
    """What became of a cell: counts of tests, the versions that it had, or why it was not run."""

    cell: str
    date: str
    python: str = ""
    versions: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    not_run: str = ""

    @property
    def is_green(self) -> bool:
        """Whether tests ran, and none failed."""
        return not self.not_run and self.failed == 0 and self.passed > 0

    def row(self) -> str:
        """Its line of the table."""
        found = self.not_run or f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        return f"| {self.cell} | {self.python} | {self.versions} | {found} | {self.date} |"


def main() -> int:
    """Run the cells asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help=", ".join(cell.name for cell in CELLS))
    parser.add_argument("--python", action="append", default=[], metavar="3.X=PATH", help="where that Python is")
    parser.add_argument("--tests", default=TESTS, help="arguments of pytest")
    args = parser.parse_args()
    unknown = set(args.cells) - {cell.name for cell in CELLS}
    if unknown:
        parser.error(f"no such cell: {', '.join(sorted(unknown))}")
    given = dict(each.split("=", 1) for each in args.python)
    HOME.mkdir(parents=True, exist_ok=True)
    results = []
    for cell in CELLS:
        if args.cells and cell.name not in args.cells:
            continue
        print(f"{cell.name} ...", file=sys.stderr, flush=True)
        results.append(run(cell, given.get(cell.python) or shutil.which(f"python{cell.python}"), args.tests))
        keep(results[-1])
        print(results[-1].row(), flush=True)
    return 0 if all(result.is_green for result in results) else 1


def run(cell: Cell, python: str | None, tests: str) -> Result:
    """Make the cell's environment where it is not there yet, and run the tests in it."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if python is None:
        return Result(cell.name, today, not_run=f"Python {cell.python} is not on this machine")
    home = HOME / cell.name
    inside = str(home / "bin" / "python")
    if not Path(inside).exists():
        subprocess.run([python, "-m", "venv", str(home)], check=True)
    install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += [f"torch=={cell.torch}", *cell.pins, *BESIDE]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return Result(cell.name, today, not_run=f"pip: {(lines or ['failed'])[0].removeprefix('ERROR: ')[:120]}")
    report = home / "report.xml"
    report.unlink(missing_ok=True)
    command = [inside, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", f"--junitxml={report}"]
    with (home / "tests.log").open("w") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        subprocess.run([*command, *shlex.split(tests)], cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    if not report.exists():
        return Result(cell.name, today, *versions(inside), not_run=f"pytest ended early, see {home / 'tests.log'}")
    return Result(cell.name, today, *versions(inside), *counts(report))


def versions(python: str) -> tuple[str, str]:
    """Python's version, and those of the libraries."""
    code = (
        "import importlib.metadata as m, platform; print(platform.python_version());"
        "print(', '.join(f'{n} {m.version(n)}' for n in ('torch', 'onnxscript', 'onnx', 'onnxruntime', 'numpy')))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    own, libraries = done.stdout.splitlines()
    return own, libraries


def counts(report: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of a report; errors count as failed."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return total - failed - skipped, failed, skipped


def keep(result: Result) -> None:
    """Put a result in the place of the cell's last one."""
    path = HOME / "results.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, result.cell: asdict(result)}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
