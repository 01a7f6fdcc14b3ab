"""Mutated files of every format do no harm on the command line, and the harness sees harm where there is some.

`make fuzz COUNT=10000` runs many more cases of the same kind.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from normexport.errors import ExitCode
from tests.fuzz import campaign, formats, hostile, verdict, zips
from tests.fuzz.cases import Case
from tests.fuzz.child import Limits, Observation

pytestmark = pytest.mark.slow

if sys.platform != "linux":
    pytest.skip("the harness forks and reads /proc: Linux only", allow_module_level=True)

ROOT = Path(__file__).parents[2]

#: Cases of each format: those whose honest files take a second are few. Parquet where pyarrow is installed.
COUNTS = {"pt": 25, "pt2": 8, "onnx": 25, "npz": 25, "json": 25, "image": 20, "capsule": 25,
    "safetensors": 20, "index": 20, "folder": 10, "lightning": 20, "torchscript": 45, "state": 20, "tar": 30,
}  # fmt: skip


if find_spec("pyarrow") is not None:
    COUNTS["parquet"] = 30


def test_mutated_files_do_no_harm_and_are_neither_all_taken_nor_all_refused_for_one_reason(tmp_path: Path) -> None:
    # One test: what makes the honest files and imports everything is most of its time, and serves all formats.
    for format, found in outcomes(tmp_path).items():
        assert len(found) == COUNTS[format]
        assert [(each["number"], each["reasons"], each["line"]) for each in found if each["reasons"]] == [], format
        assert format == "pt2" or any(each["exit_code"] in verdict.ACCEPTED for each in found), format  # 1 of 10 there
        refusals = {each["kind"] for each in found if each["exit_code"] in verdict.REFUSED}
        assert len(refusals) >= (1 if format == "image" else 4), format  # all that is no picture gets the same words


def outcomes(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Format -> what became of its cases, run by one process."""
    words = [word for name, count in COUNTS.items() for word in ("--format", f"{name}={count}")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.fuzz", "--folder", str(folder), *words]
    told = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert told.returncode in (0, 1), told.stderr
    lines = {name: (folder / f"{name}-0.jsonl").read_text().splitlines() for name in COUNTS}
    return {name: [json.loads(line) for line in each] for name, each in lines.items()}


@pytest.mark.parametrize("format", ["pt", "image"])
def test_a_case_follows_from_its_number_alone(format: str) -> None:
    assert formats.case(format, 5, 11) == formats.case(format, 5, 11)


def test_records_of_an_honest_archive_give_its_bytes_again() -> None:
    for path in (ROOT / "examples" / "checkpoints").glob("*.pt*"):
        assert zips.write(zips.read(path.read_bytes())) == path.read_bytes()


def test_a_saved_failure_is_the_same_case_again(tmp_path: Path) -> None:
    case = Case({"a.pt": b"x", "sub/b": b"y", "link": "..", "pipe": None}, ("inspect", "a.pt"), ("flip",))
    seen, reasons = run(case, refuse, tmp_path)
    campaign.save(case, campaign.outcome_of("pt", 0, case, seen, reasons), seen, tmp_path / "saved")
    assert campaign.saved_case(tmp_path / "saved") == case


# Fake commands, each of which does one thing that must be seen.


def refuse() -> int:
    sys.stderr.write("error: a.pt: is damaged; copy it again\n")
    return ExitCode.CHECKPOINT


def make_marker() -> int:
    os.mkdir(hostile.MARKER)
    return refuse()


def make_marker_above() -> int:
    os.mkdir(f"../{hostile.MARKER}")
    return refuse()


def compile_text_of_the_file() -> int:
    exec(compile(f"x = 0 and {hostile.CODE[0]}", "<generated>", "exec"))
    return refuse()


def read_the_secret() -> int:
    Path("out").write_bytes(Path(hostile.SECRET_FILE).read_bytes())
    return ExitCode.GOOD


def sleep() -> int:
    time.sleep(60)
    return ExitCode.GOOD


def fill(size: int) -> mmap.mmap:
    """That many bytes of memory of its own: the allocator would hand out what the process has freed before."""
    held = mmap.mmap(-1, size)
    for start in range(0, size, mmap.PAGESIZE):
        held[start] = 1
    return held


def eat_memory() -> int:
    held = fill(800 * 2**20)
    time.sleep(60)
    return len(held)


def eat_memory_in_a_process() -> int:
    subprocess.run([sys.executable, "-c", "x = bytes([1]) * 2**29; import time; time.sleep(60)"])
    return ExitCode.GOOD


def eat_memory_briefly() -> int:
    fill(160 * 2**20).close()
    return refuse()


def crash() -> int:
    os.kill(os.getpid(), signal.SIGFPE)
    return ExitCode.GOOD


def raise_an_exception() -> int:
    raise ValueError("out of the command")


def print_a_traceback() -> int:
    sys.stderr.write("Traceback (most recent call last):\n")
    return refuse()


def end_as_a_bug() -> int:
    sys.stderr.write("error: normexport: KeyError\n")
    return ExitCode.BUG


def leave_a_file() -> int:
    Path("out").mkdir()
    return refuse()


def leave_a_hidden_file() -> int:
    Path("out").mkdir()
    Path("out/.model.onnx.tmp").write_text("half")
    return ExitCode.GOOD


def change_the_input() -> int:
    Path("a.pt").write_text("another")
    return ExitCode.GOOD


def say_nothing() -> int:
    return ExitCode.CHECKPOINT


def say_two_lines() -> int:
    sys.stderr.write("a warning\n")
    return refuse()


def say_control_characters() -> int:
    sys.stderr.write("error: \x1b[31m\n")
    return ExitCode.CHECKPOINT


def kill_outside_the_interpreter() -> int:
    os.abort()


HARM = {
    make_marker: "code run",
    make_marker_above: "code run",
    compile_text_of_the_file: "near code",
    read_the_secret: "near code",
    sleep: "hang",
    eat_memory: "memory",
    eat_memory_in_a_process: "memory",
    eat_memory_briefly: "memory",
    crash: f"signal {signal.SIGFPE}",
    kill_outside_the_interpreter: f"signal {signal.SIGABRT}",
    raise_an_exception: "exit 99",
    print_a_traceback: "traceback",
    end_as_a_bug: f"exit {ExitCode.BUG}",
    leave_a_file: "left behind: case/out",
    leave_a_hidden_file: "left behind: case/out/.model",
    change_the_input: "input changed: case/a.pt",
    say_nothing: "0 lines",
    say_two_lines: "2 lines",
    say_control_characters: "line with control characters",
}


def run(case: Case, command: Callable[[], int], folder: Path) -> tuple[Observation, list[str]]:
    """What was seen of a case whose command is that function, and the rules that it broke."""
    return campaign.run_case(case, lambda words: command, folder, Limits(seconds=1.5, memory=100 * 2**20))


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_the_harness_sees(harm: Callable[[], int], tmp_path: Path) -> None:
    _, reasons = run(Case({"a.pt": b"x"}, ("inspect", "a.pt")), harm, tmp_path)
    assert reasons
    assert reasons[0].startswith(HARM[harm])


@pytest.mark.parametrize("command", [refuse, lambda: 0, lambda: 1], ids=["refusal", "good", "parity failed"])
def test_the_harness_sees_no_harm_in_good_conduct(command: Callable[[], int], tmp_path: Path) -> None:
    assert run(Case({"a.pt": b"x"}, ("inspect", "a.pt")), command, tmp_path)[1] == []
