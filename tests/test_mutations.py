"""The tester of tests: which breaks count as noticed, and what a mutation replaces stands in the library once."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mutation import Mutation, broken, check_noticed, copied, hold_against, original
from tests.warm import ROOT, Warm


def _lists_of_mutations() -> list[str]:
    """The modules of tests that have mutations of their own, by name."""
    tests = Path(__file__).parent
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(tests.rglob("*.py"))}
    imports = re.compile(r"^from tests\.mutation import .*\bMutation\b", re.MULTILINE)
    return [name for path, name in names.items() if name != __name__ and imports.search(path.read_text())]


@pytest.mark.parametrize("module", _lists_of_mutations())
def test_what_a_mutation_replaces_stands_in_its_file_once(module: str) -> None:
    lists = [value for value in vars(importlib.import_module(module)).values() if isinstance(value, list | tuple)]
    mutations = [each for values in lists for each in values if isinstance(each, Mutation)]
    assert mutations
    for mutation in mutations:
        original(mutation)


def test_a_mutation_of_a_line_that_is_gone_is_refused() -> None:
    with pytest.raises(AssertionError, match="holds this 0 times"):
        original(Mutation("nothing", "errors.py", "a line that is gone", ""))


# ---- what counts as noticed, by claims of this file, which are held against copies of the library


def a_missing_component_gives_6() -> None:
    from normexport.errors import ExitCode, MissingComponent

    assert MissingComponent("x", "is missing").exit_code is ExitCode(6)


def a_network_computes() -> None:
    import torch

    assert float(torch.nn.Linear(3, 1)(torch.ones(1, 3)).sum().detach()) < 100


def false() -> None:
    raise AssertionError("holds of nothing")


def endless() -> None:
    subprocess.run(["sleep", SLEEP], check=True)


def luck() -> None:
    assert not Path("unlucky").exists()


ERRORS = (a_missing_component_gives_6,)
TORCH = (a_network_computes,)
FALSE = (*ERRORS, false)
ENDLESS = (endless,)
LUCK = (luck,)

SLEEP = "1234567"
CLAIMS = "tests.test_mutations:ERRORS"
SIX = 'MISSING = 6, "a needed'


def test_a_broken_rule_is_noticed_and_the_library_stays_as_it_is(tmp_path: Path) -> None:
    mutation = Mutation("a missing component gives 6", "errors.py", SIX, SIX.replace("6", "60"))
    before = (ROOT / "normexport/errors.py").read_bytes()
    check_noticed(mutation, CLAIMS, tmp_path / "first")
    assert (ROOT / "normexport/errors.py").read_bytes() == before
    assert hold_against(copied(tmp_path / "sound"), CLAIMS).code == 0, "a copy before left something behind"
    check_noticed(mutation, CLAIMS, tmp_path / "second")


def test_what_breaks_nothing_that_is_claimed_is_reported(tmp_path: Path) -> None:
    mutation = Mutation("another number changes", "errors.py", 'ENGINE = 5, "', 'ENGINE = 50, "')
    with pytest.raises(AssertionError, match=r"not noticed: another number changes \(exit code 0\)"):
        check_noticed(mutation, CLAIMS, tmp_path)


def test_claims_that_hold_of_nothing_notice_nothing(tmp_path: Path) -> None:
    mutation = Mutation("a missing component gives 6", "errors.py", SIX, SIX.replace("6", "60"))
    with pytest.raises(AssertionError, match="does not hold of the library as it is"):
        check_noticed(mutation, "tests.test_mutations:FALSE", tmp_path)


def test_a_copy_that_can_not_be_imported_is_not_noticed(tmp_path: Path) -> None:
    mutation = Mutation("a missing component gives 6", "errors.py", SIX, "MISSING = = 6")
    with pytest.raises(AssertionError, match=r"(?s)not noticed.*SyntaxError"):
        check_noticed(mutation, CLAIMS, tmp_path)


def test_what_fails_without_the_broken_file_is_not_noticed(tmp_path: Path) -> None:
    mutation = Mutation("nothing that they see", "dtypes.py", "from __future__ import annotations\n", "")
    (tmp_path / "unlucky").touch()
    with pytest.raises(AssertionError, match=r"do not import dtypes\.py"):
        check_noticed(mutation, "tests.test_mutations:LUCK", tmp_path)


def test_a_copy_is_its_own_package_of_the_library_s_files_but_one(tmp_path: Path) -> None:
    mutation = Mutation(
        "a line", "norms/l1.py", "from __future__ import annotations\n", "from __future__ import annotations\n\n"
    )
    library = broken(mutation, tmp_path)
    for path in (ROOT / "normexport").rglob("*.py"):
        text = (library / path.relative_to(ROOT / "normexport")).read_text()
        assert (text == path.read_text()) == (path.relative_to(ROOT / "normexport") != Path("norms/l1.py")), path


def test_nothing_of_one_run_is_there_in_the_next(tmp_path: Path) -> None:
    warm = Warm()
    try:
        first = warm.run("tests.claims:hold_module", copied(tmp_path), "tests.test_mutations:TORCH", 600)
        assert (first.code, "torch" in first.taken) == (0, True), first.err
        warm.load(first.taken)
        second = warm.run("tests.claims:hold_module", tmp_path / "normexport", CLAIMS, 600)
        assert (second.code, "torch" in second.taken) == (0, True), second.err
        assert not any(name.partition(".")[0] in ("normexport", "tests") for name in second.taken)
    finally:
        warm.close()


def test_what_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    done = hold_against(copied(tmp_path), "tests.test_mutations:ENDLESS", seconds=3)
    assert done.code == -9
    assert _gone(_sleeping)


def _sleeping() -> bool:
    """Whether the process that `endless` starts is there."""
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    return b"\0".join((b"sleep", SLEEP.encode(), b"")) in commands


def _gone(is_there: Callable[[], bool]) -> bool:
    """Whether a process that was killed, or whose parent has ended, is gone within a minute."""
    deadline = time.monotonic() + 60
    while is_there() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_there()


def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.mutation import _warm; "
        "print(_warm()._process.pid, flush=True); import os; os._exit(0)"
    )
    pid = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert _gone(Path(f"/proc/{pid}").exists)
