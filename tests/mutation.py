"""Breaking one rule of the library in a copy of it, and running claims against the copy: each break must be noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 600  # of a busy machine: claims end by themselves after a minute of processor time


@dataclass(frozen=True)
class Mutation:
    """Replace `old` by `new` in normexport/`file`; `claim` is what then no longer holds.

    `old` must stand exactly once in the file, so that a rule that is rewritten takes its mutation along.
    """

    claim: str
    file: str
    old: str
    new: str


def copied(target: Path) -> Path:
    """The library's files, copied to `target` with their times, so that bytecode stays valid."""
    return Path(shutil.copytree(ROOT / "normexport", target / "normexport"))


def original(mutation: Mutation) -> str:
    """The text of the file that a mutation breaks, in which what it replaces stands once."""
    text = (ROOT / "normexport" / mutation.file).read_text()
    assert text.count(mutation.old) == 1, f"{mutation.file} holds this {text.count(mutation.old)} times"
    return text


def broken(mutation: Mutation, target: Path) -> Path:
    """A copy of the library with one rule broken."""
    library = copied(target)
    (library / mutation.file).write_text(original(mutation).replace(mutation.old, mutation.new))
    return library


def check_noticed(mutation: Mutation, claims: str, target: Path) -> None:
    """The claims of this module do not hold of a copy of the library, in `target`, with one rule broken."""
    done = run_claims(broken(mutation, target), claims)
    # Exit code 1 and a named claim: a mutation that does not even import proves nothing.
    assert done.returncode == 1, f"not noticed: {mutation.claim}"
    assert "Error: " in done.stdout, done.stderr


def run_claims(library: Path, claims: str) -> subprocess.CompletedProcess[str]:
    """Hold the `CLAIMS` of a module against a copy of the library; the copy must be what it imports."""
    paths = [str(library.parent), str(ROOT)]
    program = (
        f"import sys; sys.path[:0] = {paths!r}; "
        # An editable install finds the checkout by a hook, which would come before the path.
        "sys.meta_path[:] = [each for each in sys.meta_path if not type(each).__name__.startswith('ScikitBuild')]; "
        "import normexport; "
        f"assert normexport.__file__.startswith({str(library)!r}); "
        "from tests.claims import hold; "
        f"from {claims} import CLAIMS; sys.exit(hold(CLAIMS))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=library.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
