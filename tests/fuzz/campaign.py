"""Many cases: make, run in a forked child, judge, count; failures are saved so that one command runs them again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from normexport.errors import ExitCode
from tests.fuzz import hostile, verdict
from tests.fuzz.cases import Case
from tests.fuzz.child import Command, Limits, Observation, observe
from tests.fuzz.formats import case

SECONDS = 60.0
BASE_MEMORY, TIMES_FILE = 1536 * 2**20, 4
RUN_MEMORY = 1024 * 2**20  # more, where a graph is run: its process may allocate 2 GiB
_SAVED_PER_CAUSE = 3


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    format: str
    number: int
    words: tuple[str, ...]
    steps: tuple[str, ...]
    exit_code: int | None
    reasons: tuple[str, ...]
    kind: str
    line: str
    seconds: float
    memory: int
    size: int

    @property
    def cause(self) -> str:
        """What failures are grouped by."""
        return f"{self.reasons[0]} | {self.kind}" if self.reasons else ""


def run_case(
    each: Case, command: Callable[[tuple[str, ...]], Command], work: Path, limits: Limits | None = None
) -> tuple[Observation, list[str]]:
    """Run one case in a fresh folder; what was seen, and the rules that were broken.

    By default it has 60 s, and 1.5 GB and four times the size of its files.
    """
    base = BASE_MEMORY + (RUN_MEMORY if each.words[0] in ("parity", "evaluate", "prove") else 0)
    limits = limits or Limits(SECONDS, base + TIMES_FILE * each.size)
    folder, streams = work / "files", work / "streams"
    for path in (folder, streams):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    write_files(each, folder)
    before = verdict.snapshot(folder)
    seen = observe(command(each.words), folder / "case", streams, limits)
    return seen, verdict.judge(seen, before, folder, limits.memory, as_json="--json" in each.words)


def write_files(each: Case, folder: Path) -> None:
    """The case's files in `folder`/case; a secret beside it, and a module that nobody may import."""
    (folder / "secret.bin").write_bytes(hostile.SECRET)
    (folder / "case").mkdir()
    (folder / "case" / f"{hostile.MODULE}.py").write_text(hostile.MODULE_SOURCE)
    for name, content in each.files.items():
        path = folder / "case" / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            os.mkfifo(path)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def run_cases(
    format: str, seed: int, numbers: Iterable[int], command: Callable[[tuple[str, ...]], Command], failures: Path
) -> Iterator[Outcome]:
    """Run those cases one after the other."""
    saved: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for number in numbers:
            each = case(format, seed, number)
            seen, reasons = run_case(each, command, Path(name))
            outcome = outcome_of(format, number, each, seen, reasons)
            if reasons:
                saved[outcome.cause] += 1
                if saved[outcome.cause] <= _SAVED_PER_CAUSE:
                    save(each, outcome, seen, failures / f"{format}-{seed}-{number}")
            yield outcome


def outcome_of(format: str, number: int, each: Case, seen: Observation, reasons: list[str]) -> Outcome:
    """What is kept of a case that was run."""
    line = verdict.refusal(seen)[:600]
    return Outcome(
        format, number, each.words, each.steps, seen.exit_code, tuple(reasons), verdict.message_kind(seen), line,
        round(seen.seconds, 3), seen.memory, each.size,
    )  # fmt: skip


def save(each: Case, outcome: Outcome, seen: Observation, folder: Path) -> None:
    """The files of a failing case, the command, and what was wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_files(each, folder)
    told = {**asdict(outcome), "stderr": seen.stderr.decode(errors="replace")[:20000], "events": seen.events}
    (folder / "outcome.json").write_text(json.dumps(told, indent=1) + "\n")


def saved_case(folder: Path) -> Case:
    """The case that `save` wrote."""
    told = json.loads((folder / "outcome.json").read_text())
    files: dict[str, bytes | str | None] = {}
    for path in sorted((folder / "case").rglob("*")):
        name = str(path.relative_to(folder / "case"))
        if path.is_symlink():
            files[name] = str(path.readlink())
        elif path.is_file() and name != f"{hostile.MODULE}.py":
            files[name] = path.read_bytes()
        elif path.is_fifo():
            files[name] = None
    return Case(files, tuple(told["words"]), tuple(told["steps"]))


def table(outcomes: list[Outcome]) -> str:
    """A row for each format: how many were accepted, refused by which exit code, and failed why."""
    ends = [code for code in ExitCode if code < ExitCode.BUG]
    heads = "".join(f"{code:8d}" for code in ends)
    rows = [f"format   cases  {heads}  failed  messages  s/case  most MB"]
    for format, each in grouped(outcomes, lambda outcome: outcome.format).items():
        codes = Counter(outcome.exit_code for outcome in each)
        failed = sum(bool(outcome.reasons) for outcome in each)
        kinds = len({outcome.kind for outcome in each if outcome.exit_code not in verdict.ACCEPTED})
        seconds = sum(outcome.seconds for outcome in each) / len(each)
        most = max(outcome.memory for outcome in each) / 2**20
        counts = "".join(f"{codes[code]:8d}" for code in ends)
        rows.append(f"{format:7s}{len(each):7d}{counts}{failed:8d}{kinds:10d}{seconds:8.2f}{most:9.0f}")
    return "\n".join(rows)


def causes(outcomes: list[Outcome]) -> str:
    """Failures grouped by cause, the most frequent first, each with the number of its first case."""
    groups = grouped(
        [outcome for outcome in outcomes if outcome.reasons], lambda outcome: f"{outcome.format} | {outcome.cause}"
    )
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    return "\n".join(f"{len(each):6d}  {cause}  [case {each[0].number}]" for cause, each in ranked)


def grouped(outcomes: list[Outcome], key: Callable[[Outcome], str]) -> dict[str, list[Outcome]]:
    """Outcomes by what `key` says of them, in the order met."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[key(outcome)].append(outcome)
    return dict(groups)
