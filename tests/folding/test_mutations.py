"""Breaking any single rule of the fold makes the focused check fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.folding.mutations import MUTATIONS, Mutation

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def copied(target: Path) -> Path:
    """The library's files, copied to `target` with their times, so that bytecode stays valid."""
    return Path(shutil.copytree(ROOT / "normexport", target / "normexport"))


def focused_check(library: Path) -> subprocess.CompletedProcess[str]:
    """Run the focused check against a copy of the library; the copy must be what it imports."""
    paths = [str(library.parent), str(ROOT)]
    program = (
        f"import sys; sys.path[:0] = {paths!r}; import normexport; "
        f"assert normexport.__file__.startswith({str(library)!r}); "
        "from tests.folding.focused import main; sys.exit(main())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=library.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_focused_check_passes_on_the_library_as_it_is(tmp_path: Path) -> None:
    done = focused_check(copied(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    library = copied(tmp_path)
    file = library / mutation.file
    text = file.read_text()
    assert text.count(mutation.old) == 1, f"{mutation.file} holds this {text.count(mutation.old)} times"
    file.write_text(text.replace(mutation.old, mutation.new))
    done = focused_check(library)
    # Exit code 1 and a named claim: a mutation that does not even import proves nothing.
    assert done.returncode == 1, f"not noticed: {mutation.claim}"
    assert "Error" in done.stdout, done.stderr
